"""The parts of a rate-distortion run: learning at shared values, feedback before it, post-training, norm statistics."""

from __future__ import annotations

from functools import partial

from omegaconf import DictConfig
from torch import nn

from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment.build import blaming
from pwfn.experiment.results import Measurement
from pwfn.post_training import PostTraining
from pwfn.rate_distortion.norm_statistics import reestimate
from pwfn.sensitivity import fisher_of_weights
from pwfn.straight_through import StraightThrough

__all__ = ["proposal_of", "refresh_norms", "straight_through_of"]


def straight_through_of(cfg: DictConfig, measurement: Measurement, steps: int) -> StraightThrough:
    """Build the callback of learning at shared values, over ``steps`` optimizer steps."""
    data, settings = measurement.data, cfg.fixing.get("straight_through")
    if settings is None or cfg.method.name != "rate_distortion":
        raise ValueError("fixing.learning=straight_through needs method=rate_distortion fixing=straight_through")
    images = partial(data.calibration, settings.fisher_images, batch_size=25)
    if not steps:
        raise ValueError("fixing leaves no epoch to learn in: without training it is fixing=post_training")
    with blaming(cfg, "fixing.straight_through"):
        return StraightThrough(
            cfg.method.bits,
            start=max(settings.start or (0.0 if settings.feedback_images else 5.0), cfg.method.bits),
            ramp=settings.ramp,
            freeze=settings.freeze,
            every=settings.every,
            max_unique=cfg.method.max_unique,
            max_order=cfg.method.max_order,
            min_exponent=cfg.method.min_exponent,
            floor=cfg.method.floor,
            sensitivity=partial(fisher_of_weights, images=images, seed=cfg.seed) if settings.fisher_images else None,
            power=settings.power,
            initial=_feedback(cfg, measurement, norms=True) if settings.feedback_images else None,
            feedback=_feedback(cfg, measurement, norms=False) if settings.feedback_last else None,
            steps=steps,
        )


def _feedback(cfg: DictConfig, measurement: Measurement, *, norms: bool) -> PostTraining:
    """What makes the first or the last assignment, with error feedback; after the last one the norm layers learn on."""
    method, count = cfg.method, cfg.fixing.straight_through.feedback_images
    if not count:
        raise ValueError("fixing.straight_through.feedback_last=true needs feedback_images above 0")
    return PostTraining(
        partial(measurement.data.calibration, count),
        measurement.scope,
        bits=method.bits,
        max_unique=method.max_unique,
        max_order=method.max_order,
        min_exponent=method.min_exponent,
        floor=method.floor,
        norms=norms,
        seed=cfg.seed,
    )


def proposal_of(cfg: DictConfig, measurement: Measurement) -> PostTraining | None:
    """What assigns all weights at once from images, without training; None for another ``fixing.learning``."""
    if cfg.fixing.learning != "post_training":
        return None
    settings, method = cfg.fixing.get("post_training"), cfg.method
    if settings is None or method.name != "rate_distortion":
        raise ValueError("fixing.learning=post_training needs method=rate_distortion fixing=post_training")
    return PostTraining(
        partial(measurement.data.calibration, settings.images, augmented=settings.augmented),
        measurement.scope,
        bits=method.bits,
        max_unique=method.max_unique,
        max_order=method.max_order,
        min_exponent=method.min_exponent,
        floor=method.floor,
        shift=settings.shift,
        sweeps=settings.sweeps,
        seed=cfg.seed,
    )


def refresh_norms(model: nn.Module, *, data: DataModule | StreamModule, count: int) -> None:
    """Estimate the statistics of norm layers again on augmented training images."""
    device = next(model.parameters()).device
    reestimate(model, (batch.to(device) for batch in data.calibration(count, batch_size=data.batch_size)))

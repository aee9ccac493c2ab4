"""The parts of a run that train in rounds and measure, each built from its groups of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from pwfn.apot_learning import ApotLearning
from pwfn.callback import WeightFixing
from pwfn.classifier import Classifier
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.distillation import Distillation
from pwfn.experiment.build import blaming, mixing, network_and_data
from pwfn.experiment.evaluation import Settings
from pwfn.experiment.results import Measurement
from pwfn.experiment.round_files import write_round
from pwfn.experiment.round_score import round_score
from pwfn.experiment.shared_learning import proposal_of, refresh_norms, straight_through_of
from pwfn.experiment.teacher import teacher_of
from pwfn.learning import GaussianLearning
from pwfn.post_training import PostTraining
from pwfn.released import ReleasedLearning
from pwfn.rounds import Rounds
from pwfn.rundir.naming import to_dict
from pwfn.scope import Scope, names_in_scope
from pwfn.sensitivity import FisherPrior
from pwfn.straight_through import StraightThrough

__all__ = [
    "batches_of",
    "classifier_of",
    "fixing_of",
    "learning_of",
    "measurement_of",
    "rounds_of",
]

Sigmas = Callable[[nn.Module], Mapping[str, Tensor]]


def measurement_of(cfg: DictConfig, folder: Path, *, weights: bool) -> Measurement:
    """Build the network, its data and how both are measured; with its starting weights if ``weights``."""
    model, architecture, data = network_and_data(cfg, weights=weights)
    with blaming(cfg, "scope"):
        scope = instantiate(cfg.scope)
        if not names_in_scope(model, scope):
            raise ValueError("no parameter of the network is in scope: choose another scope")
    with blaming(cfg, "evaluation"):
        asked = Settings(**to_dict(cfg.get("evaluation") or OmegaConf.create()))
    return Measurement(
        folder,
        model,
        architecture,
        data,
        scope=scope,
        sigmas=_sigmas(cfg, scope, data),
        settings=asked,
        exports=to_dict(cfg.get("export") or OmegaConf.create()),
    )


def batches_of(cfg: DictConfig, data: DataModule | StreamModule) -> int:
    """Training batches of an epoch on each rank, as far as the configuration tells the number of ranks."""
    devices = cfg.trainer.devices
    if not isinstance(devices, int):  # a list, "auto", "0,2"
        devices = torch.cuda.device_count() if devices == "auto" else len(str(devices).split(","))
    ranks = cfg.trainer.num_nodes * max(1, devices if devices > 0 else torch.cuda.device_count())
    return max(1, len(data.train_dataloader()) // ranks)


def rounds_of(cfg: DictConfig, batches: int) -> Rounds:
    """The timetable; every epoch of it keeps one of its ``batches`` at least."""
    with blaming(cfg, "fixing"):
        rounds: Rounds = instantiate(cfg.method.rounds)
    one_batch = min(1.0, 1.001 / max(1, batches))  # Lightning rounds a share of the batches down
    return replace(
        rounds,
        first_fraction=max(one_batch, rounds.first_fraction),
        rest_fraction=max(one_batch, rounds.rest_fraction),
    )


def fixing_of(
    cfg: DictConfig, folder: Path, measurement: Measurement, rounds: Rounds, learning: L.Callback
) -> WeightFixing:
    """Build the callback of the rounds around the configured method and sigma join.

    Raises:
        ValueError: if a setting of the method is out of range.
    """
    data, model = measurement.data, measurement.model
    sizes = {name: model.get_parameter(name).numel() for name in names_in_scope(model, measurement.scope)}
    with blaming(cfg, "fixing"):
        assign = instantiate(cfg.method.assign)
        if assign is None:
            raise ValueError(f"fixing.learning={cfg.fixing.learning} is no choice of method=rate_distortion")
        probe = torch.tensor([0.3, 0.3, 0.5, 0.5, 0.0, 0.0])
        for t in range(len(rounds)):  # settings out of range show on a small clustering, now and not hours later
            assign(probe, torch.full_like(probe, 0.01), replace(rounds[t], fraction=1.0))
    with blaming(cfg, "sigma_join"):
        join = instantiate(cfg.sigma_join)
        join(probe, torch.full_like(probe, 0.01), torch.zeros(len(probe), dtype=torch.int32))
    count = cfg.fixing.get("norm_images", 0)
    proposal = learning if isinstance(learning, ApotLearning) else proposal_of(cfg, measurement)
    return WeightFixing(
        rounds,
        assign=learning.assign if isinstance(learning, StraightThrough) else assign,
        join=join,
        recluster=cfg.fixing.get("recluster", "all"),
        per_tensor=cfg.method.get("per_tensor", False),
        propose=proposal,
        refresh=partial(refresh_norms, data=data, count=count)
        if count and not isinstance(proposal, PostTraining)
        else None,
        evaluate=partial(
            round_score,
            loader=data.val_dataloader,
            num_classes=data.num_classes,
            draws=measurement.settings.round_draws if measurement.sigmas is not None else 0,
            seed=measurement.settings.seed,
        ),
        listener=partial(write_round, folder, sizes),
    )


def learning_of(cfg: DictConfig, measurement: Measurement, rounds: Rounds, ends: list[int]) -> L.Callback:
    """The callback that says how the weights learn between rounds: the method's own, or ``fixing.learning``."""
    if cfg.method.get("learning"):
        if cfg.fixing.learning != "gaussian":
            raise ValueError(
                f"method={cfg.method.name} says itself how it learns: leave fixing={cfg.fixing.learning} out"
            )
        with blaming(cfg, "method"):
            own: L.Callback = instantiate(cfg.method.learning)
            return own
    if cfg.fixing.learning != "straight_through":
        with blaming(cfg, "regulariser"):
            kind = ReleasedLearning if cfg.fixing.get("released") else GaussianLearning
            return kind(
                rounds,
                regulariser=instantiate(cfg.regulariser.pull),
                weight=cfg.regulariser.weight,
                biases=cfg.regulariser.biases,
                schedule=cfg.fixing.schedule,
                first_schedule=cfg.fixing.first_schedule,
            )
    return straight_through_of(cfg, measurement, ends[-1])


def classifier_of(cfg: DictConfig, measurement: Measurement, fixing: WeightFixing, ends: list[int]) -> Classifier:
    """Build the network in training: loss, mixing, optimizer, schedule, teacher and the method's penalty."""
    data = measurement.data
    mixup, criterion = mixing(cfg, data.num_classes)
    with blaming(cfg, "method"):
        penalty = instantiate(cfg.method.penalty)
    with blaming(cfg, "optimizer"):
        optimizer = instantiate(cfg.optimizer)
        tried = optimizer([nn.Parameter(torch.zeros(1))])  # momentum, betas, ... out of range show here
    with blaming(cfg, "scheduler"):
        scheduler = instantiate(cfg.scheduler)
        scheduler(tried, ends)
    with blaming(cfg, "distillation"):
        teacher = teacher_of(cfg, measurement.model, data.num_classes)
        distillation = Distillation(
            weight=cfg.distillation.weight, temperature=cfg.distillation.temperature, teacher=teacher
        )
    return Classifier(
        measurement.model,
        optimizer,
        data.num_classes,
        criterion=criterion,
        mixup=mixup,
        penalty=None if penalty is None else penalty(fixing),
        distillation=distillation if distillation.weight else None,
        scheduler=lambda optimizer, _: scheduler(optimizer, ends),
    )


def _sigmas(cfg: DictConfig, scope: Scope, data: DataModule | StreamModule) -> Sigmas | None:
    """What gives the initial sigma of each parameter in scope of a plain network, by name."""
    if not cfg.method.gaussian:
        return None
    with blaming(cfg, "prior"):
        prior = instantiate(cfg.prior)
        if not isinstance(prior, FisherPrior):
            prior(torch.tensor([0.3, -0.01, 0.0]))  # a setting out of range shows on a small tensor
    if isinstance(prior, FisherPrior):
        images = partial(data.calibration, prior.images, batch_size=25)
        return lambda model: prior.sigmas(model, scope, images())
    return lambda model: {name: prior(model.get_parameter(name)) for name in names_in_scope(model, scope)}

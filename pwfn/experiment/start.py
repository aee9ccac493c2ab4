"""Where a run's first weights come from, built from the configuration: a plain baseline, and one with sigma."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from pwfn.classifier import Classifier
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment.baseline import Baseline
from pwfn.experiment.build import blaming
from pwfn.experiment.gaussian_baseline import train_gaussian_once
from pwfn.learning import GaussianLearning
from pwfn.released import ReleasedLearning
from pwfn.rundir.naming import content_hash, to_dict

__all__ = ["baseline_of", "gaussian_baseline_of"]


def baseline_of(cfg: DictConfig, arguments: Mapping[str, Any]) -> Baseline | None:
    """Say how the starting network is trained, and where it is kept for runs like this one; None if it has weights."""
    if cfg.model.checkpoint or cfg.model.pretrained:
        return None
    recipe = {
        "model": to_dict(cfg.model),
        "dataset": {k: v for k, v in to_dict(cfg.dataset).items() if k != "workers"},
        "baseline": {k: v for k, v in to_dict(cfg.baseline).items() if k not in ("folder", "gaussian_epochs")},
        "seed": cfg.seed,
        "precision": cfg.trainer.precision,
    }
    name = f"{cfg.model.name}-{cfg.dataset.name}-{content_hash(recipe)}".replace("/", "_")
    _require_writable(Path(cfg.baseline.folder))
    with blaming(cfg, "baseline.optimizer"):
        optimizer = instantiate(cfg.baseline.optimizer)
        tried = optimizer([nn.Parameter(torch.zeros(1))])
    with blaming(cfg, "baseline.scheduler"):
        scheduler = instantiate(cfg.baseline.scheduler)
        if scheduler is not None:
            scheduler(tried, 10)
    return Baseline(
        Path(cfg.baseline.folder) / name,
        epochs=cfg.baseline.epochs,
        optimizer=optimizer,
        scheduler=scheduler,
        seed=cfg.seed,
        trainer=arguments,
    )


def gaussian_baseline_of(
    cfg: DictConfig, classifier: Classifier, arguments: Mapping[str, Any]
) -> Callable[[nn.Module, DataModule | StreamModule], None] | None:
    """What trains mu and sigma together before round 0, once for all runs that share it; None without."""
    epochs = cfg.baseline.get("gaussian_epochs", 0)
    if not epochs:
        return None
    if not cfg.method.gaussian:
        raise ValueError(
            f"baseline.gaussian_epochs={epochs} needs a method with sigma, method={cfg.method.name} has none"
        )
    kept = ("seed", "model", "dataset", "baseline", "scope", "prior", "noise", "regulariser", "optimizer", "trainer")
    recipe = {**{key: value for key, value in to_dict(cfg).items() if key in kept}, "released": cfg.fixing.released}
    kind = ReleasedLearning if cfg.fixing.released else GaussianLearning
    settings = cfg.regulariser
    pull = instantiate(settings.pull)
    return partial(
        train_gaussian_once,
        folder=Path(cfg.baseline.folder) / f"{cfg.model.name}-gaussian-{content_hash(recipe)}".replace("/", "_"),
        epochs=epochs,
        optimizer=instantiate(cfg.optimizer),
        learning=partial(kind, regulariser=pull, weight=settings.weight, biases=settings.biases),
        seed=cfg.seed,
        trainer=dict(arguments),
        criterion=classifier.criterion,
        mixup=classifier.mixup,
    )


def _require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to.

    Raises:
        ValueError: naming the setting to change.
    """
    there = next(path for path in chain([folder.absolute()], folder.absolute().parents) if path.exists())
    writable = os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    if not there.is_dir() or not writable:
        raise ValueError(f"baseline.folder={folder}: {there} is {'read-only' if there.is_dir() else 'no folder'}")

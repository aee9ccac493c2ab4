"""Training of the starting network where it comes without weights, once for all runs that share it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from pwfn.classifier import Classifier
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment.checkpoints import AtomicCheckpoints, checkpointing, last_checkpoint
from pwfn.experiment.progress import progress
from pwfn.model.network import load_weights, read_weights, save_weights
from pwfn.rundir.files import atomic, file_digest

__all__ = ["Baseline", "one_cycle", "train_once", "whole"]

log = logging.getLogger(__name__)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int, *, max_lr: float) -> torch.optim.lr_scheduler.LRScheduler:
    """Schedule a warm-up to ``max_lr`` and cosine decay over ``steps``."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=steps)


@dataclass(frozen=True)
class Baseline:
    """Says how a starting network is trained.

    Attributes:
        folder: belongs to this network, data, seed and training alone.
        epochs: epochs of training.
        optimizer, scheduler: as of :class:`pwfn.classifier.Classifier`.
        seed: of the random numbers in training.
        trainer: arguments of ``lightning.Trainer``.
    """

    folder: Path
    epochs: int
    optimizer: Callable[..., torch.optim.Optimizer]
    scheduler: Callable[..., Any] | None
    seed: int
    trainer: Mapping[str, Any]


def train_once(model: nn.Module, data: DataModule | StreamModule, baseline: Baseline) -> None:
    """Give ``model`` the weights of a baseline, training them first if no run has yet.

    Safe when several processes start at once: one trains, the others wait for its weights. Training goes on
    from a checkpoint if it was interrupted. Weights that are no longer those that were written are made anew.

    Args:
        model: the network, fresh.
        data: its data.
        baseline: how it is trained, and where its weights are kept.
    """
    folder = baseline.folder
    weights, digest = folder / "baseline.safetensors", folder / "baseline.sha256"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if weights.exists() and not whole(weights, digest):
            log.warning("%s is damaged and is made anew", weights)
            weights.unlink()
            digest.unlink(missing_ok=True)
        if not weights.exists():
            print(f"training the baseline for {baseline.epochs} epochs: {weights}", flush=True)
            L.seed_everything(baseline.seed, verbose=False)
            classifier = Classifier(model, baseline.optimizer, data.num_classes, scheduler=baseline.scheduler)
            trainer = L.Trainer(
                **{**baseline.trainer, "devices": 1, "num_nodes": 1, "strategy": "auto"},
                max_epochs=baseline.epochs,
                logger=False,
                reload_dataloaders_every_n_epochs=1,
                callbacks=[*progress(baseline.trainer), *checkpointing(folder)],
                plugins=[LightningEnvironment(), AtomicCheckpoints()],
            )
            trainer.fit(classifier, data, ckpt_path=last_checkpoint(folder))
            save_weights(weights, model.state_dict())
            with atomic(digest) as temporary:
                temporary.write_text(file_digest(weights))
    load_weights(model, weights, advice=f"delete {folder}")


def whole(weights: Path, digest: Path) -> bool:
    """Whether weights are those that were written; where no digest was kept of them, whether they can be read."""
    if digest.exists():
        return digest.read_text().strip() == file_digest(weights)
    try:
        read_weights(weights)
    except ValueError:
        return False
    return True

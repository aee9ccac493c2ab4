"""The starting network, trained here when it comes without weights; once for all runs that share it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.plugins.environments import LightningEnvironment
from safetensors.torch import save_file
from torch import nn

from pwfn.classifier import Classifier
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment.checkpoints import AtomicCheckpoints, checkpointing, last_checkpoint
from pwfn.model.network import load_weights
from pwfn.rundir.files import atomic

__all__ = ["one_cycle", "train_once"]


def one_cycle(optimizer: torch.optim.Optimizer, steps: int, *, max_lr: float) -> torch.optim.lr_scheduler.LRScheduler:
    """Warm-up to ``max_lr`` and cosine decay over ``steps``."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=steps)


def train_once(
    model: nn.Module,
    data: DataModule | StreamModule,
    folder: Path,
    *,
    epochs: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    scheduler: Callable[..., Any] | None = None,
    seed: int,
    trainer: dict[str, Any],
) -> None:
    """Give ``model`` the weights in ``folder``, training them there first if nobody has.

    Safe when several processes start at once: one trains, the others wait for its weights. Training goes on
    from a checkpoint if it was interrupted.

    Args:
        model: the network, fresh.
        data: its data.
        folder: belongs to this network, data, seed and training alone.
        epochs: epochs of training.
        optimizer, scheduler: as of :class:`pwfn.classifier.Classifier`.
        seed: of the random numbers in training.
        trainer: arguments of ``lightning.Trainer``.
    """
    weights = folder / "baseline.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not weights.exists():
            print(f"training the baseline for {epochs} epochs: {weights}", flush=True)
            L.seed_everything(seed, verbose=False)
            classifier = Classifier(model, optimizer, data.num_classes, scheduler=scheduler)
            fit = L.Trainer(
                **{**trainer, "devices": 1, "num_nodes": 1, "strategy": "auto"},
                max_epochs=epochs,
                logger=False,
                reload_dataloaders_every_n_epochs=1,
                callbacks=checkpointing(folder),
                plugins=[LightningEnvironment(), AtomicCheckpoints()],
            )
            fit.fit(classifier, data, ckpt_path=last_checkpoint(folder))
            state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
            with atomic(weights) as temporary:
                save_file(state, temporary)
    load_weights(model, weights)

"""The starting network of the released code's runs: mu and sigma trained together before round 0, once for all runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.plugins.environments import LightningEnvironment
from safetensors.torch import load_file, save_file
from torch import nn

from pwfn.classifier import Classifier
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment.baseline import whole
from pwfn.experiment.checkpoints import AtomicCheckpoints, checkpointing, last_checkpoint
from pwfn.experiment.progress import progress
from pwfn.learning import GaussianLearning
from pwfn.rounds import Rounds
from pwfn.rundir.files import atomic, file_digest

__all__ = ["train_gaussian_once"]

log = logging.getLogger(__name__)


def train_gaussian_once(
    model: nn.Module,
    data: DataModule | StreamModule,
    folder: Path,
    *,
    epochs: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    learning: Callable[[Rounds], GaussianLearning],
    seed: int,
    trainer: dict[str, Any],
    **classifier: Any,
) -> None:
    """Give a converted network the mu and sigma in ``folder``, training them there first if nobody has.

    Safe when several processes start at once, and goes on from a checkpoint, as
    :func:`pwfn.experiment.baseline.train_once`. Nothing is fixed.

    Args:
        model: the network after :func:`pwfn.to_gaussian`, at its starting weights.
        data: its data.
        folder: belongs to this network, its starting weights, prior, data, seed and training alone.
        epochs: whole epochs of training.
        optimizer: as of the rounds.
        learning: the regulariser's callback for a timetable, as of the rounds, on the schedule ``joint``.
        seed: of the random numbers in training.
        trainer: arguments of ``lightning.Trainer``.
        classifier: other arguments of :class:`pwfn.classifier.Classifier`, such as ``criterion`` and ``mixup``.
    """
    weights, digest = folder / "gaussian.safetensors", folder / "gaussian.sha256"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if weights.exists() and not whole(weights, digest):
            log.warning("%s is damaged and is made anew", weights)
            weights.unlink()
            digest.unlink(missing_ok=True)
        if not weights.exists():
            print(f"training mu and sigma for {epochs} epochs: {weights}", flush=True)
            L.seed_everything(seed, verbose=False)
            joint = Rounds([1.0], first_epochs=epochs, first_fraction=1.0)
            fit = L.Trainer(
                **{**trainer, "devices": 1, "num_nodes": 1, "strategy": "auto"},
                max_epochs=epochs,
                limit_val_batches=0,
                logger=False,
                reload_dataloaders_every_n_epochs=1,
                callbacks=[learning(joint), *progress(trainer), *checkpointing(folder)],
                plugins=[LightningEnvironment(), AtomicCheckpoints()],
            )
            network = Classifier(model, optimizer, data.num_classes, **classifier)
            fit.fit(network, data, ckpt_path=last_checkpoint(folder))
            state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
            with atomic(weights) as temporary:
                save_file(state, temporary)
            with atomic(digest) as temporary:
                temporary.write_text(file_digest(weights))
    model.load_state_dict(load_file(weights))

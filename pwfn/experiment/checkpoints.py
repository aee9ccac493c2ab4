"""Checkpoints from which a killed run goes on to the weights that it would have had."""

from __future__ import annotations

import pickle  # for the error that torch's safe loader raises
import random
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pwfn.experiment.interruption import Interruption
from pwfn.rundir.files import atomic

__all__ = ["AtomicCheckpoints", "RandomState", "checkpointing", "last_checkpoint", "unaccounted_seconds"]


def checkpointing(folder: Path, minutes: float = 15) -> list[L.Callback]:
    """Build the callbacks that keep ``folder/checkpoints/last.ckpt``.

    It is written after every epoch, every ``minutes`` inside one, and before the process leaves at a cluster's signal.
    """
    place: dict[str, Any] = {
        "dirpath": folder / "checkpoints",
        "filename": "last",
        "enable_version_counter": False,
    }
    return [
        RandomState(),
        ModelCheckpoint(**place, every_n_epochs=1, save_on_train_epoch_end=True),
        ModelCheckpoint(**place, train_time_interval=timedelta(minutes=minutes)),
        Interruption(folder / "checkpoints" / "last.ckpt"),
    ]


def last_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint to resume from, if there is one."""
    path = folder / "checkpoints" / "last.ckpt"
    return path if path.exists() else None


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all; loads them without unpickling code, and only if nothing is damaged."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} does not match")
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it to train from the beginning again") from error


class RandomState(L.Callback):
    """Saves the random number generators of every rank, and restores them before training goes on."""

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        states: list[Any] = [_get()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, _get())
        checkpoint["random_states"] = states

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint["random_states"][trainer.global_rank]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._restored is not None:
            _set(self._restored)
            self._restored = None


def _get() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def unaccounted_seconds(folder: Path) -> float:
    """Seconds from the start of an attempt to its last checkpoint, where it was killed and could not write them."""
    summary, last = folder / "summary.json", last_checkpoint(folder)
    if last is None or not summary.exists():
        return 0.0
    return max(0.0, last.stat().st_mtime - summary.stat().st_mtime)

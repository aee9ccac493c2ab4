"""The arguments that all trainers of a run share, and the trainer that goes through the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger

from pwfn.experiment.checkpoints import AtomicCheckpoints, checkpointing
from pwfn.experiment.interruption import environments

__all__ = ["rounds_trainer", "trainer_arguments"]

OURS = ("compile", "channels_last")
"""Settings of the group ``trainer`` that are no arguments of ``lightning.Trainer``."""


def trainer_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Collect ``lightning.Trainer``'s arguments that every training of a run shares, from the group ``trainer``."""
    arguments = {name: value for name, value in settings.items() if name not in OURS}
    return {**arguments, "default_root_dir": None, "use_distributed_sampler": False, "num_sanity_val_steps": 0}


def rounds_trainer(
    folder: Path,
    arguments: Mapping[str, Any],
    logger: Logger,
    *,
    callbacks: Sequence[L.Callback],
    epochs: int,
    minutes: float,
) -> L.Trainer:
    """Build the trainer of the rounds: one resumable fit for all of them.

    Args:
        folder: the run directory, which gets the checkpoints.
        arguments: see :func:`trainer_arguments`.
        logger: where metrics go.
        callbacks: learning and fixing.
        epochs: epochs until the last round.
        minutes: between two checkpoints inside an epoch.
    """
    return L.Trainer(
        **arguments,
        max_epochs=epochs,
        limit_val_batches=0,  # the fixing callback measures, before and after each round
        reload_dataloaders_every_n_epochs=1,  # epochs differ in length
        callbacks=[*callbacks, *checkpointing(folder, minutes)],
        plugins=[AtomicCheckpoints(), *environments()],
        logger=logger,
    )

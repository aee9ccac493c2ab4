"""The arguments that all trainers of a run share, and the trainer that goes through the rounds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment

from pwfn.experiment.checkpoints import AtomicCheckpoints, checkpointing
from pwfn.experiment.interruption import environments
from pwfn.experiment.progress import progress

__all__ = ["rounds_trainer", "trainer_arguments", "try_trainer"]

OURS = ("compile", "channels_last")
"""Settings of the group ``trainer`` that are no arguments of ``lightning.Trainer``."""


def trainer_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Collect ``lightning.Trainer``'s arguments that every training of a run shares, from the group ``trainer``."""
    arguments = {name: value for name, value in settings.items() if name not in OURS}
    return {**arguments, "default_root_dir": None, "use_distributed_sampler": False, "num_sanity_val_steps": 0}


def try_trainer(arguments: Mapping[str, Any]) -> None:
    """Build a trainer and forget it, to see whether Lightning takes these arguments on this machine.

    Args:
        arguments: see :func:`trainer_arguments`.

    Raises:
        ValueError: if there is no GPU, or nothing starts the processes of other nodes.
        Exception: whatever Lightning raises.
    """
    accelerator, nodes = arguments["accelerator"], arguments["num_nodes"]
    if accelerator == "gpu" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise ValueError("trainer.accelerator=gpu, but torch finds no GPU here: take trainer.accelerator=cpu or auto")
    trainer = L.Trainer(**arguments, logger=False, enable_checkpointing=False, plugins=[*environments()])
    alone = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    if nodes > 1 and alone and "NODE_RANK" not in os.environ:
        raise ValueError(
            f"trainer.num_nodes={nodes} would wait for other nodes for ever: start it with hydra/launcher=slurm, srun "
            "or torchrun, or set trainer.num_nodes=1"
        )


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
        callbacks=[*callbacks, *progress(arguments), *checkpointing(folder, minutes)],
        plugins=[AtomicCheckpoints(), *environments()],
        logger=logger,
    )

"""Trainers and networks that do not fit the rounds, refused when training starts."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from pwfn.gaussian import gaussian_weights
from pwfn.rounds import Rounds

__all__ = ["require_batches", "require_fit"]


def require_fit(rounds: Rounds, trainer: L.Trainer, model: nn.Module) -> None:
    """Check that all rounds will take place, each after the training that the timetable says.

    Args:
        rounds: the timetable.
        trainer: as it starts to fit.
        model: the network, or a module that holds it.

    Raises:
        ValueError: if no weight is Gaussian, the trainer ends too early, or it would keep the length of its epochs.
    """
    if next(gaussian_weights(model), None) is None:
        raise ValueError("the network has no Gaussian weights: call pwfn.to_gaussian(model) before the optimizer")
    epochs = trainer.max_epochs
    if epochs is not None and 0 <= epochs < rounds.epochs:
        raise ValueError(f"max_epochs={epochs} ends before the last round: give the Trainer {rounds.epochs}")
    lengths = {rounds.batches(epoch) for epoch in range(rounds.epochs)}
    # Lightning sets it in a connector, where its annotations do not show it
    reloaded: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
    if len(lengths) > 1 and reloaded != 1:
        raise ValueError("epochs differ in length: give the Trainer reload_dataloaders_every_n_epochs=1")


def require_batches(trainer: L.Trainer, exception: BaseException) -> None:
    """Say in the words of the rounds what Lightning raised because an epoch keeps none of its batches.

    Args:
        trainer: whose training ended.
        exception: what it raised; any other is left as it is.

    Raises:
        ValueError: if the loader has too few batches for the share that is kept.
    """
    if isinstance(exception, MisconfigurationException) and "limit_train_batches" in str(exception):
        raise ValueError(
            f"{trainer.limit_train_batches:g} of the training batches is less than one of them: "
            "raise first_fraction, rest_fraction of the Rounds"
        ) from exception

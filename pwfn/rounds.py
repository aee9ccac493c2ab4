"""The timetable of a run, and what a method is told of one of its rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Round", "Rounds", "share"]

PAPER = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)


def share(fraction: float, total: int, whole: Callable[[Decimal], int] = math.ceil) -> int:
    """A fraction of ``total`` weights as a whole number, the fraction taken as the decimal number it prints as.

    >>> share(0.55, 100), math.ceil(0.55 * 100)
    (55, 56)
    """
    return whole(Decimal(str(float(fraction))) * total)


@dataclass(frozen=True)
class Round:
    """A round as a method is told of it.

    Attributes:
        fraction: share of the weights that are fixed afterwards, in [0, 1].
        index: from 0.
        count: how many rounds the timetable has.
        fixed_before: weights that earlier rounds fixed and that the method is not given; they count towards
            ``fraction`` of all.
    """

    fraction: float = 1.0
    index: int = 0
    count: int = 1
    fixed_before: int = 0


@dataclass(frozen=True)
class Rounds:
    """Fixing rounds on the axis of training epochs; the defaults are the paper's.

    Round 0 comes after ``first_epochs`` epochs, every later round after ``rest_epochs`` more. Nothing trains
    after the last round.

    >>> rounds = Rounds(fractions=(0.5, 1.0), first_epochs=1, rest_epochs=3)
    >>> rounds.epochs, rounds.due(1), rounds.due(4)
    (4, range(0, 1), range(1, 2))

    Attributes:
        fractions: share of the weights fixed after each round, ascending, the last one 1.
        first_epochs: epochs before round 0.
        first_fraction: share of its batches that each of these epochs keeps.
        rest_epochs: epochs between two rounds; 0 fixes all remaining rounds at once.
        rest_fraction: share of its batches that each of these epochs keeps.

    Raises:
        ValueError: naming the setting to change.
    """

    fractions: Sequence[float] = PAPER
    first_epochs: int = 1
    first_fraction: float = 0.05
    rest_epochs: int = 3
    rest_fraction: float = 1.0

    def __post_init__(self) -> None:
        if not _rises_to_one(self.fractions):
            raise ValueError(f"fractions must rise from above 0 to 1, got {list(self.fractions)}")
        for name in ("first_epochs", "rest_epochs"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number, 0 or more, got {value}")
        for name in ("first_fraction", "rest_fraction"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {value}")

    def __len__(self) -> int:
        return len(self.fractions)

    def __getitem__(self, index: int) -> Round:
        return Round(self.fractions[index], index, len(self))

    @property
    def epochs(self) -> int:
        """Epochs until the last round."""
        return self.first_epochs + self.rest_epochs * (len(self) - 1)

    def due(self, epochs: int) -> range:
        """The rounds that come after exactly ``epochs`` epochs of training."""
        return range(self._fixed_by(epochs - 1), self._fixed_by(epochs))

    def batches(self, epoch: int) -> float:
        """Share of its batches that epoch number ``epoch`` (from 0) keeps."""
        # a float whatever was typed: Lightning takes the whole number 1 for one batch
        return float(self.first_fraction if epoch < self.first_epochs else self.rest_fraction)

    def ends(self, batches: int, accumulate: int = 1) -> list[int]:
        """Optimizer steps until each round, of epochs that have ``batches`` before they are cut.

        >>> Rounds([0.5, 1.0], first_fraction=0.5, rest_epochs=2).ends(10)
        [5, 25]
        """
        steps, found = 0, []
        for epoch in range(self.epochs + 1):
            found += [steps] * len(self.due(epoch))
            if epoch < self.epochs:
                steps += math.ceil(max(1, int(batches * self.batches(epoch))) / accumulate)
        return found

    def coming(self, epoch: int) -> int:
        """The round that training in epoch number ``epoch`` (from 0) leads to."""
        return min(self._fixed_by(epoch), len(self) - 1)

    def progress(self, epoch: int, within: float) -> float:
        """How far training has come between two rounds, in [0, 1), ``within`` of epoch number ``epoch``."""
        if epoch < self.first_epochs:
            return (epoch + within) / self.first_epochs
        return ((epoch - self.first_epochs) % self.rest_epochs + within) / self.rest_epochs

    def _fixed_by(self, epochs: int) -> int:
        """Number of rounds done once ``epochs`` epochs are over."""
        if epochs < self.first_epochs:
            return 0
        if self.rest_epochs == 0:
            return len(self)
        return min(1 + (epochs - self.first_epochs) // self.rest_epochs, len(self))


def _rises_to_one(fractions: Sequence[float]) -> bool:
    if not all(isinstance(f, int | float) for f in fractions):
        return False
    steps = zip([0.0, *fractions], fractions, strict=False)
    return bool(fractions) and fractions[-1] == 1 and all(a < b for a, b in steps)

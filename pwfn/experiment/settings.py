"""Structured configs: types and limits of the settings whose keys are all known. Their defaults stand in ``conf/``.

Hydra refuses a value of another type, a word that is not in its list and a key that does not exist, while it
composes; limits are checked by :mod:`pwfn.experiment.validation` before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pwfn.experiment.allowed import (
    ANY_COUNT,
    COUNT,
    COUNT_OR_NULL,
    EPOCHS,
    NOT_NEGATIVE,
    POSITIVE,
    POWERS,
    SEED,
    SHARE,
    TEXT,
    YES_NO,
    list_of,
    number,
    or_null,
    whole,
)
from pwfn.experiment.structured import Word, built, setting, word

__all__ = ["CLOSED", "FIXING"]


class Schedule(Word):
    """What learns in which steps between two rounds."""

    joint = "joint"
    alternate = "alternate"
    halves = "halves"
    sigma_only = "sigma_only"


class Learning(Word):
    """How weights come to their shared values."""

    gaussian = "gaussian"
    straight_through = "straight_through"
    post_training = "post_training"


class Recluster(Word):
    """Which weights a round may fix."""

    all = "all"
    free = "free"


@dataclass
class Baseline:
    """Training of the starting network."""

    epochs: int = setting(*EPOCHS)
    gaussian_epochs: int = setting(*EPOCHS)
    folder: str = setting(*TEXT)
    optimizer: Any = built()
    scheduler: Any = built()


@dataclass
class Checkpoint:
    """When a run is written to disk inside an epoch."""

    minutes: float = setting(number(0, 525600, above=True), "a number above 0, at most 525600")


@dataclass
class Distillation:
    """Learning from another network's answers."""

    weight: float = setting(*SHARE)
    temperature: float = setting(*POSITIVE)
    teacher: dict[str, Any] = field(default_factory=dict)


@dataclass
class Evaluation:
    """What is measured of the finished network."""

    draws: list[int] = setting(list_of(whole(1, 10**4)), "a list of whole numbers from 1 to 10000")
    noise: list[float] = setting(list_of(number(0, 1e6)), "a list of numbers, 0 or more")
    noise_draws: int = setting(whole(1, 1000), "a whole number from 1 to 1000")
    round_draws: int = setting(whole(0, 1000), "a whole number from 0 to 1000")
    seed: int = setting(*SEED)


@dataclass
class Export:
    """Files beside model.pwfn."""

    onnx: bool = setting(*YES_NO)
    openvino: bool = setting(*YES_NO)
    coreml: bool = setting(*YES_NO)
    shift_list: bool = setting(*YES_NO)
    codes: bool = setting(*YES_NO)


@dataclass
class StraightThrough:
    """Of ``fixing.learning=straight_through``."""

    feedback_images: int = setting(*ANY_COUNT)
    feedback_last: bool = setting(*YES_NO)
    start: float | None = setting(or_null(number(0, 32, above=True)), "null or a number above 0, at most 32")
    ramp: float = setting(*SHARE)
    freeze: float = setting(*SHARE)
    every: int = setting(*COUNT)
    power: float = setting(number(0, 4), "a number from 0 to 4")
    fisher_images: int = setting(*ANY_COUNT)


@dataclass
class PostTraining:
    """Of ``fixing.learning=post_training``."""

    images: int = setting(*COUNT)
    augmented: bool = setting(*YES_NO)
    shift: bool = setting(*YES_NO)
    sweeps: int = setting(whole(0, 1000), "a whole number from 0 to 1000")


@dataclass
class Fixing:
    """The rounds, how far weights may move in them, and what happens between them."""

    rounds: Any = built()
    fractions: list[float] = setting(list_of(number(0, 1, above=True)), "a list of numbers that rise from above 0 to 1")
    first_epochs: int = setting(*EPOCHS)
    first_fraction: float = setting(number(0, 1, above=True), "a number above 0, at most 1")
    rest_epochs: int = setting(*EPOCHS)
    rest_fraction: float = setting(number(0, 1, above=True), "a number above 0, at most 1")
    learning: Learning = word(Learning)
    norm_images: int = setting(*ANY_COUNT)
    schedule: Schedule = word(Schedule)
    first_schedule: Schedule = word(Schedule)
    released: bool = setting(*YES_NO)
    recluster: Recluster = word(Recluster)
    delta_start: float = setting(number(1e-6, 1e6), "a number from 0.000001 to 1000000")
    delta_end: float = setting(number(1e-6, 1e6), "a number from 0.000001 to 1000000")
    min_exponent: int = setting(whole(-20, -1), "a whole number from -20 to -1 (-b)")
    growth: float = setting(number(1.01, 1e6), "a number from 1.01 to 1000000")  # closer to 1 the reach hardly grows
    max_order: int = setting(*POWERS)
    zero_fix: bool = setting(*YES_NO)
    max_unique: int | None = setting(*COUNT_OR_NULL)


@dataclass
class FixingStraightThrough(Fixing):
    """Of ``fixing=straight_through``."""

    straight_through: StraightThrough = built()


@dataclass
class FixingPostTraining(Fixing):
    """Of ``fixing=post_training``."""

    post_training: PostTraining = built()


@dataclass
class Regulariser:
    """The pull on sigma."""

    weight: float = setting(*NOT_NEGATIVE)
    biases: bool = setting(*YES_NO)
    pull: Any = built()


CLOSED: dict[str, type] = {
    "baseline": Baseline,
    "checkpoint": Checkpoint,
    "distillation": Distillation,
    "evaluation": Evaluation,
    "export": Export,
    "fixing": Fixing,
    "regulariser": Regulariser,
}
"""Groups whose keys are all known, the same whatever option is chosen."""

FIXING: dict[str, type[Fixing]] = {"straight_through": FixingStraightThrough, "post_training": FixingPostTraining}
"""Options of the group ``fixing`` with settings of their own."""

"""Structured configs of the methods: types and limits of their settings. Defaults stand in ``conf/method/``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pwfn.experiment.allowed import (
    ANY_COUNT,
    COUNT,
    EPOCHS,
    NOT_NEGATIVE,
    POSITIVE,
    POWERS,
    SHARE,
    TEXT,
    YES_NO,
    number,
    one_of,
    or_null,
    whole,
)
from pwfn.experiment.structured import Word, built, setting, word

__all__ = ["METHODS"]


class Distance(Word):
    """How WFN measures how far a weight moves."""

    relative = "relative"
    euclidean = "euclidean"


@dataclass
class Method:
    """What every method has."""

    name: str = setting(*TEXT)
    gaussian: bool = setting(*YES_NO)
    rounds: Any = built()
    penalty: Any = built()
    assign: Any = built()


@dataclass
class Apot(Method):
    """Of ``method=apot``."""

    bits: int = setting(*one_of(2, 3, 4, 5))
    edge_bits: int = setting(whole(2, 16), "a whole number from 2 to 16")
    epochs: int = setting(*EPOCHS)
    learning: Any = built()


@dataclass
class ApotRound(Method):
    """Of ``method=apot_round``."""

    order: int = setting(*POWERS)


@dataclass
class Kmeans(Method):
    """Of ``method=kmeans``."""

    clusters: int = setting(whole(1, 4096), "a whole number from 1 to 4096")
    per_tensor: bool = setting(*YES_NO)
    weighted: bool = setting(*YES_NO)


@dataclass
class RateDistortion(Method):
    """Of ``method=rate_distortion``."""

    bits: float = setting(number(0, 32, above=True), "a number above 0, at most 32")
    max_unique: int = setting(*COUNT)
    max_order: int = setting(*POWERS)
    min_exponent: int | None = setting(or_null(whole(-40, 40)), "null or a whole number from -40 to 40")
    floor: float = setting(number(0, 0.5), "a number from 0 to 0.5")
    distillation: float = setting(*SHARE)
    norm_images: int = setting(*ANY_COUNT)
    by_learning: Any = built()


@dataclass
class Wfn(Method):
    """Of ``method=wfn``."""

    delta: float = setting(number(1e-4, 1), "a number from 0.0001 to 1")  # below, the candidates are millions
    zero_distance: float = setting(*POSITIVE)
    distance: Distance = word(Distance)
    alpha: float = setting(*NOT_NEGATIVE)


METHODS: dict[str, type[Method]] = {
    "apot": Apot,
    "apot_round": ApotRound,
    "floating": Method,
    "kmeans": Kmeans,
    "pwfn": Method,
    "rate_distortion": RateDistortion,
    "wfn": Wfn,
}
"""The settings of each method."""

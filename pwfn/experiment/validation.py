"""Settings out of range, found before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["check"]

ABSENT = object()

Rule = tuple[str, Callable[[Any], bool], str]


def _number(low: float, high: float = float("inf"), *, above: bool = False) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (low < value if above else low <= value) and value <= high

    return holds


def _whole(low: int, high: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _or_null(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


SCHEDULES = ("joint", "alternate", "halves", "sigma_only")

RULES: list[Rule] = [
    ("seed", _whole(0), "a whole number, 0 or more"),
    ("fixing.schedule", SCHEDULES.__contains__, f"one of {', '.join(SCHEDULES)}"),
    ("fixing.first_schedule", SCHEDULES.__contains__, f"one of {', '.join(SCHEDULES)}"),
    ("fixing.released", (True, False).__contains__, "true or false"),
    ("fixing.recluster", ("all", "free").__contains__, "all or free"),
    ("fixing.delta_start", _number(0, above=True), "a number above 0"),
    ("fixing.delta_end", _number(0, above=True), "a number above 0"),
    ("fixing.min_exponent", _whole(-20, -1), "a whole number from -20 to -1 (-b)"),
    ("fixing.growth", _number(1, above=True), "a number above 1"),
    ("fixing.max_order", _whole(1, 6), "a whole number from 1 to 6"),
    ("fixing.max_unique", _or_null(_whole(1)), "null or a whole number above 0"),
    ("regulariser.weight", _number(0), "a number, 0 or more"),
    ("baseline.epochs", _whole(0), "a whole number, 0 or more"),
    ("baseline.gaussian_epochs", _whole(0), "a whole number, 0 or more"),
    ("checkpoint.minutes", _number(0, above=True), "a number above 0"),
    ("dataset.batch_size", _whole(1), "a whole number above 0"),
    ("dataset.workers", _whole(0), "a whole number, 0 or more"),
    ("dataset.val_fraction", _number(0, 0.9), "a number from 0 to 0.9"),
    ("dataset.limit", _or_null(_whole(1)), "null or a whole number above 0"),
    ("optimizer.lr", _number(0, above=True), "a number above 0"),
    ("method.delta", _number(0, above=True), "a number above 0"),
    ("method.zero_distance", _number(0, above=True), "a number above 0"),
    ("method.distance", ("relative", "euclidean").__contains__, "relative or euclidean"),
    ("method.alpha", _number(0), "a number, 0 or more"),
    ("method.order", _whole(1, 6), "a whole number from 1 to 6"),
    ("method.clusters", _whole(1), "a whole number above 0"),
    ("method.per_tensor", (True, False).__contains__, "true or false"),
]


def check(settings: Mapping[str, Any]) -> None:
    """Check every setting that has a rule and is part of this run.

    Args:
        settings: the resolved configuration, as nested dictionaries.

    Raises:
        ValueError: one sentence that names the setting, its value and what it must be.
    """
    for key, holds, wanted in RULES:
        value = _select(settings, key)
        if value is not ABSENT and not holds(value):
            raise ValueError(f"{key} must be {wanted}, got {value}")


def _select(settings: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(settings, Mapping) or name not in settings:
            return ABSENT
        settings = settings[name]
    return settings

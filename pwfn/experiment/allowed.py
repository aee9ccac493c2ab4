"""What a value may be: tests of one value, from which the table of settings is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pwfn.experiment.objective import FIGURES

__all__ = [
    "Test",
    "boolean",
    "devices",
    "figures",
    "list_of",
    "mapping",
    "number",
    "one_of",
    "or_null",
    "rising",
    "text",
    "whole",
]

Test = Callable[[Any], bool]
"""Whether a value may stand in a setting."""


def number(low: float, high: float, *, above: bool = False) -> Test:
    """The value is a number from low to high, low itself excluded with ``above``; true and false are none."""

    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (low < value if above else low <= value) and value <= high

    return holds


def whole(low: int, high: int) -> Test:
    """The value is a whole number from low to high."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def or_null(rule: Test) -> Test:
    """The value is null or passes the rule."""
    return lambda value: value is None or rule(value)


def list_of(rule: Test, length: int | None = None) -> Test:
    """The value is a list whose entries pass the rule, of this length if one is given."""
    return lambda value: isinstance(value, list) and all(map(rule, value)) and length in (None, len(value))


def mapping(value: Any) -> bool:
    """The value holds others by name."""
    return isinstance(value, Mapping)


def rising(low: float, high: float) -> Test:
    """The value is a list of two numbers above low and at most high, the smaller one first."""
    pair = list_of(number(low, high, above=True), 2)
    return lambda value: pair(value) and value[0] <= value[1]


def boolean(value: Any) -> bool:
    """The value is true or false, and not the words that YAML 1.1 takes for them: no, off, yes."""
    return isinstance(value, bool)


def text(value: Any) -> bool:
    """The value is a text that shows."""
    return isinstance(value, str) and bool(value.strip())


def devices(value: Any) -> bool:
    """The value is what Lightning takes as devices: a number, ``auto``, -1, or a list without repetition."""
    if isinstance(value, str):
        value = value if value == "auto" else [int(word) if word.isdecimal() else -1 for word in value.split(",")]
    if isinstance(value, list):
        return bool(value) and len(set(value)) == len(value) and all(map(whole(0, 1023), value))
    return value in ("auto", -1) or whole(1, 1024)(value)


def figures(value: Any) -> bool:
    """The value is a name of :data:`pwfn.experiment.objective.FIGURES`, or a list of them."""
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in FIGURES for name in names)


def one_of(*words: Any) -> tuple[Test, str]:
    """The test and its words for a closed list; ``true`` and ``false`` are not the numbers that equal them."""
    shown = ", ".join("null" if word is None else str(word).lower() for word in words)
    return lambda value: any(type(value) is type(word) and value == word for word in words), f"one of {shown}"

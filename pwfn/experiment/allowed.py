"""What a value may be: tests of one value, each with its JSON schema, from which the table of settings is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pwfn.experiment.objective import FIGURES

__all__ = [
    "Allowed",
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


@dataclass(frozen=True)
class Allowed:
    """Tells which values may stand in a setting.

    Attributes:
        holds: whether a value may.
        schema: the same as a JSON schema, for editors; it lets pass what a schema cannot say: NaN, and lists whose
            entries must fit each other.
    """

    holds: Callable[[Any], bool]
    schema: Mapping[str, Any]

    def __call__(self, value: Any) -> bool:
        return self.holds(value)


def number(low: float, high: float, *, above: bool = False) -> Allowed:
    """The value is a number from low to high, low itself excluded with ``above``; true and false are none."""

    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (low < value if above else low <= value) and value <= high

    return Allowed(holds, {"type": "number", "exclusiveMinimum" if above else "minimum": low, "maximum": high})


def whole(low: int, high: int) -> Allowed:
    """The value is a whole number from low to high."""
    return Allowed(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        {"type": "integer", "minimum": low, "maximum": high},
    )


def or_null(rule: Allowed) -> Allowed:
    """The value is null or passes the rule."""
    return Allowed(lambda value: value is None or rule(value), {"anyOf": [{"type": "null"}, rule.schema]})


def list_of(rule: Allowed, length: int | None = None) -> Allowed:
    """The value is a list whose entries pass the rule, of this length if one is given."""
    size = {} if length is None else {"minItems": length, "maxItems": length}
    return Allowed(
        lambda value: isinstance(value, list) and all(map(rule, value)) and length in (None, len(value)),
        {"type": "array", "items": rule.schema, **size},
    )


def rising(low: float, high: float) -> Allowed:
    """The value is a list of two numbers above low and at most high, the smaller one first."""
    pair = list_of(number(low, high, above=True), 2)
    return Allowed(lambda value: pair(value) and value[0] <= value[1], pair.schema)


def one_of(*words: Any) -> tuple[Allowed, str]:
    """The test and its words for a closed list; ``true`` and ``false`` are not the numbers that equal them."""
    shown = ", ".join("null" if word is None else str(word).lower() for word in words)
    allowed = Allowed(
        lambda value: any(type(value) is type(word) and value == word for word in words), {"enum": list(words)}
    )
    return allowed, f"one of {shown}"


def _devices(value: Any) -> bool:
    if isinstance(value, str):
        value = value if value == "auto" else [int(word) if word.isdecimal() else -1 for word in value.split(",")]
    if isinstance(value, list):
        return bool(value) and len(set(value)) == len(value) and all(map(_INDEX, value))
    return value in ("auto", -1) or _COUNT(value)


def _figures(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in FIGURES for name in names)


_INDEX, _COUNT = whole(0, 1023), whole(1, 1024)

mapping = Allowed(lambda value: isinstance(value, Mapping), {"type": "object"})
"""The value holds others by name."""

boolean = Allowed(lambda value: isinstance(value, bool), {"type": "boolean"})
"""The value is true or false, and not the words that YAML 1.1 takes for them: no, off, yes."""

text = Allowed(lambda value: isinstance(value, str) and bool(value.strip()), {"type": "string", "pattern": r"\S"})
"""The value is a text that shows."""

devices = Allowed(
    _devices,
    {
        "anyOf": [
            {"enum": ["auto", -1]},
            _COUNT.schema,
            {"type": "string", "pattern": r"^[0-9]{1,4}(,[0-9]{1,4})*$"},
            {"type": "array", "items": _INDEX.schema, "minItems": 1, "uniqueItems": True},
        ]
    },
)
"""The value is what Lightning takes as devices: a number, ``auto``, -1, or a list without repetition."""

_NAME = {"enum": sorted(FIGURES)}
figures = Allowed(_figures, {"anyOf": [_NAME, {"type": "array", "items": _NAME, "minItems": 1}]})
"""The value is a name of :data:`pwfn.experiment.objective.FIGURES`, or a list of them."""

YES_NO = boolean, "true or false"
TEXT = text, "a text"
TEXT_OR_NULL = or_null(text), "null or a text"
SHARE = number(0, 1), "a number from 0 to 1"
POSITIVE = number(0, 1e6, above=True), "a number above 0, at most 1000000"
NOT_NEGATIVE = number(0, 1e6), "a number from 0 to 1000000"
ANY_COUNT = whole(0, 10**9), "a whole number, 0 or more"
COUNT = whole(1, 10**9), "a whole number above 0"
COUNT_OR_NULL = or_null(COUNT[0]), "null or a whole number above 0"
EPOCHS = whole(0, 10**5), "a whole number from 0 to 100000"
SEED = whole(0, 2**32 - 1), "a whole number from 0 to 4294967295"
POWERS = whole(1, 6), "a whole number from 1 to 6"
"""Rules of many settings: what is allowed, and the words that say so after "must be"."""

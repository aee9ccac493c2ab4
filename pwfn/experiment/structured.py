"""What structured configs are made of: fields with a type for Hydra and a rule for the table of settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_type_hints

from omegaconf import MISSING

from pwfn.experiment.allowed import Allowed, one_of

__all__ = ["Word", "built", "rules", "setting", "word"]


def setting(allowed: Allowed, wanted: str) -> Any:
    """Return the field of a setting: which values are allowed, and the words after "must be"."""
    return field(default=MISSING, metadata={"rule": (allowed, wanted)})


def built() -> Any:
    """Return the field of what is built, and so tried, before anything is trained: no rule tells what it may be."""
    return field(default=MISSING)


def word(kind: type[Enum]) -> Any:
    """Return the field of a setting that is one of a list of words."""
    return setting(*one_of(*(member.value for member in kind)))


class Word(str, Enum):
    """A word of a closed list, equal to its text."""

    def __str__(self) -> str:
        return str(self.value)


def rules(node: type, prefix: str) -> Iterator[tuple[str, Allowed, str]]:
    """Yield dotted key, allowed values and their words for the settings of a structured config and of those in it."""
    kinds = get_type_hints(node)
    for item in fields(node):
        key = f"{prefix}.{item.name}"
        if "rule" in item.metadata:
            yield (key, *item.metadata["rule"])
        for kind in (kinds[item.name], *get_args(kinds[item.name])):
            if isinstance(kind, type) and is_dataclass(kind):
                yield from rules(kind, key)

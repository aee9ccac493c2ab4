"""Mandatory settings that have no value: ``???`` in a configuration file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["ask_for", "unset"]


def unset(settings: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys without a value.

    Args:
        settings: a configuration as nested dictionaries, its interpolations not resolved.
        prefix: the key of ``settings`` itself.
    """
    if isinstance(settings, Mapping):
        return [key for name, value in settings.items() for key in unset(value, f"{prefix}.{name}".lstrip("."))]
    return [prefix] if settings == "???" else []


def ask_for(keys: Iterable[str]) -> str:
    """Say in one sentence what is to be added to the command line."""
    names = list(keys)
    typed = " ".join(f"{key}={'DIR' if key.endswith('.root') else key.rpartition('.')[2].upper()}" for key in names)
    return f"{' and '.join(names)} must be set: add {typed}"

"""From Hydra's overrides to Optuna's search space and back; Hydra looks into no ``_`` module for plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import CompactHydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

__all__ = ["overrides_of", "search_space"]


def search_space(arguments: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """What a search varies, by key, and the overrides that all its runs share.

    ``a,b`` and ``choice(a,b)`` are choices; ``range(start,stop,step)`` whole numbers, ``stop`` left out;
    ``interval(a,b)`` all numbers between and ``int(interval(a,b))`` the whole ones; ``tag(log,...)`` their logarithms.

    Raises:
        CompactHydraException: if nothing is varied.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for argument, override in zip(arguments, OverridesParser.create().parse_overrides([*arguments]), strict=True):
        if override.is_sweep_override():
            space[override.get_key_element()] = _distribution(override)
        else:
            fixed.append(argument)
    if not space:
        raise CompactHydraException("a search varies something: add a setting such as fixing.delta_start=interval(1,4)")
    return space, fixed


def overrides_of(params: Mapping[str, Any]) -> list[str]:
    """The overrides of a trial's values."""
    return [f"{key}={value}" for key, value in params.items()]


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
        assert low is not None and high is not None
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(value, RangeSweep) and not value.shuffle:
        numbers: tuple[Any, ...] = (value.start, value.stop, value.step)
        whole = range(*map(int, numbers)) if all(isinstance(number, int) for number in numbers) else range(0)
        if len(whole) and whole.step > 0:
            return IntDistribution(whole[0], whole[-1], step=whole.step)
    return CategoricalDistribution([str(choice) for choice in override.sweep_string_iterator()])

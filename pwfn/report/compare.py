"""Comparison of many runs: the settings in which they differ, mean and spread over seeds."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pwfn.report.runs import MISSING, RunFolder, find

__all__ = ["FIGURES", "MISSING", "Group", "RunFolder", "find", "grouped", "repeated", "swept"]

FIXED_KEYS = ("dataset.name", "model.name", "method.name")
"""Columns of every table."""

IGNORED = re.compile(
    r"(logger|checkpoint|evaluation|export|hydra|experiment|sweeps)(\.|$)|(name|seed|sweep)$|baseline\.folder$"
    r"|dataset\.(workers|source\.root|root)$|trainer\.(enable_|log_every)"
)
"""Settings in which runs may differ without being different experiments."""

CHOICE = re.compile(r"(name|(.+\.)?_target_|path)$")
"""Inside a group of settings, the ones that say which option of the group was chosen."""

FIGURES: dict[str, tuple[str, float, str]] = {
    "baseline_acc1": ("baseline top-1 %", 1, ".2f"),
    "acc1": ("top-1 %", 1, ".2f"),
    "ensemble_acc1": ("ensemble top-1 %", 1, ".2f"),
    "unique": ("unique", 1, ",.0f"),
    "entropy": ("entropy, bits", 1, ".2f"),
    "entropy_nonzero": ("without zeros", 1, ".2f"),
    "sparsity": ("zeros %", 100, ".1f"),
    "ece": ("ECE %", 100, ".2f"),
    "sizes.entropy_coded": ("MB", 1e-6, ".3f"),
    "sizes.ratio_float32": ("times smaller", 1, ".1f"),
}
"""Columns of figures: key in ``summary.json``, then heading, factor and format."""


@dataclass(frozen=True)
class Group:
    """Holds finished runs that differ in nothing but their seed.

    Attributes:
        settings: the swept settings that they share, as text.
        runs: the runs.
    """

    settings: Mapping[str, str]
    runs: tuple[RunFolder, ...]

    def figure(self, name: str) -> tuple[float, float] | None:
        """Compute mean and sample standard deviation (0 for one run) over the runs that have the figure, else None."""
        values = [run.summary[name] for run in self.runs if isinstance(run.summary.get(name), int | float)]
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def repeated(runs: Sequence[RunFolder]) -> tuple[list[RunFolder], list[RunFolder]]:
    """Divide finished runs into distinct ones and repetitions of the same configuration and version.

    Of a repeated run the newest is kept: counting it twice would feign a small spread.
    """
    newest: dict[Any, RunFolder] = {}
    for run in sorted(runs, key=lambda run: (run.folder / "summary.json").stat().st_mtime):
        key = (run.summary.get("config_hash", str(run.folder)), run.summary.get("versions.pwfn"))
        newest[key] = run
    kept = set(map(id, newest.values()))
    return [run for run in runs if id(run) in kept], [run for run in runs if id(run) not in kept]


def swept(runs: Sequence[RunFolder]) -> list[str]:
    """Find the settings in which runs differ, apart from seed, paths and logging; dataset, model and method first.

    A setting that only follows from the choice of its group's option (all of ``model.*`` from ``model.name``,
    ``prior.sigma`` from ``prior._target_``) is left out. A run without a setting, of another version for
    instance, does not make it differ. Nor is a setting shown that repeats another one of the same name
    (``method.assign.growth`` is ``fixing.growth``).
    """
    derived = frozenset[str]().union(*(run.derived for run in runs))
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in derived and not IGNORED.match(key))
    differing = [key for key in keys if len({r.setting(key) for r in runs if key in r.settings}) > 1]
    differing = [key for key in differing if not _repeats(runs, key, differing)]
    chosen = [key for key in differing if CHOICE.fullmatch(key.partition(".")[2])]
    columns = list(FIXED_KEYS)
    for key in (*chosen, *(key for key in differing if key not in chosen)):
        group = key.partition(".")[0]
        above = [column for column in columns if column.partition(".")[0] == group and column in (*FIXED_KEYS, *chosen)]
        if key not in columns and not (above and _follows(runs, key, above)):
            columns.append(key)
    return columns


def grouped(runs: Sequence[RunFolder], keys: Sequence[str]) -> list[Group]:
    """Put runs with the same values of ``keys`` together, in order of these values."""
    groups: dict[tuple[str, ...], list[RunFolder]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting(key) for key in keys), []).append(run)
    order = sorted(groups, key=lambda values: [_natural(value) for value in values])
    return [Group(dict(zip(keys, values, strict=True)), tuple(groups[values])) for values in order]


def _repeats(runs: Sequence[RunFolder], key: str, keys: Sequence[str]) -> bool:
    """Tell whether a shorter key of the same last name has the same values wherever ``key`` is set."""
    name, depth = key.rpartition(".")[2], key.count(".")
    same = [other for other in keys if other.rpartition(".")[2] == name and other.count(".") < depth]
    return any(all(r.setting(key) == r.setting(other) for r in runs if key in r.settings) for other in same)


def _follows(runs: Sequence[RunFolder], key: str, above: Sequence[str]) -> bool:
    """Tell whether runs that agree on ``above`` agree on ``key``, too."""
    seen: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        if key in run.settings:
            seen.setdefault(tuple(run.setting(column) for column in above), set()).add(run.setting(key))
    return all(len(values) == 1 for values in seen.values())


def _natural(text: str) -> tuple[int, float, str]:
    try:
        number = float(text)
    except ValueError:
        return 1, 0.0, text
    return (0, number, "") if math.isfinite(number) else (1, 0.0, text)

"""Many runs in one table, from their directories alone: what was swept, mean and spread over seeds."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pwfn.rundir.naming import interpolated

__all__ = ["FIGURES", "MISSING", "Group", "Run", "find", "grouped", "repeated", "swept"]

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, where there is one, reads hundreds of configurations in a second."""

FIXED_KEYS = ("dataset.name", "model.name", "method.name")
"""Columns of every table."""

IGNORED = re.compile(
    r"(logger|checkpoint|evaluation|export|hydra|experiment|sweeps)(\.|$)|(name|seed|sweep)$|baseline\.folder$"
    r"|dataset\.(workers|source\.root|root)$|trainer\.(enable_|log_every)"
)
"""Settings in which runs may differ without being different experiments."""

CHOICE = re.compile(r"(name|(.+\.)?_target_|path)$")
"""Inside a group of settings, the ones that say which option of the group was chosen."""

MISSING = "–"
"""A setting that a run does not have."""

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
class Run:
    """One run directory.

    Attributes:
        folder: where it is.
        status: ``finished``, ``failed``, or ``unfinished`` (running, interrupted or never started).
        summary: ``summary.json``, as far as it got; nested keys joined by dots.
        settings: its configuration, nested keys joined by dots.
        derived: the settings that were written as interpolations, and so only follow from others.
        rounds: how many rounds ``rounds.csv`` holds.
    """

    folder: Path
    status: str
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]
    derived: frozenset[str]
    rounds: int

    def setting(self, key: str) -> str:
        """A setting as text, functions by their bare names; a dash where this run has no such setting."""
        return _text(key, self.settings.get(key, self.summary.get(key.removesuffix(".name"), MISSING)))

    @property
    def seed(self) -> Any:
        """Its seed."""
        return self.settings.get("seed", self.summary.get("seed"))


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in nothing but their seed.

    Attributes:
        settings: the swept settings that they share, as text.
        runs: the runs.
    """

    settings: Mapping[str, str]
    runs: tuple[Run, ...]

    def figure(self, name: str) -> tuple[float, float] | None:
        """Mean and sample standard deviation (0 for one run) over the runs that have the figure, else None."""
        values = [run.summary[name] for run in self.runs if isinstance(run.summary.get(name), int | float)]
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def find(folders: Iterable[Path]) -> list[Run]:
    """Every run at or below some folders, by path; a run is a folder with ``.hydra/`` or ``summary.json``.

    Raises:
        ValueError: if a folder does not exist.
    """
    places: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no folder {folder}")
        for pattern in ("**/.hydra/config.yaml", "**/summary.json"):
            for path in folder.glob(pattern):
                places.add((path.parent.parent if path.parent.name == ".hydra" else path.parent).resolve())
    return [_run(place) for place in sorted(places)]


def repeated(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Divide finished runs into distinct ones and repetitions of the same configuration and version.

    Of a repeated run the newest is kept: counting it twice would feign a small spread.
    """
    newest: dict[Any, Run] = {}
    for run in sorted(runs, key=lambda run: (run.folder / "summary.json").stat().st_mtime):
        key = (run.summary.get("config_hash", str(run.folder)), run.summary.get("versions.pwfn"))
        newest[key] = run
    kept = set(map(id, newest.values()))
    return [run for run in runs if id(run) in kept], [run for run in runs if id(run) not in kept]


def swept(runs: Sequence[Run]) -> list[str]:
    """The settings in which runs differ, apart from seed, paths and logging; dataset, model and method first.

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


def grouped(runs: Sequence[Run], keys: Sequence[str]) -> list[Group]:
    """Put runs with the same values of ``keys`` together, in order of these values."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting(key) for key in keys), []).append(run)
    order = sorted(groups, key=lambda values: [_natural(value) for value in values])
    return [Group(dict(zip(keys, values, strict=True)), tuple(groups[values])) for values in order]


def _repeats(runs: Sequence[Run], key: str, keys: Sequence[str]) -> bool:
    """Whether a shorter key of the same last name has the same values wherever ``key`` is set."""
    name, depth = key.rpartition(".")[2], key.count(".")
    same = [other for other in keys if other.rpartition(".")[2] == name and other.count(".") < depth]
    return any(all(r.setting(key) == r.setting(other) for r in runs if key in r.settings) for other in same)


def _follows(runs: Sequence[Run], key: str, above: Sequence[str]) -> bool:
    """Whether runs that agree on ``above`` agree on ``key``, too."""
    seen: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        if key in run.settings:
            seen.setdefault(tuple(run.setting(column) for column in above), set()).add(run.setting(key))
    return all(len(values) == 1 for values in seen.values())


def _run(folder: Path) -> Run:
    summary = _load(folder / "summary.json", json.loads)
    settings = _load(folder / ".hydra" / "config.yaml", partial(yaml.load, Loader=YAML))
    status = summary.get("status")
    rounds = folder / "rounds.csv"
    done = max(0, len(rounds.read_text().splitlines()) - 1) if rounds.exists() else 0
    if "error" in settings:  # no configuration, but a reason to show
        summary, settings = {**settings, **summary}, {}
    written = dict(_flat(settings))
    derived = frozenset(key for key, value in written.items() if isinstance(value, str) and "${" in value)
    return Run(
        folder,
        status if status in ("finished", "failed") else "unfinished",
        dict(_flat(summary)),
        {**written, **interpolated(settings, derived)},
        derived,
        done,
    )


def _load(path: Path, parse: Any) -> dict[str, Any]:
    """The content of a file; nothing where it is missing, or was left half written by another program."""
    if not path.exists():
        return {}
    try:
        content = parse(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        return {"error": f"{path.name} cannot be read: {error}"}
    return content if isinstance(content, dict) else {}


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(key: str, value: Any) -> str:
    if key.endswith(("_target_", ".path")) and isinstance(value, str):
        return value.rpartition(".")[2]
    return json.dumps(value) if isinstance(value, list | dict | bool) or value is None else str(value)


def _natural(text: str) -> tuple[int, float, str]:
    try:
        number = float(text)
    except ValueError:
        return 1, 0.0, text
    return (0, number, "") if math.isfinite(number) else (1, 0.0, text)

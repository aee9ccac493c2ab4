"""What an optimising sweeper sees of a finished run. It needs no torch, so that a launching process can ask."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pwfn.rundir.files import read_json

__all__ = ["FIGURES", "VALIDATION", "objective", "objective_of"]

VALIDATION = {"acc1": "acc1_after", "acc5": "acc5_after", "loss": "loss_after"}
"""Figures that a search must not see of the test images, and their columns in ``rounds.csv``."""

_QUALITY = ("acc1", "nll", "ece", "brier")
_SIZES = (
    *("float32", "float16", "fixed_width", "entropy_coded", "zstd", "codebook", "unquantised", "bound"),
    *("bound_layers", "layered", "unique", "unique_layers", "ratio_float32", "ratio_float16", "overhead"),
)

FIGURES = frozenset(
    (
        *(VALIDATION.keys() | {*_QUALITY, "unique", "unique_nonzero", "entropy", "entropy_nonzero"}),
        *("zeros", "sparsity", "seed", "params", "params_in_scope", "fixed_fraction", "wall_seconds"),
        *(f"baseline_{name}" for name in (*_QUALITY, "acc5", "unique", "entropy", "val_acc1")),
        *(f"{prefix}ensemble_{name}" for prefix in ("", "baseline_") for name in _QUALITY),
        "ensemble_draws",
        *(f"sizes.{name}" for name in _SIZES),
    )
)
"""What ``objective`` may name: the numbers in ``summary.json``; those of ensembles need a method with sigma."""


def objective(
    summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], names: str | Sequence[str]
) -> float | tuple[float, ...]:
    """The figures of a finished run by name: one number for one name, a tuple for a list of names.

    ``acc1``, ``acc5`` and ``loss`` are those of the last round on validation images; every other name is looked up
    in the summary, where a dot leads into a table, as in ``sizes.entropy_coded``.

    Args:
        summary: the content of ``summary.json``.
        rows: the rows of ``rounds.csv``.
        names: what ``objective`` is set to.

    Raises:
        ValueError: if there is no such figure.
    """
    if isinstance(names, str):
        return _figure(summary, rows, names)
    return tuple(_figure(summary, rows, name) for name in names)


def objective_of(folder: Path, names: str | Sequence[str]) -> float | tuple[float, ...]:
    """The objective of the finished run in a folder, from its files.

    Args:
        folder: the run directory.
        names: as of :func:`objective`.

    Raises:
        ValueError: if there is no such figure, or ``summary.json`` is damaged.
    """
    table = folder / "rounds.csv"
    rows = [*csv.DictReader(table.read_text().splitlines())] if table.exists() else []
    return objective(read_json(folder / "summary.json") or {}, rows, names)


def _figure(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], name: str) -> float:
    found: Any = summary
    if name in VALIDATION:
        found = rows[-1].get(VALIDATION[name]) if rows else None
    else:
        for key in name.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
    try:
        return float(found)
    except (TypeError, ValueError):
        raise ValueError(f"a run has no figure {name!r}: change objective to names of summary.json") from None

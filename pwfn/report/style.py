"""What the plots of a run share: the files they read, one style, and colours that mean the same in each."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pwfn.rundir.files import atomic, read_json

__all__ = [
    "BASELINE",
    "FINAL",
    "FIXED",
    "FREE",
    "LOWEST_OCTAVE",
    "ORDERS",
    "SIGMA_FLOOR",
    "STAGES",
    "STYLE",
    "Files",
    "Row",
    "column",
    "new_figure",
    "read",
    "read_csv",
    "round_axis",
    "save",
    "widen",
]

BASELINE, FINAL, FREE, FIXED = "#7f7f7f", "#d55e00", "#009e73", "#0072b2"
"""The colours of the baseline, of the fixed network, of free and of fixed weights."""

ORDERS = ("#000000", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#cc79a7")
"""By order; the last colour is for all above."""

STAGES = (("baseline", BASELINE, "baseline", "o"), ("final", FINAL, "fixed", "s"))
"""The two networks of ``evaluation.json``: key, colour, label, marker."""

STYLE: Any = {  # matplotlib types its keys, and not the same in all versions
    "font.size": 10,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
"""matplotlib's settings for every plot."""

LOWEST_OCTAVE = -30
"""The octave of ``movement.csv`` in which sigma lies at its minimum, ``2**-30``."""

SIGMA_FLOOR = 2.0**-20
"""What clustering raises sigma to (:data:`pwfn.kernels.intervals.SIGMA_FLOOR`)."""

Row = dict[str, float]
"""A line of a CSV file, by column."""


@dataclass(frozen=True)
class Files:
    """Holds what the plots of a run are drawn from; empty where the run did not get so far."""

    summary: dict[str, Any]
    evaluation: dict[str, Any]
    rounds: list[Row]
    movement: list[Row]
    codebook: list[Row]
    layers: list[dict[str, Any]]


def read(folder: Path) -> Files:
    """Read the files of a run directory that plots are drawn from."""
    return Files(
        read_json(folder / "summary.json") or {},
        read_json(folder / "evaluation.json") or {},
        *(read_csv(folder / f"{name}.csv") for name in ("rounds", "movement", "codebook", "layers")),
    )


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in one step."""
    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def new_figure(panels: int = 1, *, width: float = 0.0, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """Make a figure of some panels side by side; ``width`` 0 chooses one that suits their number."""
    figure = Figure(figsize=(width or (6.5 if panels == 1 else 10), height))
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def round_axis(axes: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    """Label the horizontal axis with the rounds of ``rows`` and the share of the weights fixed after each."""
    labels = [f"{row['round']:.0f}\n{100 * row['fraction']:g}%" for row in rows]
    axes.set_xticks(column(rows, "round"), labels, fontsize=8)
    axes.set_xlabel("round, and share of the weights fixed")


def widen(axes: Axes, span: float = 2.0) -> None:
    """Show at least ``span`` on the vertical axis, so that a difference of a single image looks small."""
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, high - span), high)  # downwards: accuracies end at 100%


def column(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The values of one column, NaN where a row lacks it."""
    return [row.get(name, math.nan) for row in rows]


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a CSV file, numbers as such, NaN where nothing stands; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return text

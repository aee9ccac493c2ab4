"""The runs of a figure: grouped over seeds, named by the settings in which they differ."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from pwfn.report import compare, tables
from pwfn.report.style import Files, read

__all__ = ["Lacking", "Plot", "Rows", "Shown", "band", "finish", "first", "make_room", "number", "show"]

PLAIN = ("method.name", "model.name", "dataset.name")
"""Settings whose values say themselves what they are."""

FEW = 4
"""So many differing settings are all named in a label."""

MARGIN = 0.6
"""Inches of a figure above and below a legend, for its title."""


class Lacking(Exception):
    """What the runs lack for a figure."""


@dataclass(frozen=True)
class Shown:
    """Finished runs that differ in nothing but their seed, and their files.

    Attributes:
        group: the runs.
        files: of each of them.
        named: the settings in which the runs of the figure differ, with what they are here; of many such settings
            only those that are otherwise than in most runs.
    """

    group: compare.Group
    files: tuple[Files, ...]
    named: Mapping[str, str]

    @property
    def label(self) -> str:
        """What tells the runs from the others of the figure."""
        return self.without()

    @property
    def run(self) -> compare.RunFolder:
        """The first of the runs."""
        return self.group.runs[0]

    @property
    def method(self) -> str:
        """The method's name."""
        return self.run.setting("method.name")

    def setting(self, key: str) -> str:
        """A setting as text, as :meth:`pwfn.report.compare.RunFolder.setting` gives it."""
        return self.run.setting(key)

    def without(self, *starts: str) -> str:
        """The label, without the settings that begin in one of these ways."""
        words = [
            value if key in PLAIN else f"{tables.heading(key).rpartition('.')[2]}={value}"
            for key, value in self.named.items()
            if not key.startswith(starts)
        ]
        return " ".join(words) or self.method


Rows = list[dict[str, Any]]
"""What a figure shows, for its CSV."""

Plot = Callable[[Sequence[Shown]], tuple[Figure, Rows]]
"""Draws a figure from runs, and gives the rows that it shows."""


def show(runs: Sequence[compare.RunFolder]) -> list[Shown]:
    """Group finished runs over their seeds and read their files."""
    keys = compare.swept(runs)
    groups = compare.grouped(runs, keys)
    differing, _ = tables.constant(groups, keys)
    usual: dict[str, str] = {}
    if len(differing) > FEW:  # several sweeps: each group changes one or two
        usual = {key: Counter(group.settings[key] for group in groups).most_common(1)[0][0] for key in differing}
        usual.pop("method.name", None)
    return [
        Shown(
            group,
            tuple(read(run.folder) for run in group.runs),
            {k: v for k in differing if (v := group.settings[k]) not in (compare.MISSING, "null", usual.get(k))},
        )
        for group in groups
    ]


def first(found: Sequence[Shown], otherwise: str) -> Shown:
    """The first of some groups.

    Raises:
        Lacking: ``otherwise``, if there is none.
    """
    if not found:
        raise Lacking(otherwise)
    return found[0]


def band(axes: Axes, x: Sequence[float], columns: Sequence[Sequence[float]], **style: Any) -> None:
    """Draw the mean over seeds as a line, and the range between the seeds around it."""
    table = np.array(columns)
    (line,) = axes.plot(x, table.mean(0), **{"marker": "o", "ms": 4, **style})
    if len(table) > 1:
        axes.fill_between(x, table.min(0), table.max(0), color=line.get_color(), alpha=0.2, lw=0)


def number(text: str) -> float:
    """A setting as a number, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def finish(axes: Axes, x: str, y: str, *, named: bool = True) -> None:
    """Name the axes, with a legend beside them."""
    axes.set_xlabel(textwrap.fill(x, 60))
    axes.set_ylabel(y)
    if named and axes.get_legend_handles_labels()[0]:
        legend = axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        for text in legend.get_texts():
            text.set_text(textwrap.fill(text.get_text(), 40))  # a long label would leave no room for the axes
        place = axes.get_subplotspec()
        make_room(legend, of=place.get_gridspec().nrows if place else 1)


def make_room(legend: Legend, *, of: int = 1) -> None:
    """Raise a figure of ``of`` rows of axes until the legend fits beside one; else the layout would give up."""
    figure = legend.figure
    assert isinstance(figure, Figure)
    inches = legend.get_window_extent().height / figure.dpi + MARGIN
    figure.set_figheight(max(figure.get_figheight(), of * inches))

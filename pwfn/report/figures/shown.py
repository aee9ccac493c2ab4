"""The runs of a figure: grouped over seeds, named by the settings in which they differ."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pwfn.report import compare, tables
from pwfn.report.style import Files, read

__all__ = ["Lacking", "Plot", "Rows", "Shown", "band", "finish", "first", "number", "show"]

PLAIN = ("method.name", "model.name", "dataset.name")
"""Settings whose values say themselves what they are."""


class Lacking(Exception):
    """What the runs lack for a figure."""


@dataclass(frozen=True)
class Shown:
    """Finished runs that differ in nothing but their seed, and their files.

    Attributes:
        group: the runs.
        files: of each of them.
        differing: the settings in which the runs of the figure differ.
        label: the values of these.
    """

    group: compare.Group
    files: tuple[Files, ...]
    differing: tuple[str, ...]
    label: str

    @property
    def run(self) -> compare.Run:
        """The first of the runs."""
        return self.group.runs[0]

    @property
    def method(self) -> str:
        """The method's name."""
        return self.run.setting("method.name")

    def setting(self, key: str) -> str:
        """A setting as text, as :meth:`pwfn.report.compare.Run.setting` gives it."""
        return self.run.setting(key)

    def without(self, *keys: str) -> str:
        """The values of the differing settings apart from some."""
        return _label(self.group, [key for key in self.differing if key not in keys])


Rows = list[dict[str, Any]]
Plot = Callable[[Sequence[Shown]], tuple[Figure, Rows]]
"""Draws a figure from runs, and gives the rows that it shows."""


def show(runs: Sequence[compare.Run]) -> list[Shown]:
    """Group finished runs over their seeds and read their files."""
    keys = compare.swept(runs)
    groups = compare.grouped(runs, keys)
    differing, _ = tables.constant(groups, keys)
    labels = [_label(group, differing) for group in groups]
    if len(differing) > 4:  # as many sweeps as settings: each group changes one or two
        short = tables.brief(groups, differing, ["method.name"])
        labels = [f"{group.settings['method.name']} {group.settings[tables.SETTINGS]}" for group in short]
    return [
        Shown(group, tuple(read(run.folder) for run in group.runs), tuple(differing), label)
        for group, label in zip(groups, labels, strict=True)
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
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if named and axes.get_legend_handles_labels()[0]:
        legend = axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        for text in legend.get_texts():
            text.set_text(textwrap.fill(text.get_text(), 40))  # a long label would leave no room for the axes


def _label(group: compare.Group, keys: Collection[str]) -> str:
    named = [key for key in keys if group.settings[key] not in (compare.MISSING, "null")]
    words = [
        group.settings[key] if key in PLAIN else f"{tables.heading(key).rpartition('.')[2]}={group.settings[key]}"
        for key in named
    ]
    return " ".join(words) or group.settings["method.name"]

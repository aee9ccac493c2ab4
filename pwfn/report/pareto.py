"""Plots of accuracy against cost: entropy, measured megabytes, unique values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pwfn.report.compare import Group
from pwfn.report.published import IMAGENET, Published
from pwfn.report.style import STYLE

__all__ = ["front", "pareto"]

COSTS = (
    ("entropy", 1.0, "entropy (bits a weight)"),
    ("sizes.entropy_coded", 1e-6, "model.pwfn (MB)"),
    ("unique", 1.0, "unique values"),
)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX*<>"
SPAN = 10.0
"""Points of accuracy below the lowest baseline that are shown to scale."""


def pareto(groups: Sequence[Group], dataset: str) -> Figure:
    """Plot top-1 accuracy against each cost, for the groups of one dataset.

    A colour is a method, a marker a network. Bars are the spread over seeds, a line joins the groups that no
    other one beats in both directions, a dashed line is the baseline, a dotted one the same training without sharing
    (``method=floating``). Published points are overlaid for
    ImageNet: hollow where they were read in the paper, filled and faint where they are remembered; whether WFN's
    leave zeros out is not settled, ours count them. What is
    more than :data:`SPAN` points below every baseline stands on the lower edge, its accuracy beside it.

    Args:
        groups: with ``dataset.name``, ``model.name`` and ``method.name`` among their settings.
        dataset: the dataset.
    """
    shown = [group for group in groups if group.settings["dataset.name"] == dataset and group.figure("acc1")]
    published = IMAGENET if dataset == "imagenet" else ()
    models = list(dict.fromkeys([*(_model(g.settings["model.name"]) for g in shown), *(p.model for p in published)]))
    methods = list(dict.fromkeys([*(g.settings["method.name"] for g in shown), *(p.method for p in published)]))
    marker = {model: MARKERS[i % len(MARKERS)] for i, model in enumerate(models)}
    colour = {method: COLOURS[i % len(COLOURS)] for i, method in enumerate(methods)}
    started = [before[0] for g in shown if (before := g.figure("baseline_acc1"))]
    floor = min([*started, *(point.acc1 for point in published)], default=0.0) - SPAN
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.6))
        panels = figure.subplots(1, len(COSTS), sharey=True)
        for axes, (cost, factor, label) in zip(panels, COSTS, strict=True):
            for model in models:
                ours = [g for g in shown if _model(g.settings["model.name"]) == model and g.figure(cost)]
                _points(axes, ours, cost, factor, marker[model], colour, floor)
            for point in published:
                _published(axes, point, cost, marker[point.model], colour[point.method])
            axes.set_xlabel(label)
            _spread(axes)
        panels[0].set_ylabel("test top-1 (%)")
        panels[0].set_ylim(bottom=max(panels[0].get_ylim()[0], floor - 0.3))
        figure.legend(handles=_legend(colour, marker, published), loc="outside right center", fontsize=8)
        zeros = " (published: with or without zeros is not settled)" if published else ""
        figure.suptitle(f"Accuracy against cost · {dataset}{zeros}", fontsize=11)
    return figure


def _spread(axes: Axes) -> None:
    """Make the cost's axis logarithmic where costs span a factor of 20."""
    low, high = axes.dataLim.intervalx
    if 0 < 20 * low < high:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(colour: Mapping[str, str], marker: Mapping[str, str], published: Sequence[Published]) -> list[Line2D]:
    handles = [Line2D([], [], color=shade, lw=4, label=method) for method, shade in colour.items()]
    handles += [Line2D([], [], color="black", ls="", marker=shape, label=model) for model, shape in marker.items()]
    handles.append(Line2D([], [], color="black", ls="--", lw=1, label="baseline"))
    if published:
        handles += [_sample("none", 1.0, "published, read"), _sample("#cccccc", 0.5, "published, remembered")]
    return handles


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points ``(cost, accuracy)`` that no other beats in both (less cost, more accuracy), by rising cost."""
    kept: list[tuple[float, float]] = []
    for point in sorted(set(points), key=lambda p: (p[0], -p[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def _points(
    axes: Axes, groups: Sequence[Group], cost: str, factor: float, marker: str, colour: dict[str, str], floor: float
) -> None:
    """Plot one network's groups, their front and their baseline."""
    found = []
    for group in groups:
        x, y = group.figure(cost), group.figure("acc1")
        if x is None or y is None:
            continue
        shade = colour[group.settings["method.name"]]
        if group.settings["method.name"] == "floating":  # nothing is shared
            axes.axhline(y[0], ls=":", lw=1, color=shade)
            continue
        found.append((factor * x[0], y[0]))
        if y[0] < floor:
            axes.plot(factor * x[0], floor, marker=marker, ms=7, mec=shade, mfc="none", clip_on=False)
            axes.annotate(
                f"{y[0]:.0f} %", (factor * x[0], floor), xytext=(6, 3), textcoords="offset points", fontsize=7
            )
            continue
        axes.errorbar(
            factor * x[0], y[0], y[1], factor * x[1], marker=marker, ms=7, color=shade, capsize=2, elinewidth=1
        )
        before = group.figure("baseline_acc1")
        if before is not None:
            axes.axhline(before[0], ls="--", lw=0.7, color="black", alpha=0.5)
    line = front(found)
    axes.plot([x for x, _ in line], [y for _, y in line], color="black", lw=1, alpha=0.4, zorder=0)


def _published(axes: Axes, point: Published, cost: str, marker: str, colour: str) -> None:
    x = {"entropy": point.entropy, "unique": point.unique}.get(cost)
    if x is not None:
        read = point.source == "read"
        axes.plot(
            x,
            point.acc1,
            marker=marker,
            ms=7,
            ls="",
            mec=colour,
            mfc="none" if read else "#cccccc",
            alpha=1.0 if read else 0.5,
        )


def _sample(face: str, alpha: float, label: str) -> Line2D:
    return Line2D([], [], color="black", ls="", marker="o", mfc=face, alpha=alpha, label=label)


def _model(name: str) -> str:
    """Return timm's name without the tag of its weights; published networks have no tags."""
    return name.partition(".")[0]

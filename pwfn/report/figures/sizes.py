"""Figures of accuracy against cost over networks and methods: measured bytes, and the main table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pwfn.report.compare import Group
from pwfn.report.figures.settings import figures_of
from pwfn.report.figures.shown import Lacking, Rows, Shown, finish
from pwfn.report.pareto import front
from pwfn.report.published import IMAGENET

__all__ = ["accuracy_size", "main_table"]

TABLE = {
    "model": "network",
    "dataset": "images",
    "setting": "setting",
    "baseline_acc1": "before, %",
    "acc1": "top-1, %",
    "ensemble_acc1": "ensemble, %",
    "unique": "unique, 0 counted",
    "entropy": "bits, zeros counted",
    "source": "source",
}


def accuracy_size(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw top-1 accuracy against the bytes of ``model.pwfn``, a panel for each set of images."""
    found = [s for s in shown if s.group.figure("acc1") and s.group.figure("sizes.entropy_coded")]
    if not found:
        raise Lacking("no run has a measured model.pwfn in summary.json")
    datasets = list(dict.fromkeys(s.setting("dataset.name") for s in found))
    figure = Figure(figsize=(2 + 6 * len(datasets), 4.5))
    panels: Any = figure.subplots(1, len(datasets), squeeze=False)[0]
    rows: Rows = []
    for axes, dataset in zip(panels, datasets, strict=True):
        here = [s for s in found if s.setting("dataset.name") == dataset]
        for s in here:
            (size, _), (acc1, spread) = _both(s.group, "sizes.entropy_coded", "acc1")
            axes.errorbar(size / 1e6, acc1, spread, fmt="o", ms=5, capsize=2, label=s.label)
            rows.append({"dataset": dataset, "setting": s.label, "megabytes": size / 1e6, "acc1": acc1})
        baselines = [_both(s.group, "sizes.float32", "baseline_acc1") for s in here]
        for (size, _), (acc1, _) in sorted(set(baselines)):
            axes.plot(size / 1e6, acc1, "*", color="black", mfc="none", ms=9)
            rows.append({"dataset": dataset, "setting": "baseline, float32", "megabytes": size / 1e6, "acc1": acc1})
        line = front([(row["megabytes"], row["acc1"]) for row in rows if row["dataset"] == dataset])
        axes.plot(*zip(*line, strict=True), color="black", lw=1, alpha=0.4, zorder=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(dataset, fontsize=9)
        finish(axes, "MB, model.pwfn (star: baseline in float32)", "test top-1 (%)")
    return figure, rows


def main_table(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the table of networks: accuracy before and after, ensemble, unique values, bits.

    Where there are ImageNet runs, the published figures stand below, with where each was taken from.
    """
    found = [s for s in shown if s.group.figure("acc1") and s.group.figure("unique")]
    if not found:
        raise Lacking("no run has acc1 and unique in summary.json")
    rows: Rows = [
        {
            "model": s.setting("model.name"),
            "dataset": s.setting("dataset.name"),
            "setting": s.without("model.", "dataset.name"),
            **figures_of(s),
            "source": "measured",
        }
        for s in found
    ]
    if any(row["dataset"] == "imagenet" for row in rows):
        rows += [
            {
                "model": point.model,
                "dataset": "imagenet",
                "setting": f"{point.method} {point.setting}".strip(),
                "baseline_acc1": point.baseline,
                "acc1": point.acc1,
                "unique": point.unique,
                "ensemble_acc1": point.ensemble,
                "entropy": point.entropy,
                "source": f"published, {point.source}; zeros not settled",
            }
            for point in IMAGENET
        ]
    cells = [[_cell(row, name) for name in TABLE] for row in rows]
    lines = [1, *(1 + max(text.count("\n") for text in row) for row in cells)]
    figure = Figure(figsize=(17, 1 + 0.2 * (sum(lines) + len(lines))))
    axes = figure.subplots()
    axes.axis("off")
    table = axes.table(cells, colLabels=list(TABLE.values()), loc="center", cellLoc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(range(len(TABLE)))
    for (row, _), cell in table.get_celld().items():
        cell.set_height((lines[row] + 1) / (sum(lines) + len(lines)))
    return figure, rows


def _both(group: Group, x: str, y: str) -> tuple[tuple[float, float], tuple[float, float]]:
    return group.figure(x) or (float("nan"), 0.0), group.figure(y) or (float("nan"), 0.0)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, float | int):
        return textwrap.fill(str(value or "–"), 70)
    text = f"{value:.0f}" if name == "unique" else f"{value:.2f}"
    spread = row.get(f"{name}_std")
    return text if spread is None else f"{text} ± {spread:.2f}"

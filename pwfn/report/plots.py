"""Plots of one run, from the files of its directory alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pwfn.report.evaluation_plots import ensemble, noise, reliability
from pwfn.report.round_plots import accuracy, movement, sharing, sigma
from pwfn.report.style import BASELINE, FINAL, ORDERS, STYLE, Files, column, new_figure, read, save

__all__ = ["PLOTS", "codebook", "draw", "ensemble", "layers", "noise", "reliability"]


def draw(folder: Path, summary: Mapping[str, Any] | None = None) -> dict[str, Path]:
    """Draw every plot that the files of a run allow into ``folder/plots``, as ``name.png``.

    Args:
        folder: a run directory, finished or not.
        summary: figures that ``summary.json`` does not hold yet.

    Returns:
        The paths by name, see :data:`PLOTS`.
    """
    files = read(folder)
    files = replace(files, summary={**files.summary, **(summary or {})})
    drawn = {}
    for name, plot in PLOTS.items():
        with mpl.rc_context(STYLE):
            figure = plot(files)
            if figure is None:
                continue
            what = "{model} · {dataset} · {method}".format_map(
                {"model": "", "dataset": "", "method": "", **files.summary}
            )
            figure.suptitle(f"{TITLES[name]}\n{what}", fontsize=11)
            drawn[name] = folder / "plots" / f"{name}.png"
            save(figure, drawn[name])
    return drawn


def codebook(files: Files) -> Figure | None:
    """Plot how many weights have each shared value, coloured by its order."""
    if not files.codebook:
        return None
    figure, (axes,) = new_figure(width=9)
    largest = max(abs(row["value"]) for row in files.codebook)
    smallest = min((abs(row["value"]) for row in files.codebook if row["value"]), default=1.0)
    axes.set_xscale("symlog", base=2, linthresh=smallest, linscale=0.7)
    total = sum(row["count"] for row in files.codebook)
    for order in range(len(ORDERS)):
        rows = [row for row in files.codebook if _clip(row["order"]) == order]
        if not rows:
            continue
        share = sum(row["count"] for row in rows) / total
        label = f"order {order}{'+' if order == len(ORDERS) - 1 else ''}: {len(rows)} values, {share:.1%} of weights"
        counts = column(rows, "count")
        axes.vlines(column(rows, "value"), 0.5, counts, color=ORDERS[order], lw=1.5)
        axes.plot(column(rows, "value"), counts, "o", ms=3.5, color=ORDERS[order], label=label)
    axes.set_yscale("log")
    axes.set_ylim(0.7, 3 * max(row["count"] for row in files.codebook))
    low, high = math.floor(math.log2(smallest)), math.ceil(math.log2(largest)) if largest else 0
    powers = [2.0**k for k in range(low, high + 1, math.ceil((high - low) / 5) or 1)]
    ticks = [-p for p in reversed(powers)] + [0.0] + powers
    axes.set_xticks(ticks, [_power(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_xlabel("shared value (signed powers of two; linear around 0)")
    axes.set_ylabel("weights")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def layers(files: Files) -> Figure | None:
    """Plot entropy and unique values of every tensor in scope, after and before."""
    rows = files.layers
    if not rows:
        return None
    figure, panels = new_figure(2, height=max(3.5, 1.5 + 0.17 * min(len(rows), 60)), width=10)
    places = list(range(len(rows)))
    for axes, name, label in zip(
        panels, ("entropy", "unique"), ("entropy (bits a weight)", "unique values"), strict=True
    ):
        axes.barh(places, column(rows, f"baseline_{name}"), height=0.8, color=BASELINE, alpha=0.4, label="baseline")
        axes.barh(places, column(rows, name), height=0.5, color=FINAL, label="fixed")
        axes.set_xlabel(label)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
    panels[1].set_xscale("log")
    panels[1].set_yticks([])
    every = math.ceil(len(rows) / 60)
    panels[0].set_yticks(places[::every], [f"{row['layer']}" for row in rows[::every]], fontsize=7)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


Plot = Callable[[Files], Figure | None]

PLOTS: dict[str, Plot] = {
    plot.__name__: plot for plot in (accuracy, sharing, codebook, layers, sigma, movement, reliability, noise, ensemble)
}
"""Every plot by name; each gives None where the run has no data for it."""

TITLES = {
    "accuracy": "Accuracy by round",
    "sharing": "Unique values and entropy by round",
    "codebook": "The codebook, by order of its values",
    "layers": "Sharing by layer",
    "sigma": "Sigma by round",
    "movement": "Movement of weights against their sigma",
    "reliability": "Reliability",
    "noise": "Noise on the weights",
    "ensemble": "Ensembles of weight draws",
}


def _clip(order: float) -> int:
    return min(int(order), len(ORDERS) - 1)


def _power(value: float) -> str:
    if value == 0:
        return "0"
    return f"${'-' if value < 0 else ''}2^{{{round(math.log2(abs(value)))}}}$"

"""Plots of one run, from the files of its directory alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pwfn.report.round_plots import accuracy, movement, sharing, sigma
from pwfn.report.style import BASELINE, FINAL, ORDERS, STAGES, STYLE, Files, column, new_figure, read, save, widen

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
    """How many weights have each shared value, coloured by its order."""
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
    """Entropy and unique values of every tensor in scope, after and before."""
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


def reliability(files: Files) -> Figure | None:
    """Accuracy of the predictions made with each confidence, and how many there are."""
    if not files.evaluation:
        return None
    figure = Figure(figsize=(6, 6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], "--", color="black", lw=1, label="calibrated")
    for stage, colour, label, marker in STAGES:
        bins = files.evaluation[stage]["reliability"]
        filled = [row for row in bins if row["count"]]
        ece = files.evaluation[stage]["ece"]
        x, y = column(filled, "confidence"), column(filled, "accuracy")
        top.plot(x, y, "-", color=colour, lw=1, alpha=0.4)
        areas = [12 + 40 * math.log10(row["count"]) for row in filled]  # a bin of one image says little
        top.scatter(x, y, areas, marker=marker, color=colour, label=f"{label}: ECE {ece:.4f}")
        edges = [i / len(bins) for i in range(len(bins) + 1)]
        bottom.stairs(
            column(bins, "count"),
            edges,
            color=colour,
            fill=stage == "baseline",
            alpha=0.6 if stage == "baseline" else 1,
            lw=1.5,
        )
    top.set_ylabel("accuracy")
    top.legend(loc="lower right")
    bottom.set_yscale("symlog", linthresh=1)
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("test images")
    bottom.set_xlabel("confidence (softmax of the prediction)")
    return figure


def noise(files: Files) -> Figure | None:
    """Accuracy with Gaussian noise on the weights."""
    if not files.evaluation or not files.evaluation["final"]["noise"]:
        return None
    figure, (axes,) = new_figure()
    for stage, colour, label, marker in STAGES:
        curve = [
            {"scale": 0.0, "acc1": files.evaluation[stage]["acc1"], "acc1_std": 0.0},
            *files.evaluation[stage]["noise"],
        ]
        axes.errorbar(
            column(curve, "scale"),
            column(curve, "acc1"),
            column(curve, "acc1_std"),
            marker=marker,
            capsize=3,
            color=colour,
            label=label,
        )
    axes.set_xlabel("standard deviation of the noise (in rms of the weight's tensor)")
    axes.set_ylabel("test top-1 (%), mean and spread of draws")
    axes.legend()
    return figure


def ensemble(files: Files) -> Figure | None:
    """Accuracy and loss of ensembles of weight draws."""
    if not files.evaluation or not files.evaluation["final"]["ensemble"]:
        return None
    figure, panels = new_figure(2)
    for axes, name, text in zip(panels, ("acc1", "nll"), ("test top-1 (%)", "test loss (nats)"), strict=True):
        for stage, colour, label, marker in STAGES:
            entries = files.evaluation[stage]["ensemble"]
            axes.plot(column(entries, "draws"), column(entries, name), marker + "-", color=colour, label=label)
            axes.axhline(files.evaluation[stage][name], color=colour, ls=":", label=f"{label}, weights at mu")
        axes.set_xlabel("draws in the ensemble")
        axes.set_ylabel(text)
        axes.set_xticks(column(entries, "draws"))
    widen(panels[0])
    panels[0].legend(fontsize=8)
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

"""Plots of the evaluation of a run's networks: calibration, weight noise, ensembles."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from pwfn.report.style import STAGES, Files, column, new_figure, widen

__all__ = ["ensemble", "noise", "reliability"]


def reliability(files: Files) -> Figure | None:
    """Plot the accuracy of the predictions made with each confidence, and how many there are."""
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
    """Plot accuracy with Gaussian noise on the weights."""
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
    """Plot accuracy and loss of ensembles of weight draws."""
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

"""Figures of the fixed weights: the values used most, and the entropy of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from pwfn.report.figures.shown import Lacking, Rows, Shown, band, finish, first
from pwfn.report.style import FINAL, column, new_figure

__all__ = ["MOST_USED", "entropy", "most_used"]

MOST_USED = 15
"""How many values the plot of the most used ones shows."""


def most_used(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the values with most weights: over the network, and in its first, middle and last weight tensor."""
    kept = [s for s in shown if s.files[0].codebook and (s.run.folder / "model.safetensors").exists()]
    one = first(kept, "no run has codebook.csv and model.safetensors")
    state, layers = load_file(one.run.folder / "model.safetensors"), one.files[0].layers
    names = [name for row in layers if state[name := row["layer"]].ndim > 1]
    every = np.concatenate([state[row["layer"]].ravel() for row in layers])
    places = {
        "all layers": every,
        **{
            f"{k}: {n}": state[n]
            for k, n in zip(("first", "middle", "last"), (names[0], names[len(names) // 2], names[-1]), strict=True)
        },
    }
    figure, panels = new_figure(len(places), width=14)
    rows: Rows = []
    for axes, (place, weights) in zip(panels, places.items(), strict=True):
        values, counts = np.unique(weights, return_counts=True)
        top = np.argsort(-counts, kind="stable")[:MOST_USED]
        shares = counts[top] / weights.size
        axes.barh(range(len(top)), shares, color=FINAL)
        axes.set_yticks(range(len(top)), [f"{value:g}" for value in values[top]])
        axes.invert_yaxis()
        axes.set_title(place, fontsize=8)
        axes.set_xlabel("share of the weights")
        rows += [
            {"layer": place, "value": float(v), "share": float(s)} for v, s in zip(values[top], shares, strict=True)
        ]
    return figure, rows


def entropy(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the entropy of each layer, in bits a weight."""
    found = [s for s in shown if s.files[0].layers]
    if not found:
        raise Lacking("no run has layers.csv")
    figure, (axes,) = new_figure(width=10)
    rows: Rows = []
    for s in found:
        columns = [column(f.layers, "entropy") for f in s.files if len(f.layers) == len(s.files[0].layers)]
        band(axes, range(len(columns[0])), columns, ms=3, label=s.label)
        rows += [
            {"setting": s.label, "seed": run.seed, "layer": row["layer"], "entropy": row["entropy"]}
            for run, files in zip(s.group.runs, s.files, strict=True)
            for row in files.layers
        ]
    finish(axes, "weight tensor in scope, in the network's order", "entropy (bits a weight, zeros counted)")
    return figure, rows

"""Plots of the figures of the papers of WFN and PWFN, over one or several finished runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from pwfn.report import compare
from pwfn.report.style import BASELINE, FINAL, ORDERS, Files, column, new_figure

__all__ = ["MOST_USED", "Lacking", "Plot", "Shown", "by_round", "entropy", "most_used", "noise", "orders", "prior"]
__all__ += ["Rows", "regulariser"]

MOST_USED = 15
"""How many values the plot of the most used ones shows."""
ROUND = "round, from 0"


class Lacking(Exception):
    """What the runs lack for a figure."""


@dataclass(frozen=True)
class Shown:
    """A finished run, its files, and the settings that tell it from the others."""

    run: compare.Run
    files: Files
    label: str


Rows = list[dict[str, Any]]
Plot = Callable[[Sequence[Shown]], tuple[Figure, Rows]]
"""Draws a figure from runs, and gives the rows that it shows."""


def by_round(quantity: str, label: str, method: str | None = None) -> Plot:
    """A figure of one column of ``rounds.csv``, a line for each run."""

    def plot(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
        found = [s for s in shown if method in (None, s.run.setting("method.name"))]
        found = [s for s in found if len(s.files.rounds) > 1 and quantity in s.files.rounds[0]]
        if not found:
            raise Lacking(f"no {method or ''} run has several rounds with {quantity} in rounds.csv".replace("  ", " "))
        figure, (axes,) = new_figure()
        for s in found:
            axes.plot(column(s.files.rounds, "round"), column(s.files.rounds, quantity), "o-", ms=4, label=s.label)
        _finish(axes, ROUND, label)
        return figure, [
            {"run": s.label, "round": row["round"], quantity: row[quantity]} for s in found for row in s.files.rounds
        ]

    return plot


def orders(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Share of the fixed weights of each order, stacked."""
    one = _first([s for s in shown if len(s.files.rounds) > 1], "no run has several rounds in rounds.csv")
    rows = one.files.rounds
    names = sorted({name for row in rows for name in row if name.startswith("order_") and name[6:].isdigit()})
    shares = np.nan_to_num(np.array([[row.get(name, 0.0) for row in rows] for name in names]))
    figure, (axes,) = new_figure()
    colours = [ORDERS[min(int(name[6:]), len(ORDERS) - 1)] for name in names]
    axes.stackplot(column(rows, "round"), shares, colors=colours, labels=[name.replace("_", " ") for name in names])
    _finish(axes, f"{ROUND} ({one.label})", "share of the fixed weights")
    return figure, [
        {"round": row["round"], **dict(zip(names, share, strict=True))}
        for row, share in zip(rows, shares.T.tolist(), strict=True)
    ]


def most_used(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """The values with most weights: over the network, and in its first, middle and last weight tensor."""
    kept = [s for s in shown if s.files.codebook and (s.run.folder / "model.safetensors").exists()]
    one = _first(kept, "no run has codebook.csv and model.safetensors")
    state = load_file(one.run.folder / "model.safetensors")
    names = [name for row in one.files.layers if state[name := row["layer"]].ndim > 1]
    every = np.concatenate([state[row["layer"]].ravel() for row in one.files.layers])
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


def prior(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Sigma that the prior gives, against the weight, in one tensor: the largest."""
    kept = [s for s in shown if s.run.setting("prior._target_") == "pow2" and s.run.setting("method.name") == "pwfn"]
    kept = [s for s in kept if s.files.layers and (s.run.folder / "baseline.safetensors").exists()]
    one = _first(kept, "no pwfn run with prior=pow2 has layers.csv and baseline.safetensors")
    name = max(one.files.layers, key=lambda row: row["weights"])["layer"]
    weights = np.abs(load_file(one.run.folder / "baseline.safetensors")[name].ravel().astype(np.float64))
    scale, largest = (float(one.run.settings.get(f"prior.{k}", v)) for k, v in (("scale", 0.0025), ("largest", 0.05)))
    quantile = np.quantile(_ratio(weights), 0.75)
    mu = np.linspace(0, weights.max(), 2000)[1:]
    sigma = np.clip(scale * _ratio(mu) / quantile, 2.0**-30, largest)
    figure, (axes,) = new_figure()
    axes.plot(mu, sigma, color=FINAL)
    _finish(axes, f"|mu|, {name}", "initial sigma", legend=False)
    return figure, [{"mu": m, "sigma": s} for m, s in zip(mu.tolist(), sigma.tolist(), strict=True)]


def _ratio(size: np.ndarray) -> np.ndarray:
    """The prior's ``|(mu - up) / mu| |(mu - down) / mu|``, up and down the powers of two around ``|mu|``."""
    ratio = 2 * np.frexp(size)[0]  # |mu| / down, in [1, 2)
    return np.where(ratio == 0, 0.0, (2 - ratio) * (ratio - 1) / np.where(ratio == 0, 1.0, ratio) ** 2)


def regulariser(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Mean sigma by round, with the regulariser and without."""
    weights = {
        s.run.setting("regulariser.pull._target_") == "none" for s in shown if "regulariser.weight" in s.run.settings
    }
    if len(weights) < 2:
        raise Lacking("no runs with a regulariser and with regulariser=none side by side")
    return by_round("sigma_mean", "mean sigma", "pwfn")(shown)


def entropy(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the entropy of each layer, in bits a weight."""
    found = [s for s in shown if s.files.layers]
    if not found:
        raise Lacking("no run has layers.csv")
    figure, (axes,) = new_figure(width=9)
    for s in found:
        axes.plot(column(s.files.layers, "entropy"), "o-", ms=3, label=s.label)
    _finish(axes, "weight tensor in scope, in the network's order", "entropy (bits a weight, zeros counted)")
    return figure, [
        {"run": s.label, "layer": r["layer"], "entropy": r["entropy"]} for s in found for r in s.files.layers
    ]


def noise(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw top-1 accuracy against the scale of noise on the weights."""
    found = [s for s in shown if s.files.evaluation.get("final", {}).get("noise")]
    if not found:
        raise Lacking("no run has a noise curve in evaluation.json")
    figure, (axes,) = new_figure()
    rows: Rows = []
    for stage, kept in (("baseline", found[:1]), ("final", found)):
        for s in kept:
            points = s.files.evaluation[stage]["noise"]
            label, style = (
                (s.label, dict[str, Any]()) if stage == "final" else ("baseline", {"color": BASELINE, "ls": "--"})
            )
            axes.errorbar(
                column(points, "scale"),
                column(points, "acc1"),
                column(points, "acc1_std"),
                marker="o",
                ms=4,
                capsize=2,
                label=label,
                **style,
            )
            rows += [{"run": label, **point} for point in points]
    _finish(axes, "noise on the weights, in rms of their tensor", "test top-1 (%)")
    return figure, rows


def _first(found: Sequence[Shown], otherwise: str) -> Shown:
    if not found:
        raise Lacking(otherwise)
    return found[0]


def _finish(axes: Axes, x: str, y: str, *, legend: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))

"""Figures over the rounds of fixing: how much is fixed, how many values, of which orders, with which sigma."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pwfn.report.figures.shown import Lacking, Plot, Rows, Shown, band, finish, first
from pwfn.report.style import ORDERS, column, new_figure

__all__ = ["ROUND", "by_round", "orders", "regulariser"]

ROUND = "round, from 0"
"""The horizontal axis."""


def by_round(quantity: str, label: str, method: str | None = None) -> Plot:
    """Make a figure of one column of ``rounds.csv``, a line for each setting."""

    def plot(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
        found = [s for s in shown if method in (None, s.method)]
        found = [s for s in found if all(len(f.rounds) > 1 and quantity in f.rounds[0] for f in s.files)]
        if not found:
            raise Lacking(f"no {method or ''} run has several rounds with {quantity} in rounds.csv".replace("  ", " "))
        figure, (axes,) = new_figure()
        rows: Rows = []
        for s in found:
            rounds = column(s.files[0].rounds, "round")
            band(axes, rounds, [column(f.rounds, quantity) for f in s.files], label=s.label)
            rows += [
                {"setting": s.label, "seed": run.seed, "round": row["round"], quantity: row[quantity]}
                for run, files in zip(s.group.runs, s.files, strict=True)
                for row in files.rounds
            ]
        finish(axes, ROUND, label)
        return figure, rows

    return plot


def orders(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the share of the fixed weights of each order, stacked; of WFN where there is a run of it."""
    found = [s for s in shown if len(s.files[0].rounds) > 1 and "order_0" in s.files[0].rounds[0]]
    one = first([*(s for s in found if s.method == "wfn"), *found], "no run has several rounds with order_0")
    rows = one.files[0].rounds
    names = sorted({name for row in rows for name in row if name.startswith("order_") and name[6:].isdigit()})
    shares = np.nan_to_num(np.array([[row.get(name, 0.0) for row in rows] for name in names]))
    figure, (axes,) = new_figure()
    colours = [ORDERS[min(int(name[6:]), len(ORDERS) - 1)] for name in names]
    axes.stackplot(column(rows, "round"), shares, colors=colours, labels=[name.replace("_", " ") for name in names])
    finish(axes, f"{ROUND} ({one.label})", "share of the fixed weights")
    return figure, [
        {"round": row["round"], **dict(zip(names, share, strict=True))}
        for row, share in zip(rows, shares.T.tolist(), strict=True)
    ]


def regulariser(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the mean sigma by round, with the regulariser and without."""
    kinds: dict[str, set[str]] = {}
    found = [s for s in shown if s.method == "pwfn"]
    for s in found:
        kinds.setdefault(s.without("regulariser."), set()).add(s.setting("regulariser.pull._target_"))
    found = [s for s in found if "none" in (here := kinds[s.without("regulariser.")]) and len(here) > 1]
    if not found:
        raise Lacking("no pwfn runs with a regulariser and with regulariser=none side by side")
    return by_round("sigma_mean", "mean sigma")(found)

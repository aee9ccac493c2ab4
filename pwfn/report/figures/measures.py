"""Figures of what the fixed networks do: resilience to noise, calibration, ensembles of draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from pwfn.report.figures.rounds import ROUND
from pwfn.report.figures.shown import Lacking, Rows, Shown, band, finish
from pwfn.report.style import BASELINE, column, new_figure

__all__ = ["ensembles", "noise", "reliability"]


def noise(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw top-1 accuracy against the scale of noise on the weights, for all methods and one baseline."""
    found = _evaluated(shown, "noise", "a noise curve")
    figure, (axes,) = new_figure()
    rows: Rows = []
    for stage, kept in (("baseline", found[:1]), ("final", found)):
        for s in kept:
            measured = s.files[0].evaluation[stage]
            points = [{"scale": 0.0, "acc1": measured["acc1"], "acc1_std": 0.0}, *measured["noise"]]
            label = s.label if stage == "final" else "baseline"
            style: dict[str, Any] = {} if stage == "final" else {"color": BASELINE, "ls": "--"}
            x, y, spread = (column(points, name) for name in ("scale", "acc1", "acc1_std"))
            axes.errorbar(x, y, spread, marker="o", ms=4, capsize=2, label=label, **style)
            rows += [{"setting": label, **point} for point in points]
    finish(axes, "noise on the weights, in rms of their tensor", "test top-1 (%)")
    return figure, rows


def reliability(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the accuracy of the predictions made with each confidence, for all methods and one baseline."""
    found = _evaluated(shown, "reliability", "reliability bins")
    figure, (axes,) = new_figure()
    axes.plot([0, 1], [0, 1], color="black", lw=0.7)
    rows: Rows = []
    for stage, kept in (("baseline", found[:1]), ("final", found)):
        for s in kept:
            measured = s.files[0].evaluation[stage]
            label = s.label if stage == "final" else "baseline"
            bins = [row for row in measured["reliability"] if row["count"]]
            style: dict[str, Any] = {} if stage == "final" else {"color": BASELINE, "ls": "--"}
            x, y = column(bins, "confidence"), column(bins, "accuracy")
            axes.plot(x, y, marker="o", ms=4, label=f"{label}: ECE {100 * measured['ece']:.2f}%", **style)
            rows += [{"setting": label, "ece": measured["ece"], **row} for row in bins]
    finish(axes, "confidence (20 bins)", "accuracy")
    return figure, rows


def ensembles(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the accuracy of ensembles by their number of draws, and what an ensemble gains at each round.

    After the last round most sigmas are tiny, so that an earlier round says more: the second panel needs
    ``evaluation.round_draws``, the accuracy there is on validation images before the round's clustering.
    """
    found = _evaluated(shown, "ensemble", "ensembles")
    figure, (last, rounds) = new_figure(2, width=13)
    rows: Rows = []
    for s in found:
        measured = s.files[0].evaluation["final"]
        points = [{"draws": 0, "acc1": measured["acc1"]}, *measured["ensemble"]]  # no draw: the weights at mu
        (line,) = last.plot(column(points, "draws"), column(points, "acc1"), marker="o", ms=4)
        style: dict[str, Any] = {"color": line.get_color(), "ls": line.get_linestyle()}
        rounds.plot([], [], marker="o", ms=4, label=s.label, **style)  # one legend for both panels
        rows += [{"setting": s.label, "round": "last", "draws": p["draws"], "acc1": p["acc1"]} for p in points]
        if not all("ensemble_acc1_before" in f.rounds[0] for f in s.files):
            continue
        gains = [[r["ensemble_acc1_before"] - r["acc1_before"] for r in f.rounds] for f in s.files]
        band(rounds, column(s.files[0].rounds, "round"), gains, **style)
        draws = int(s.setting("evaluation.round_draws"))
        for row in s.files[0].rounds:
            for count, name in ((0, "acc1_before"), (draws, "ensemble_acc1_before")):
                rows.append({"setting": s.label, "round": row["round"], "draws": count, "acc1": row[name]})
    finish(last, "draws in the ensemble (0: the weights at mu)", "test top-1 (%)", named=False)
    if all(row["round"] == "last" for row in rows):
        rounds.text(0.5, 0.5, "no run with evaluation.round_draws", ha="center", transform=rounds.transAxes)
    finish(rounds, ROUND, "ensemble over mu, validation top-1 (points)")
    return figure, rows


def _evaluated(shown: Sequence[Shown], name: str, what: str) -> list[Shown]:
    found = [s for s in shown if s.files[0].evaluation.get("final", {}).get(name)]
    if not found:
        raise Lacking(f"no run has {what} in evaluation.json")
    return found

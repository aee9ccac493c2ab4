"""Plots of a run's rounds: accuracy, sharing, sigma, and how far weights were moved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from pwfn.report.style import (
    BASELINE,
    FINAL,
    FIXED,
    FREE,
    LOWEST_OCTAVE,
    SIGMA_FLOOR,
    Files,
    Row,
    column,
    new_figure,
    round_axis,
    widen,
)

__all__ = ["accuracy", "movement", "sharing", "sigma"]


def accuracy(files: Files) -> Figure | None:
    """Plot accuracy on validation before and after each round, against the baseline."""
    rows = [row for row in files.rounds if not math.isnan(row.get("acc1_after", math.nan))]
    if not rows:
        return None
    figure, (axes,) = new_figure()
    for stage, marker, size, colour in (("before", "o", 9, FREE), ("after", "s", 5, FIXED)):
        label = f"{stage} clustering"
        axes.plot(
            column(rows, "round"), column(rows, f"acc1_{stage}"), marker=marker, ms=size, color=colour, label=label
        )
    if "baseline_val_acc1" in files.summary:
        axes.axhline(files.summary["baseline_val_acc1"], color=BASELINE, ls="--", label="baseline")
    round_axis(axes, rows)
    axes.set_ylabel("validation top-1 (%)")
    widen(axes)
    axes.legend()
    return figure


def sharing(files: Files) -> Figure | None:
    """Plot unique values and entropy after each round, with and without zeros."""
    if not files.rounds:
        return None
    figure, panels = new_figure(2)
    for axes, name, label in zip(
        panels, ("unique", "entropy"), ("unique values", "entropy (bits a weight)"), strict=True
    ):
        rounds = column(files.rounds, "round")
        axes.plot(rounds, column(files.rounds, name), "o-", color=FINAL, label="all weights")
        axes.plot(
            rounds, column(files.rounds, f"{name}_nonzero"), "s--", mfc="none", color=FINAL, label="without zeros"
        )
        if f"baseline_{name}" in files.summary:
            axes.axhline(files.summary[f"baseline_{name}"], color=BASELINE, ls="--", label="baseline")
        round_axis(axes, files.rounds)
        axes.set_ylabel(label)
    panels[0].plot(
        column(files.rounds, "round"),
        column(files.rounds, "unique_fixed"),
        "^:",
        color=FIXED,
        label="of fixed weights",
    )
    panels[0].set_yscale("log")
    panels[1].set_ylim(bottom=0)
    panels[0].legend()
    return figure


def sigma(files: Files) -> Figure | None:
    """Plot sigma of free and of fixed weights after each round: median, and the middle 80%."""
    if not files.movement:
        return None
    figure, (axes,) = new_figure()
    for kind, colour, marker in (("free", FREE, "o"), ("fixed", FIXED, "s")):
        bands = [(t, *_quantiles(rows, kind)) for t, rows in _by_round(files.movement).items() if _total(rows, kind)]
        if not bands:
            continue
        rounds, low, middle, high = zip(*bands, strict=True)
        axes.fill_between(rounds, low, high, color=colour, alpha=0.2)
        axes.plot(rounds, middle, marker=marker, color=colour, label=f"{kind} weights")
    axes.set_yscale("log", base=2)
    round_axis(axes, files.rounds)
    axes.set_ylabel("sigma (units of the weights)")
    axes.plot([], [], lw=8, color="black", alpha=0.2, label="10% to 90% of them")
    axes.legend()
    return figure


def movement(files: Files) -> Figure | None:
    """Plot how far weights were moved when they were fixed, by the sigma that they had."""
    rounds = {t: [r for r in rows if r["taken"]] for t, rows in _by_round(files.movement).items()}
    rounds = {t: rows for t, rows in rounds.items() if rows}
    if not rounds:
        return None
    figure, (axes,) = new_figure()
    colours = mpl.colormaps["viridis"]
    octaves = [int(row["log2_sigma"]) for rows in rounds.values() for row in rows]
    span = range(min(octaves), max(octaves) + 1)
    for t, rows in rounds.items():
        by_octave = {int(row["log2_sigma"]): row for row in rows}
        rows = [by_octave.get(k, {}) for k in span]  # a line breaks where no weight has such a sigma
        centres, colour = [2 ** (k + 0.5) for k in span], colours(0.9 * t / max(1, *rounds))
        axes.plot(centres, column(rows, "moved_mean"), "o-", ms=4, color=colour, label=f"round {t}")
        axes.plot(centres, column(rows, "moved_max"), "_", ms=9, color=colour)
    ends = sorted({2.0**span.start, max(2.0**span.start, SIGMA_FLOOR), 2.0**span.stop})
    axes.plot(ends, [max(end, SIGMA_FLOOR) for end in ends], "--", color="black", lw=1, label="reach of 1 sigma")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("sigma before the round (by octaves)")
    axes.set_ylabel("distance moved: mean (dot), largest (dash)")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _by_round(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """The rows of each round over all weight tensors, by ascending sigma."""
    found: dict[int, dict[float, Row]] = {}
    for row in rows:  # runs of earlier versions have one row for all tensors
        one, octave = found.setdefault(int(row["round"]), {}), row["log2_sigma"]
        one[octave] = _merged(one[octave], row) if octave in one else row
    return {t: [one[octave] for octave in sorted(one)] for t, one in found.items()}


def _merged(one: Row, other: Row) -> Row:
    taken = one["taken"] + other["taken"]
    moved = sum(row["taken"] * row["moved_mean"] for row in (one, other)) / max(1.0, taken)
    summed = {name: one[name] + other[name] for name in ("free", "fixed")}
    largest = max(one["moved_max"], other["moved_max"])
    return {**one, **summed, "taken": taken, "moved_mean": moved, "moved_max": largest}


def _total(rows: Sequence[Row], column: str) -> float:
    return sum(row[column] for row in rows)


def _quantiles(rows: Sequence[Row], column: str) -> tuple[float, ...]:
    """Compute the 10%, 50% and 90% quantiles of sigma, to half an octave, from counts by octave (ascending)."""
    total, levels, found = _total(rows, column), [0.1, 0.5, 0.9], []
    passed = 0.0
    for row in rows:
        passed += row[column]
        while levels and passed >= levels[0] * total:
            found.append(2 ** (row["log2_sigma"] + 0.5 * (row["log2_sigma"] > LOWEST_OCTAVE)))
            levels.pop(0)
    return tuple(found)

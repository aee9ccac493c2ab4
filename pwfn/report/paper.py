"""The figures of the papers of WFN and PWFN from runs of one's own, each a PNG and the CSV that it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.rcsetup import cycler

from pwfn.report import compare
from pwfn.report.figures import additive, measures, rounds, settings, sigmas, sizes, weights
from pwfn.report.figures.shown import Lacking, Plot, show
from pwfn.report.style import STYLE, save
from pwfn.rundir.files import write_csv

__all__ = ["FIGURES", "draw"]


LINES = cycler(ls=["-", "--", ":"]) * cycler(color=mpl.color_sequences["tab20"])
"""Sixty lines that can be told apart."""


def draw(folders: Sequence[Path], to: Path) -> dict[str, str | None]:
    """Draw every figure that the finished runs below some folders allow: ``to/<name>.png`` and ``to/<name>.csv``.

    A figure of a single run shows the first one that has what it needs. Runs that differ in their seed alone are one
    line with the range between them, or a mean.

    Returns:
        By name, None where the figure was drawn, else why not.

    Raises:
        ValueError: if there is no finished run.
    """
    runs, _ = compare.repeated([run for run in compare.find(folders) if run.status == "finished"])
    if not runs:
        raise ValueError(f"no finished runs below {', '.join(map(str, folders))}")
    shown = show(runs)
    outcome: dict[str, str | None] = {}
    for name, (title, plot) in FIGURES.items():
        try:
            with mpl.rc_context({**STYLE, "axes.prop_cycle": LINES}):
                figure, rows = plot(shown)
                figure.suptitle(title, fontsize=11)
                save(figure, to / f"{name}.png")
            write_csv(to / f"{name}.csv", rows)
            outcome[name] = None
        except Lacking as lack:
            outcome[name] = f"skipped: {lack}"
    return outcome


FIGURES: dict[str, tuple[str, Plot]] = {
    "wfn_fraction": ("WFN: share of the weights fixed", rounds.by_round("fraction", "share of the weights", "wfn")),
    "wfn_centroids": ("Values in use by fixed weights", rounds.by_round("unique_fixed", "unique values, 0 counted")),
    "wfn_orders": ("Orders of the fixed weights", rounds.orders),
    "wfn_most_used": (f"The {weights.MOST_USED} most used values", weights.most_used),
    "wfn_settings": (
        "WFN over delta, alpha and norm layers (zeros counted; published figures: with or without is not settled)",
        settings.wfn_settings,
    ),
    "accuracy_size": ("Accuracy against measured size", sizes.accuracy_size),
    "apot": ("Comparison with additive powers of two by layer (APoT)", additive.comparison),
    "pwfn_table": ("Networks and methods", sizes.main_table),
    "pwfn_prior": ("PWFN: sigma under the powers-of-two prior", sigmas.prior),
    "pwfn_regulariser": ("PWFN: sigma with and without a regulariser", rounds.regulariser),
    "pwfn_movement": ("PWFN: sigma and movement by layer and position", sigmas.movement),
    "pwfn_entropy": ("Entropy by layer", weights.entropy),
    "pwfn_noise": ("Resilience to noise on the weights", measures.noise),
    "pwfn_reliability": ("Reliability of the predictions", measures.reliability),
    "pwfn_ensembles": ("Ensembles of draws of the weights", measures.ensembles),
    "pwfn_ablations": ("PWFN: one choice changed at a time", settings.ablations),
}
"""Title and plot by file name."""

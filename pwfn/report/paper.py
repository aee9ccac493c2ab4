"""The figures of the papers of WFN and PWFN from runs of one's own, each a PNG and the CSV that it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from pwfn.report import compare
from pwfn.report.paper_plots import (
    MOST_USED,
    Lacking,
    Plot,
    Shown,
    by_round,
    entropy,
    most_used,
    noise,
    orders,
    prior,
    regulariser,
)
from pwfn.report.style import STYLE, read, save
from pwfn.rundir.files import write_csv

__all__ = ["FIGURES", "draw"]


def draw(folders: Sequence[Path], to: Path) -> dict[str, str | None]:
    """Draw every figure that the finished runs below some folders allow: ``to/<name>.png`` and ``to/<name>.csv``.

    A figure of a single run shows the first one that has what it needs.

    Returns:
        By name, None where the figure was drawn, else why not.

    Raises:
        ValueError: if there is no finished run.
    """
    runs, _ = compare.repeated([run for run in compare.find(folders) if run.status == "finished"])
    if not runs:
        raise ValueError(f"no finished runs below {', '.join(map(str, folders))}")
    keys = [*compare.swept(runs), "seed"]
    keys = [key for key in keys if len({run.setting(key) for run in runs}) > 1]
    labels = [", ".join(f"{_short(key)} {run.setting(key)}" for key in keys) or run.folder.name for run in runs]
    shown = [Shown(run, read(run.folder), label) for run, label in zip(runs, labels, strict=True)]
    outcome: dict[str, str | None] = {}
    for name, (title, plot) in FIGURES.items():
        try:
            with mpl.rc_context(STYLE):
                figure, rows = plot(shown)
                figure.suptitle(title, fontsize=11)
                save(figure, to / f"{name}.png")
            write_csv(to / f"{name}.csv", rows)
            outcome[name] = None
        except Lacking as lack:
            outcome[name] = f"skipped: {lack}"
    return outcome


def _short(key: str) -> str:
    group, _, name = key.rpartition(".")
    return group or name if name in ("name", "_target_", "path") else name


FIGURES: dict[str, tuple[str, Plot]] = {
    "wfn_fraction": ("WFN: share of the weights fixed", by_round("fraction", "share of the weights", "wfn")),
    "wfn_centroids": ("Values in use by fixed weights", by_round("unique_fixed", "unique values")),
    "wfn_orders": ("Orders of the fixed weights", orders),
    "wfn_most_used": (f"The {MOST_USED} most used values", most_used),
    "pwfn_prior": ("PWFN: sigma under the powers-of-two prior", prior),
    "pwfn_regulariser": ("PWFN: sigma with and without a regulariser", regulariser),
    "pwfn_entropy": ("Entropy by layer", entropy),
    "pwfn_noise": ("Resilience to noise on the weights", noise),
}
"""Title and plot by file name."""

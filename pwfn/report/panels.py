"""The panels of a dashboard on Weights & Biases: rounds, accuracy against cost, swept settings, codebooks, plots."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["COSTS", "PLOTS", "ROUNDS", "SWEPT", "package", "sections"]

SWEPT = ("method.name", "prior._target_", "regulariser.weight", "fixing.delta_start", "fixing.min_exponent", "seed")
"""Settings on the parallel coordinates, where the swept ones are not given."""

ROUNDS = {
    "Top-1 on validation, before and after clustering (%)": (["fixing/acc1_before", "fixing/acc1_after"], False),
    "Entropy (bits a weight)": (["fixing/entropy", "fixing/entropy_nonzero"], False),
    "Unique values": (["fixing/unique", "fixing/unique_fixed"], True),
    "Sigma of free and fixed weights": (["fixing/sigma_free", "fixing/sigma_fixed"], True),
    "Weights that changed their centroid": (["fixing/moved"], False),
    "Seconds a round": (["fixing/train_seconds", "fixing/cluster_seconds"], False),
}
"""Panels over the rounds: title, metrics, logarithmic or not."""

COSTS = {
    "entropy": "entropy (bits a weight)",
    "sizes.entropy_coded": "model.pwfn (bytes)",
    "unique": "unique values",
}
"""Figures that accuracy is plotted against, with their labels."""

PLOTS = ("accuracy", "sharing", "codebook", "layers", "sigma", "movement", "reliability", "noise", "ensemble")
"""Plots that every run logs, see :mod:`pwfn.report.plots`."""


def sections(swept: Sequence[str] = SWEPT) -> Mapping[str, list[Any]]:
    """Build the panels, by the title of their section.

    Args:
        swept: configuration keys for the parallel coordinates, nested ones joined by dots.

    Raises:
        ImportError: if the packages of the extra ``workspace`` are not installed.
    """
    wr = package("reports.v2")
    rounds = [
        wr.LinePlot(title=title, x="round", y=metrics, log_y=log, title_x="round", smoothing_factor=0)
        for title, (metrics, log) in ROUNDS.items()
    ]
    acc1 = wr.SummaryMetric("acc1")
    scatter = [
        wr.ScatterPlot(title=f"Top-1 against {label}", x=wr.SummaryMetric(cost), y=acc1, log_x=cost != "entropy")
        for cost, label in COSTS.items()
    ]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), display_name=key) for key in swept]
    columns += [
        wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(metric), display_name=metric)
        for metric in ("unique", "entropy", "acc1")
    ]
    tables = [wr.WeavePanelSummaryTable(table_name=table) for table in ("codebook", "layers", "fixing/centroids")]
    return {
        "Rounds": rounds,
        "Accuracy against cost": scatter,
        "Swept settings": [wr.ParallelCoordinatesPlot(title="Settings and results", columns=columns)],
        "Codebooks": tables,
        "Plots": [wr.MediaBrowser(title=plot, media_keys=[f"plots/{plot}"]) for plot in PLOTS],
    }


def package(name: str) -> Any:
    """Import a module of wandb-workspaces.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(f"wandb_workspaces.{name}")
    except ImportError as error:
        raise ImportError("the workspace needs its package: pip install -e '.[workspace]'") from error

"""A dashboard on Weights & Biases: rounds, Pareto scatter, swept settings, codebooks, plots."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

__all__ = ["SWEPT", "build", "from_json", "to_json"]

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

PLOTS = ("accuracy", "sharing", "codebook", "layers", "sigma", "movement", "reliability", "noise", "ensemble")


def build(entity: str, project: str, *, name: str = "pwfn", swept: Sequence[str] = SWEPT) -> Any:
    """Build the workspace without saving it; that needs neither a key nor a server.

    Args:
        entity, project: where it belongs.
        name: its name.
        swept: configuration keys for the parallel coordinates, nested ones joined by dots.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace``; ``save()`` sends it and then ``url`` says where it is.

    Raises:
        ImportError: if the packages of the extra ``workspace`` are not installed.
    """
    ws, wr = _packages()
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
    sections = {
        "Rounds": rounds,
        "Accuracy against cost": scatter,
        "Swept settings": [wr.ParallelCoordinatesPlot(title="Settings and results", columns=columns)],
        "Codebooks": tables,
        "Plots": [wr.MediaBrowser(title=plot, media_keys=[f"plots/{plot}"]) for plot in PLOTS],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="round"),
    )


def to_json(workspace: Any) -> str:
    """Return a workspace as W&B's servers are sent it."""
    return workspace._to_model().model_dump_json(by_alias=True, exclude_none=True)


def from_json(text: str) -> Any:
    """Return the workspace that :func:`to_json` wrote."""
    ws, _ = _packages()
    view = importlib.import_module("wandb_workspaces.workspaces.internal").View
    return ws.Workspace._from_model(view.model_validate_json(text))


def _packages() -> tuple[Any, Any]:
    try:
        return (
            importlib.import_module("wandb_workspaces.workspaces"),
            importlib.import_module("wandb_workspaces.reports.v2"),
        )
    except ImportError as error:
        raise ImportError("the workspace needs its package: pip install -e '.[workspace]'") from error

"""A workspace and a report on Weights & Biases: the same panels, alone or below the table of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pwfn.report.panels import SWEPT, package, sections

__all__ = ["build", "from_json", "report", "to_json"]


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
    ws = package("workspaces")
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections(swept).items()],
        settings=ws.WorkspaceSettings(x_axis="round"),
    )


def report(
    entity: str,
    project: str,
    *,
    name: str,
    table: str,
    note: str,
    groups: Sequence[str] = (),
    swept: Sequence[str] = SWEPT,
) -> Any:
    """Build a report on a sweep without saving it: its table as it is now, and below it panels that stay up to date.

    Args:
        entity, project: where it belongs.
        name: its title.
        table: the comparison of the runs, in Markdown.
        note: a line on how many runs there are.
        groups: the W&B groups that the panels show, one for each sweep; all runs of the project if empty.
        swept: as of :func:`build`.

    Returns:
        A ``wandb_workspaces.reports.v2.Report``; ``save()`` sends it as a draft and then ``url`` says where it is.

    Raises:
        ImportError: if the packages of the extra ``workspace`` are not installed.
    """
    wr, expr = package("reports.v2"), package("expr")
    chosen = [expr.Metric("Group").isin(list(groups))] if groups else []
    blocks = [wr.TableOfContents(), wr.H1("Runs"), wr.P(note), wr.MarkdownBlock(table)]
    for title, panels in sections(swept).items():
        runs = wr.Runset(name="runs", filters=chosen)  # of the report's own project, which needs no look-up
        blocks += [wr.H1(title), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(project=project, entity=entity, title=name, description=note, blocks=blocks, width="fluid")


def to_json(board: Any) -> str:
    """Return a workspace, or a report, as W&B's servers are sent it."""
    return board._to_model().model_dump_json(by_alias=True, exclude_none=True)


def from_json(text: str) -> Any:
    """Return the workspace that :func:`to_json` wrote."""
    view = package("workspaces.internal").View
    return package("workspaces").Workspace._from_model(view.model_validate_json(text))

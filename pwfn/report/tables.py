"""Tables of compared runs: for the terminal, as Markdown, as CSV."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pwfn.report.compare import FIGURES, MISSING, Group, RunFolder

__all__ = [
    "brief",
    "cells",
    "constant",
    "csv_rows",
    "heading",
    "headings",
    "markdown",
    "print_table",
    "unfinished_cells",
]

UNFINISHED = ("run", "status", "rounds done", "why")
SETTINGS = "unlike most"
"""Heading of the column that :func:`brief` makes."""


def headings(groups: Sequence[Group], keys: Sequence[str], figures: Sequence[str] = tuple(FIGURES)) -> list[str]:
    """Name the columns: swept settings, number of runs, and those of the figures that any of the groups has."""
    return [*map(heading, keys), "runs", *(FIGURES[name][0] for name in _present(groups, figures))]


def cells(groups: Sequence[Group], keys: Sequence[str], figures: Sequence[str] = tuple(FIGURES)) -> list[list[str]]:
    """Format one row of text per group, ``mean ± sample standard deviation`` where a group has several runs."""
    present = _present(groups, figures)
    return [
        [*(group.settings[key] for key in keys), str(len(group.runs)), *(_cell(group, name) for name in present)]
        for group in groups
    ]


def brief(groups: Sequence[Group], keys: Sequence[str], kept: Sequence[str] = ()) -> list[Group]:
    """Return the same groups with the settings ``kept`` and one more, :data:`SETTINGS`: the others of ``keys``, as
    ``name=value`` where they are unlike in most groups.

    Several sweeps in one table vary many settings, of which each row changes one or two.
    """
    others = [key for key in keys if key not in kept]
    usual = {key: Counter(group.settings[key] for group in groups).most_common(1)[0][0] for key in others}
    named = []
    for group in groups:
        unlike = {key: group.settings[key] for key in others if group.settings[key] not in (usual[key], MISSING)}
        text = " ".join(f"{heading(key).rpartition('.')[2]}={value}" for key, value in unlike.items())
        named.append(replace(group, settings={**{k: group.settings[k] for k in kept}, SETTINGS: text or MISSING}))
    return named


def constant(groups: Sequence[Group], keys: Sequence[str]) -> tuple[list[str], str]:
    """Return the keys in which groups differ, and the values that they all share, for a title."""
    shared = [key for key in keys if len({group.settings[key] for group in groups}) == 1]
    values = " · ".join(groups[0].settings[key] for key in shared) if groups else ""
    return [key for key in keys if key not in shared], values


def unfinished_cells(runs: Iterable[RunFolder]) -> list[list[str]]:
    """Format one row of text per run that is not finished, under :data:`UNFINISHED`."""
    return [
        [str(run.folder), run.status, str(run.rounds), str(run.summary.get("error", ""))]
        for run in runs
        if run.status != "finished"
    ]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str, *, left: int) -> None:
    """Print a table; the first ``left`` columns are text, the others numbers.

    On a terminal that is too narrow the columns of numbers go on below, beside the text again. Elsewhere, in a file
    or a pipe, a table is as wide as it needs to be.
    """
    console = Console()
    width = console.width if console.is_terminal else 10_000
    numbers = [*range(left, len(head))]
    while True:
        fitting = next((n for n in range(len(numbers), 1, -1) if _width(head, rows, left, numbers[:n]) <= width), 1)
        shown, numbers = numbers[:fitting], numbers[fitting:]
        table = _table(head, rows, left, shown)
        table.title = title
        needed = _width(head, rows, left, shown)
        Console(width=min(needed, width)).print(table)
        if not numbers:
            return
        title = ""


def _width(head: Sequence[str], rows: Sequence[Sequence[str]], left: int, numbers: Sequence[int]) -> int:
    return Console(width=10_000).measure(_table(head, rows, left, numbers)).maximum


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int, numbers: Sequence[int]) -> Table:
    """A table of the text columns and some of those of numbers; text wraps where there is no room for it."""
    table = Table(title_justify="left", box=box.SIMPLE_HEAD)
    for i in (*range(left), *numbers):
        text = i < left
        name = head[i] if text else head[i].replace(" ", "\n")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row in rows:
        cells = (textwrap.shorten(row[i], 120, placeholder=" …") for i in (*range(left), *numbers))
        table.add_row(*map(escape, cells))
    return table


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """Format a Markdown table; the first ``left`` columns are text, the others numbers."""
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    lines = [head, rule, *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_rows(groups: Sequence[Group], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per group with unrounded figures: ``<figure>`` and, over several runs, ``<figure>_std``."""
    rows = []
    for group in groups:
        row: dict[str, Any] = {heading(key): value for key, value in group.settings.items()}
        row["runs"] = len(group.runs)
        row["seeds"] = " ".join(str(run.seed) for run in group.runs)
        for name in FIGURES:
            found = group.figure(name)
            if found is not None:
                column = name.removeprefix("sizes.")
                row[column] = found[0]
                if len(group.runs) > 1:
                    row[f"{column}_std"] = found[1]
        rows.append({**row, "folders": " ".join(str(run.folder) for run in group.runs)})
    return rows


def heading(key: str) -> str:
    """Return the heading of a setting's column: the group where the setting says which option was chosen."""
    for ending in (".pull._target_", "._target_", ".path", ".name"):
        key = key.removesuffix(ending)
    return key


def _present(groups: Sequence[Group], figures: Sequence[str]) -> list[str]:
    return [name for name in figures if any(group.figure(name) is not None for group in groups)]


def _cell(group: Group, name: str) -> str:
    found, (_, factor, style) = group.figure(name), FIGURES[name]
    if found is None:
        return "–"
    mean, spread = (format(factor * value, style) for value in found)
    return f"{mean} ± {spread}" if len(group.runs) > 1 else mean

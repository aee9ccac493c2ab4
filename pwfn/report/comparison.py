"""The comparison of all runs below some folders: printed, and written as CSV, Markdown, plots and a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pwfn.report import compare, tables
from pwfn.rundir.files import atomic, write_csv

__all__ = ["Comparison", "compared", "write_bytes"]


@dataclass(frozen=True)
class Comparison:
    """Holds the table of finished runs, one row per setting, and that of the others.

    Attributes:
        groups: finished runs that differ in their seed alone.
        keys: the settings that were swept.
        head, rows: the table of the groups; its first ``left`` columns are settings.
        rest: rows of the runs that are not finished.
        shared: the settings that all runs share, as text.
        note: how many runs there are of each kind.
    """

    groups: Sequence[compare.Group]
    keys: Sequence[str]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int
    rest: Sequence[Sequence[str]]
    shared: str
    note: str

    def show(self) -> None:
        """Print the tables and the note."""
        if self.rows:
            title = f"Finished runs: {self.shared}" if self.shared else "Finished runs"
            tables.print_table(self.head, self.rows, title, left=self.left)
        if self.rest:
            tables.print_table(tables.UNFINISHED, self.rest, "Not finished", left=4)
        Console(soft_wrap=True).print(self.note, highlight=False)

    def write_csv(self, path: Path) -> None:
        """Write the table of finished runs with unrounded figures."""
        write_csv(path, tables.csv_rows(self.groups, self.keys))

    def markdown(self) -> str:
        """Lay out both tables."""
        text = tables.markdown(self.head, self.rows, left=self.left)
        return text + "\n" + tables.markdown(tables.UNFINISHED, self.rest, left=4) if self.rest else text

    def plots(self) -> dict[str, bytes]:
        """Draw accuracy against cost for each dataset: its name to a PNG."""
        from pwfn.report.pareto import pareto

        found = {}
        for dataset in dict.fromkeys(group.settings["dataset.name"] for group in self.groups):
            data = io.BytesIO()
            pareto(self.groups, dataset).savefig(data, format="png", dpi=110)
            found[dataset.replace("/", "-")] = data.getvalue()
        return found

    def write_page(self, path: Path, plots: dict[str, bytes]) -> None:
        """Write tables and plots as one HTML file."""
        from pwfn.report.page import page

        named = {f"Accuracy against cost: {name}": data for name, data in plots.items()}
        title = f"Runs: {self.shared}" if self.shared else "Runs"
        rest = tables.UNFINISHED, self.rest
        text = page(title, self.head, self.rows, left=self.left, plots=named, unfinished=rest, note=self.note)
        write_bytes(path, text.encode())


def compared(folders: Sequence[Path], *, figures: Sequence[str], brief: bool = False) -> Comparison:
    """Compare all runs below some folders, and those that a sweep's folder links to.

    Args:
        folders: where to look.
        figures: columns of the table, keys of :data:`pwfn.report.compare.FIGURES`.
        brief: put all settings into one column.

    Raises:
        ValueError: if there are no runs.
    """
    # a sweep's folder leads to the runs that other sweeps had finished
    links = [path for folder in folders for path in folder.glob("*") if path.is_symlink() and path.is_dir()]
    runs = compare.find([*folders, *links])
    if not runs:
        raise ValueError(f"no runs below {', '.join(map(str, folders))}")
    finished, again = compare.repeated([run for run in runs if run.status == "finished"])
    keys = compare.swept(finished)
    groups = compare.grouped(finished, keys)
    shown, shared = tables.constant(groups, keys)
    listed = groups
    if brief:
        always = [key for key in shown if key == "method.name"]
        listed, shown = tables.brief(groups, shown, always), [*always, tables.SETTINGS]
    rest = tables.unfinished_cells(runs)
    note = f"{len(runs)} runs: {len(finished)} finished in {len(groups)} settings, {len(rest)} not finished."
    if again:
        note += f" {len(again)} older repetitions of the same run are left out."
    head, rows = tables.headings(listed, shown, figures), tables.cells(listed, shown, figures)
    return Comparison(groups, keys, head, rows, len(shown), rest, shared, note)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file at once or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)

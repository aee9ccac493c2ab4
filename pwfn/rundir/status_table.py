"""The runs of a sweep as a table, with what is known of those that ended without a result."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pwfn.rundir.status import ALIVE, ENDED, Run, status

__all__ = ["print_status", "watch_status"]

STYLES = {"finished": "green", "running": "cyan", "queued": "yellow", **dict.fromkeys(ENDED, "red")}

SHORT = 40
"""Runs that are all shown; of more, each state's first ones."""

FIRST = 8
"""Runs shown of a state, and of a reason, where there are many."""

COLUMNS = {"run": "left", "job": "left", "state": "left", "node, reason": "left", "elapsed": "right"}
FIGURES = {"round": (".0f", "round"), "acc %": (".2f", "acc1"), "unique": (",.0f", "unique")}
FIGURES |= {"entropy": (".3f", "entropy")}


def print_status(runs: Sequence[Run], console: Console | None = None, *, everything: bool = False) -> None:
    """A table of runs, then what is known of those that ended without a result, then the count of each state.

    Args:
        runs: of one sweep.
        console: where to.
        everything: show all runs, however many.
    """
    console = console or Console(soft_wrap=True)
    common = set.intersection(*(set(run.overrides) for run in runs)) if len(runs) > 1 else set()
    names = {run.folder: " ".join(o for o in run.overrides if o not in common) or run.folder.name for run in runs}
    shown: dict[str, int] = {}
    rows = []
    for run in runs:
        shown[run.state] = shown.get(run.state, 0) + 1
        if everything or len(runs) <= SHORT or shown[run.state] <= FIRST:
            rows.append(_row(run, names[run.folder]))
    console.print(_table(rows))
    for state, count in shown.items():
        if not everything and len(runs) > SHORT and count > FIRST:
            console.print(f"... and {count - FIRST} more {state} (--all shows them)")
    _print_ends(runs, names, console)
    running = next((run for run in runs if run.state == "running"), None)
    if running is not None and (logs := _logs(running)):
        console.print(f"{names[running.folder]}: tail -f {shlex.join(logs)}", markup=False, highlight=False)
    console.print(f"{len(runs)} runs: " + ", ".join(f"{count} {state}" for state, count in shown.items()))


def watch_status(sweep: Path, seconds: float, *, everything: bool = False) -> list[Run]:
    """Show the runs of a sweep again every few seconds, until none of them goes on by itself; their last states."""
    console = Console(soft_wrap=True)
    while True:
        runs = status(sweep)
        console.clear()
        print_status(runs, console, everything=everything)
        if not any(run.state in ALIVE for run in runs):
            return runs
        time.sleep(seconds)


def _logs(run: Run) -> list[str]:
    """The files that a run writes to: its own log, and what its processes print."""
    places = [run.folder / "launch.log", *sorted(run.folder.parent.glob(f".submitit/{run.job}/*_log.*"))]
    return [str(path) for path in places if path.exists()]


def _table(rows: Sequence[Sequence[str]]) -> Table:
    """The rows under the columns that say something; only what has no fixed width is folded."""
    table = Table(caption="acc: validation while running, test when finished; entropy in bits a weight")
    columns = {**COLUMNS, **dict.fromkeys(FIGURES, "right")}
    used = [k for k, name in enumerate(columns) if name in ("run", "state") or any(row[k] for row in rows)]
    for k, (name, side) in enumerate(columns.items()):
        if k in used:
            fixed = name not in ("run", "node, reason")
            table.add_column(name, justify="right" if side == "right" else "left", overflow="fold", no_wrap=fixed)
    for row in rows:
        table.add_row(*(row[k] for k in used))
    return table


def _row(run: Run, name: str) -> list[str]:
    style = STYLES.get(run.state, "")
    where = run.reason if run.state == "queued" and run.told.word else run.told.node
    elapsed = run.told.elapsed if run.state != "queued" else ""
    if run.told.restarts:
        elapsed += f" (start {run.told.restarts + 1})"
    figures = [run.figures.get(key) for _, key in FIGURES.values()]
    cells = ["" if f is None else format(f, form) for f, (form, _) in zip(figures, FIGURES.values(), strict=True)]
    return [name, run.job or "", f"[{style}]{run.state}[/]" if style else run.state, where, elapsed.strip(), *cells]


def _print_ends(runs: Sequence[Run], names: dict[Path, str], console: Console) -> None:
    """For each reason of an end: the runs, and the log of the first."""
    alike: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.state in ENDED:
            alike.setdefault((run.state, run.reason), []).append(run)
    for (state, reason), group in list(alike.items())[:FIRST]:
        rest = f" and {len(group) - FIRST} more" if len(group) > FIRST else ""
        listed = ", ".join(run.folder.name if len(group) == 1 else names[run.folder] for run in group[:FIRST])
        console.print(f"{state}: {listed}{rest} ({reason})", style="red", markup=False)
        for line in group[0].tail():
            console.print(f"    {line}", markup=False, highlight=False)
        for run in [run for run in group if run.log.exists()][:3]:
            console.print(f"    log: {run.log}", markup=False, highlight=False)
    if len(alike) > FIRST:
        console.print(f"... and {len(alike) - FIRST} more reasons", style="red")

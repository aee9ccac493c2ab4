"""Where the runs of a sweep stand: from their files and, where there is SLURM, from its queue.

It needs neither the process that launched the sweep nor SLURM's accounting; ``python -m pwfn.report status`` shows it.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table

from pwfn.rundir.files import read_json

__all__ = ["ALIVE", "LOCK", "Run", "print_status", "queue", "status", "watch"]

log = logging.getLogger(__name__)

ALIVE = ("queued", "running")
"""States of runs that will go on by themselves."""

LOCK = ".lock"
"""File in a run's folder that is locked while somebody works on the run."""

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
WORKING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "RESIZING", "SIGNALING")
STYLES = {"finished": "green", "running": "cyan", "queued": "yellow", "failed": "red", "stopped": "red"}


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        folder: the run directory.
        overrides: what was asked for.
        job: SLURM's job id or the process that runs it, if one was started.
        state: ``finished``, ``running``, ``queued``, ``failed`` (it raised), ``stopped`` (it ended without a
            result: killed, cancelled, out of time or memory) or ``missing`` (never started).
        reason: why it failed or stopped.
        figures: ``round``, ``acc1`` (percent, on validation; on test once finished), ``unique``, ``entropy``
            (bits), as far as they are known.
        log: the file that tells more.
    """

    folder: Path
    overrides: tuple[str, ...]
    job: str | None
    state: str
    reason: str
    figures: Mapping[str, float]
    log: Path

    def tail(self, lines: int = 6) -> list[str]:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if line.strip()][-lines:]


def status(folder: Path) -> list[Run]:
    """All runs of a sweep, in the order of their submission.

    Raises:
        ValueError: if ``folder`` holds no sweep.
    """
    latest = {entry["folder"]: entry for entry in _entries(folder / "jobs.jsonl")}
    others = sorted(path.parents[1].name for path in folder.glob("*/.hydra/overrides.yaml"))
    names = list(dict.fromkeys([*latest, *others]))
    if not names:
        raise ValueError(f"no sweep in {folder}: give the directory that a sweep printed when it started")
    states = queue(e["job"] for e in latest.values() if e["job"] and e["cluster"] == "slurm")
    return [_run(folder, name, latest.get(name, {}), states) for name in names]


def watch(folder: Path, names: Sequence[str], seconds: float, alive: Callable[[], bool]) -> list[Run]:
    """Look at some runs of a sweep every few seconds until none of them moves.

    Twice before one is called stopped: on a shared file system its last files may come late.

    Args:
        folder: the sweep.
        names: folders of the runs.
        seconds: between two looks.
        alive: whether processes are known to go on, whatever the files say.
    """
    still = False
    while True:
        try:
            found = {run.folder.name: run for run in status(folder)}
        except OSError as error:
            log.warning("%s; looking again", error)
        else:
            runs = [found[name] for name in names]
            moves = alive() or any(run.state in ALIVE for run in runs)
            if not moves and (still or all(run.state == "finished" for run in runs)):
                return runs
            still = not moves
        time.sleep(seconds)


def queue(jobs: Iterable[str]) -> dict[str, str]:
    """SLURM's word for the state of each job that it still knows.

    Raises:
        OSError: if SLURM does not answer.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs})
    if not arrays or shutil.which("squeue") is None:
        return {}
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%F|%K|%T", f"--jobs={','.join(arrays)}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
        raise OSError(f"squeue: {answer.stderr.strip()}")
    rows = [line.split("|") for line in answer.stdout.splitlines()]
    return {job if task == "N/A" else f"{job}_{task}": state for job, task, state in rows}


def print_status(runs: Sequence[Run], console: Console | None = None) -> None:
    """A table of runs, then what is known of each that failed or stopped, then the count of each state."""
    console = console or Console(soft_wrap=True)
    common = set.intersection(*(set(run.overrides) for run in runs)) if len(runs) > 1 else set()
    table = Table(caption="acc: validation while running, test when finished; entropy in bits a weight")
    for column in ("run", "job", "state", "round", "acc %", "unique", "entropy"):
        table.add_column(column, justify="left" if column in ("run", "job", "state") else "right", overflow="fold")
    for run in runs:
        name = " ".join(o for o in run.overrides if o not in common) or run.folder.name
        style = STYLES.get(run.state, "")
        figures = [_figure(run.figures.get(k), f) for k, f in (("round", ".0f"), ("acc1", ".2f"))]
        figures += [_figure(run.figures.get(k), f) for k, f in (("unique", ",.0f"), ("entropy", ".3f"))]
        table.add_row(name, run.job or "", f"[{style}]{run.state}[/]" if style else run.state, *figures)
    console.print(table)
    for run in runs:
        if run.state in ("failed", "stopped"):
            console.print(f"{run.state}: {run.folder.name} ({run.reason})", style="red", markup=False)
            for line in run.tail():
                console.print(f"    {line}", markup=False, highlight=False)
            console.print(f"    log: {run.log}", markup=False, highlight=False)
    counts = {state: sum(run.state == state for run in runs) for state in dict.fromkeys(run.state for run in runs)}
    console.print(f"{len(runs)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items()))


def _entries(listed: Path) -> list[dict[str, Any]]:
    """What the launcher wrote of each job; a line that was cut off, as by a full disk, is left out."""
    entries = []
    for number, line in enumerate(listed.read_text(errors="replace").splitlines() if listed.exists() else (), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and {"folder", "cluster", "job"} <= entry.keys():
            entries.append(entry)
        elif line:
            warnings.warn(f"{listed}: line {number} is damaged and left out", stacklevel=2)
    return entries


def _run(sweep: Path, name: str, entry: Mapping[str, Any], states: Mapping[str, str]) -> Run:
    folder = sweep / name
    damage = ""
    try:
        summary = read_json(folder / "summary.json") or {}
    except ValueError as error:
        summary, damage = {}, str(error)
    job = entry.get("job")
    word = states.get(job or "", "")
    state = _state(folder, {"status": "damaged"} if damage else summary, job, word)
    log = folder / "launch.log"
    if job and not (state == "failed" and log.exists()):  # killed: what there is stands in the job's own log
        log = sweep / ".submitit" / job / f"{job}_0_log.err"
    reason = summary.get("error", "raised") if state == "failed" else damage or word.lower() or "ended without a result"
    return Run(folder, tuple(entry.get("overrides", ())), job, state, reason, _figures(folder, summary), log)


def _state(folder: Path, summary: Mapping[str, Any], job: str | None, word: str) -> str:
    written = summary.get("status")
    if written == "finished":
        return "finished"
    if word in WAITING:
        return "queued"
    if word in WORKING or _locked(folder):
        return "running"
    if written == "failed":
        return "failed"
    return "stopped" if job or written else "missing"


def _locked(folder: Path) -> bool:
    path = folder / LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _figures(folder: Path, summary: Mapping[str, Any]) -> dict[str, float]:
    path = folder / "rounds.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    figures: dict[str, float] = {}
    if rows:
        wanted = {"round": "round", "acc1": "acc1_after", "unique": "unique", "entropy": "entropy"}
        figures = {name: float(rows[-1][column]) for name, column in wanted.items() if rows[-1].get(column)}
    return figures | {name: summary[name] for name in ("acc1", "unique", "entropy") if name in summary}


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)

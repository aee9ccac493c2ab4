"""What SLURM says of jobs: its queue, and its accounting for those that the queue has forgotten."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

__all__ = ["Job", "accounted", "available", "queue"]

COLUMNS = {"ArrayJobID": 24, "ArrayTaskID": 24, "State": 24, "TimeUsed": 20, "RestartCnt": 12, "NodeList": 64}


@dataclass(frozen=True)
class Job:
    """What is known of one job.

    Attributes:
        word: SLURM's word for its state, ``PENDING`` or ``OUT_OF_MEMORY``.
        reason: why it is pending.
        node: where it runs or ran.
        elapsed: how long it has run since its last start, ``1-02:03:04``.
        restarts: how often it was started again.
    """

    word: str
    reason: str = ""
    node: str = ""
    elapsed: str = ""
    restarts: int = 0


def available() -> bool:
    """Whether this machine can ask for SLURM's queue."""
    return shutil.which("squeue") is not None


def queue(jobs: Iterable[str]) -> dict[str, Job]:
    """What SLURM's queue says of each job that it still knows.

    Raises:
        OSError: if SLURM does not answer.
    """
    wanted = list(jobs)
    arrays = sorted({job.partition("_")[0] for job in wanted})
    if not arrays or not available():
        return {}
    columns = ",".join(f"{name}:{width}" for name, width in COLUMNS.items()) + ",Reason:200"
    command = ["squeue", "--noheader", "--array", "--states=all", f"--Format={columns}", f"--jobs={','.join(arrays)}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
        raise OSError(f"squeue: {answer.stderr.strip()}")
    found = {}
    for line in answer.stdout.splitlines():
        cells = []
        for width in COLUMNS.values():
            cells.append(line[:width].strip())
            line = line[width:]
        job, task, word, elapsed, restarts, node = cells
        reason = line.strip() if word == "PENDING" else ""
        number = int(restarts) if restarts.isdecimal() else 0
        found[job if task == "N/A" else f"{job}_{task}"] = Job(word, reason, node, elapsed, number)
    # an array that was cancelled before any of its tasks ran may be left as one entry without a task
    known = {job: found.get(job, found.get(job.partition("_")[0])) for job in wanted}
    return {job: told for job, told in known.items() if told is not None}


@cache
def accounted(jobs: frozenset[str]) -> dict[str, Job]:
    """What SLURM's accounting, asked once, says of jobs that have ended; nothing where there is none."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    columns = "JobID%40,State%40,Elapsed,NodeList%64"
    command = ["sacct", "--noheader", "--allocations", "--parsable2", f"--format={columns}", f"--jobs={','.join(jobs)}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return {}
    rows = [line.split("|") for line in answer.stdout.splitlines() if line.count("|") == 3]
    return {job: Job(state.split()[0], "", node, elapsed) for job, state, elapsed, node in rows}

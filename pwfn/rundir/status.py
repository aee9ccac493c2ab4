"""Where the runs of a sweep stand: from their files and, where there is SLURM, from its queue.

It needs neither the process that launched the sweep nor SLURM's accounting; ``python -m pwfn.report status`` shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pwfn.rundir import slurm
from pwfn.rundir.entries import entries
from pwfn.rundir.failure import last_failure
from pwfn.rundir.figures import round_figures
from pwfn.rundir.files import read_json
from pwfn.rundir.lock import held_elsewhere, locked

__all__ = ["ALIVE", "ENDED", "Run", "status"]

ALIVE = ("queued", "running")
"""States of runs that will go on by themselves."""

ENDED = ("failed", "stopped", "cancelled")
"""States of runs that ended without a result."""

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
WORKING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "RESIZING", "SIGNALING")


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        folder: the run directory.
        overrides: what was asked for.
        job: SLURM's job id or the process that runs it, if one was started.
        state: ``finished``, ``running``, ``queued``, ``failed`` (it raised), ``stopped`` (it ended without a
            result: killed, out of time or memory), ``cancelled``, ``missing`` (never started) or ``unknown`` (a job
            on a SLURM that cannot be asked from here).
        reason: why it failed, stopped, or waits.
        told: what SLURM knows of its job.
        figures: ``round``, ``acc1`` (percent, on validation; on test once finished), ``unique``, ``entropy``
            (bits), as far as they are known.
        log: the file that tells more.
    """

    folder: Path
    overrides: tuple[str, ...]
    job: str | None
    state: str
    reason: str
    told: slurm.Job
    figures: Mapping[str, float]
    log: Path

    def tail(self, lines: int = 6) -> list[str]:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if line.strip()][-lines:]


def status(folder: Path, only: Collection[str] | None = None) -> list[Run]:
    """The runs of a sweep, in the order of their submission.

    Args:
        folder: of the sweep.
        only: names of the runs to look at; all if None.

    Raises:
        ValueError: if ``folder`` holds no sweep.
    """
    latest = {entry["folder"]: entry for entry in entries(folder)}
    others = sorted(path.parents[1].name for path in folder.glob("*/.hydra/overrides.yaml"))
    names = list(dict.fromkeys([*latest, *others]))
    if not names:
        raise ValueError(f"no sweep in {folder}: give the directory that a sweep printed when it started")
    if only is not None:
        names = [name for name in names if name in only]
        latest = {name: entry for name, entry in latest.items() if name in only}
    jobs = {e["job"]: name for name, e in latest.items() if e["job"] and e["cluster"] == "slurm"}
    told = slurm.queue(jobs)
    forgotten = [job for job, name in jobs.items() if job not in told and not _ended(folder / name)]
    told |= slurm.accounted(frozenset(forgotten))
    return [_run(folder, name, latest.get(name, {}), told) for name in names]


def _run(sweep: Path, name: str, entry: Mapping[str, Any], known: Mapping[str, slurm.Job]) -> Run:
    folder = sweep / name
    damage = ""
    try:
        summary = read_json(folder / "summary.json") or {}
    except ValueError as error:
        summary, damage = {}, str(error)
    job = entry.get("job")
    told = known.get(job or "", slurm.Job(""))
    # a node that was lost may leave its lock: SLURM knows whether the job is still there
    lost = entry.get("cluster") == "slurm" and slurm.available() and held_elsewhere(folder)
    held = not lost and locked(folder)
    state = _state({"status": "damaged"} if damage else summary, job, told.word, held=held)
    failure = last_failure(sweep / ".submitit" / job) if job and state in ENDED else None
    if state == "stopped" and failure:
        state = "failed"
    elif state == "stopped" and told.word == "" and entry.get("cluster") == "slurm" and not slurm.available():
        state = "unknown"
    log = folder / "launch.log"
    if job and not (state == "failed" and log.exists()):  # killed: what there is stands in the job's own log
        log = sweep / ".submitit" / job / f"{job}_0_log.err"
    if state == "failed":
        reason = failure or summary.get("error", "raised")
    else:
        reason = damage or told.reason or told.word.lower() or "ended without a result"
    final = {name: summary[name] for name in ("acc1", "unique", "entropy") if name in summary}
    return Run(folder, tuple(entry.get("overrides", ())), job, state, reason, told, round_figures(folder) | final, log)


def _ended(folder: Path) -> bool:
    try:
        return (read_json(folder / "summary.json") or {}).get("status") in ("finished", "failed")
    except ValueError:  # damaged: told with the run
        return False


def _state(summary: Mapping[str, Any], job: str | None, word: str, *, held: bool) -> str:
    written = summary.get("status")
    if written == "finished":
        return "finished"
    if word in WAITING:
        return "queued"
    if word in WORKING or held:
        return "running"
    if written == "failed":
        return "failed"
    if word == "CANCELLED":
        return "cancelled"
    return "stopped" if job or written else "missing"

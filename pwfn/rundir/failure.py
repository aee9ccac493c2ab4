"""Which process of a run failed first: the others fail because of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pwfn.rundir.files import read_json, write_json

__all__ = ["first_failure", "known_failure", "last_failure", "mark_failed"]


def first_failure(job: Path, rank: int, error: str) -> str:
    """Note an error in a job's folder, unless a process has noted one before; the error that stands there.

    Args:
        job: the job's folder, with its log.
        rank: of the process that failed.
        error: what it raised.
    """
    text = f"{error} (rank {rank})" if rank else error
    job.mkdir(parents=True, exist_ok=True)
    try:
        with _place(job).open("x") as file:
            file.write(json.dumps({"error": text, "rank": rank}) + "\n")
    except FileExistsError:
        return known_failure(job) or text
    return text


def known_failure(job: Path) -> str | None:
    """The error that was noted first since the job's last start, None if there is none."""
    return _read(_place(job))


def last_failure(job: Path) -> str | None:
    """The error that was noted first since the last start that ended in one, None if there is none."""
    return _read(max(job.glob("failure_*.json"), default=job / "failure_0.json", key=lambda path: path.stat().st_mtime))


def _read(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text())["error"]) if path.exists() else None
    except ValueError:  # somebody is writing it
        return None


def _place(job: Path) -> Path:
    return job / f"failure_{os.environ.get('SLURM_RESTART_COUNT', '0')}.json"


def mark_failed(folder: Path, error: str) -> None:
    """Say so in a run's ``summary.json``, also where it broke before it could."""
    try:
        summary = read_json(folder / "summary.json") or {}
    except ValueError:  # damaged, which is what the run failed with: the file stays for its owner to see
        return
    if summary.get("status") != "finished":
        write_json(folder / "summary.json", {**summary, "status": "failed", "error": error})

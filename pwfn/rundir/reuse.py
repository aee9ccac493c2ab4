"""Finished runs of other sweeps: a run is its configuration, wherever it was asked for first."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pwfn
from pwfn.rundir.files import read_json
from pwfn.rundir.provenance import PACKAGE, git_state

__all__ = ["finished_runs", "link", "made_with", "present_code", "set_aside"]

EARLIER = ".earlier"
"""Folder in a sweep's for finished runs that were computed again."""


def finished_runs(sweep: Path, hashes: Collection[str]) -> dict[str, Path]:
    """The newest finished run of each configuration in a sweep's folder and in those beside it.

    Folders of runs are known by the hash at the end of their names. Inside a folder ``outputs`` all sweeps are looked
    at.

    Args:
        sweep: its folder.
        hashes: of the configurations, see :func:`pwfn.rundir.naming.config_hash`.
    """
    found: dict[str, tuple[float, Path]] = {}
    for folder in _sweeps(sweep):
        for name in os.listdir(folder):
            run, digits = folder / name, name[-12:]
            if digits not in hashes or run.is_symlink():
                continue
            try:
                summary = read_json(run / "summary.json") or {}
            except ValueError:  # left half written by another program
                continue
            if summary.get("status") == "finished" and summary.get("config_hash") == digits:
                when = (run / "summary.json").stat().st_mtime
                found[digits] = max(found.get(digits, (0.0, run)), (when, run))
    return {digits: run for digits, (_, run) in found.items()}


def _sweeps(sweep: Path) -> Iterator[Path]:
    above = next((folder for folder in sweep.parents if folder.name == "outputs"), sweep.parent)
    for pattern in ("*/jobs.jsonl", *(("*/*/jobs.jsonl",) if above.name == "outputs" else ())):
        yield from (path.parent for path in above.glob(pattern))


def link(place: Path, run: Path) -> None:
    """Make ``place`` a link to a run's folder, by a path that stays right when both are moved together."""
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath(run.resolve(), place.parent.resolve()), target_is_directory=True)


def set_aside(run: Path) -> None:
    """Make room for a run that is to be computed again; what was computed is kept in ``.earlier/``."""
    if run.is_symlink():
        run.unlink()
    elif run.exists():
        place = run.parent / EARLIER / time.strftime("%Y%m%d-%H%M%S") / run.name
        place.parent.mkdir(parents=True, exist_ok=True)
        run.rename(place)


def present_code() -> str:
    """The running code, by version and commit."""
    found = git_state(PACKAGE)
    return _code(pwfn.__version__, found[0] if found else {})


def made_with(run: Path) -> str:
    """The code that a finished run was made with, by version and commit."""
    summary = read_json(run / "summary.json") or {}
    return _code(summary.get("versions", {}).get("pwfn", "?"), read_json(run / "git.json") or {})


def _code(version: str, git: dict[str, object]) -> str:
    commit = str(git.get("commit", ""))[:7]
    return " ".join(filter(None, [version, commit, "with changes" if git.get("dirty") else ""]))

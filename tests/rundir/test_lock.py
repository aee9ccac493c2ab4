"""Locks of a run's folder, with ``flock`` and as on a file system without it, where a lost node leaves its file."""

from __future__ import annotations

import errno
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from pwfn.rundir import slurm
from pwfn.rundir.lock import LOCK, held_elsewhere, locked
from pwfn.rundir.status import status


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*of: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Path]:
    """A sweep with one run, entered for a job of SLURM."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text('{"status": "running"}')
    entry = {"folder": "run", "cluster": "slurm", "job": "999999_0", "overrides": []}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(entry) + "\n")
    yield tmp_path


def test_a_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    assert not locked(tmp_path)
    with FileLock(tmp_path / LOCK):
        assert locked(tmp_path) and not held_elsewhere(tmp_path)
    assert not locked(tmp_path)


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("known", ["", "RUNNING", "PENDING", "NODE_FAIL"])
def test_the_lock_of_a_lost_node_counts_as_long_as_its_job(
    known: str, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweep / "run"
    monkeypatch.setattr(slurm, "available", lambda: True)
    monkeypatch.setattr(slurm, "queue", lambda jobs: {job: slurm.Job(known) for job in jobs} if known else {})
    monkeypatch.setattr(slurm, "accounted", lambda jobs: {})
    lock = FileLock(folder / LOCK)  # stays alive: its file goes with it
    with pytest.warns(UserWarning, match="flock"):
        lock.acquire()
    assert locked(folder) and not held_elsewhere(folder)
    assert status(sweep)[0].state == ("queued" if known == "PENDING" else "running")
    pid, _, *rest = (folder / LOCK).read_text().split("\n")
    (folder / LOCK).write_text("\n".join((pid, "a-node-that-was-lost", *rest)))
    assert held_elsewhere(folder)
    expected = {"RUNNING": "running", "PENDING": "queued"}.get(known, "stopped")
    assert status(sweep)[0].state == expected

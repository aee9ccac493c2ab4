"""Locks of a run's folder, with ``flock`` and as on a file system without it, where a lost node leaves its file."""

from __future__ import annotations

import errno
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from hydra_plugins.pwfn_launcher import job
from hydra_plugins.pwfn_launcher.queueing import sort_out
from omegaconf import OmegaConf

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


def move(lock: Path) -> None:
    """Make a held lock that of a process on another node, which is lost."""
    pid, _, *rest = lock.read_text().split("\n")
    lock.write_text("\n".join((pid, "a-node-that-was-lost", *rest)))


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
    move(folder / LOCK)
    assert held_elsewhere(folder)
    expected = {"RUNNING": "running", "PENDING": "queued"}.get(known, "stopped")
    assert status(sweep)[0].state == expected


@pytest.mark.usefixtures("no_flock")
@pytest.mark.filterwarnings("ignore:.*flock")
@pytest.mark.parametrize("known", ["", "RUNNING", "PENDING", "NODE_FAIL"])
def test_a_job_takes_up_the_run_of_a_lost_node(known: str, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sweep / "run"
    monkeypatch.setattr(slurm, "available", lambda: True)
    monkeypatch.setattr(slurm, "queue", lambda jobs: {job: slurm.Job(known) for job in jobs} if known else {})
    monkeypatch.setattr(slurm, "accounted", lambda jobs: {})
    monkeypatch.setattr(job, "PATIENCE", 0.2)
    lost, mine = FileLock(folder / LOCK), FileLock(folder / LOCK)
    lost.acquire()
    move(folder / LOCK)
    again = OmegaConf.create({"hydra": {"sweep": {"subdir": "run"}}})
    todo, _ = sort_out(sweep, [again], rerun=False)
    if known in ("RUNNING", "PENDING"):
        assert todo == []
        with pytest.raises(job.JobFailed, match=r"entered for it: 999999_0\); this one, 5_0, ends"):
            job._acquire(mine, SimpleNamespace(job_id="5_0"))
    else:
        assert todo == [again]
        job._acquire(mine, SimpleNamespace(job_id="5_0"))
        assert locked(folder) and not held_elsewhere(folder)

"""Runs of several processes on a real SLURM: what they ask for, and how they end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from sweep import Sweep

from pwfn.rundir.slurm import queue

pytestmark = pytest.mark.slurm

TWO_RANKS = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "hydra.launcher.mem_gb_per_device=1.5"]
TWO_RANKS += ["hydra.launcher.mem_gb=auto", "logger=csv"]


def two_ranks(root: Path, folder: Path, *more: str) -> Sweep:
    return Sweep(root, folder / "sweep", "seed=1", f"baseline.folder={folder / 'baselines'}", *TWO_RANKS, *more)


@pytest.mark.parametrize(
    ("when", "error"),
    [("SLOWLY_BROKEN_RANK", "this rank is broken on purpose"), ("SLOWLY_BROKEN_LATER", "this rank breaks in training")],
)
def test_a_rank_that_fails_ends_the_job(root: Path, tmp_path: Path, when: str, error: str) -> None:
    sweep = two_ranks(root, tmp_path)
    code, text = sweep.run(**{when: "1"})
    (run,) = sweep.runs().values()
    assert (code, run.state) == (1, "failed"), text
    assert queue([str(run.job)])[str(run.job)].word == "FAILED"
    assert error in run.reason and "rank 1" in run.reason and error in text
    assert error in json.loads((run.folder / "summary.json").read_text())["error"]
    assert "-" not in run.told.elapsed and run.told.elapsed < "1:00"  # the other rank would wait for ever
    print(f"{when}: {run.told.elapsed}; {run.reason}")


@pytest.mark.parametrize("how", ["requeued", "preempted"])
def test_two_ranks_go_on(root: Path, tmp_path: Path, how: str) -> None:
    sweep = two_ranks(root, tmp_path)
    launcher = sweep.start(seconds=0.02)
    try:
        run = sweep.wait_for_round("1")
        if how == "requeued":
            subprocess.run(["scontrol", "requeue", str(run.job)], check=True)
        else:
            urgent = ["srun", "--partition=high", "--exclusive", "--quiet", "true"]
            subprocess.run(urgent, check=True, timeout=120)
        text, _ = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, text
        (run,) = sweep.runs().values()
        assert run.state == "finished" and run.told.restarts >= 1
    finally:
        launcher.kill()
        sweep.stop()

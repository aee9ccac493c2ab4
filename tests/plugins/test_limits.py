"""What SLURM refuses, two launchers at once, and Ctrl-C: nothing is lost, nothing runs twice, a sentence says so."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock
from sweep import Sweep

from pwfn.rundir.slurm import queue

pytestmark = pytest.mark.slurm

HOLD = "+hydra.launcher.additional_parameters.hold=true"

SBATCH = """#!/bin/sh
# refuses what would be more than {limit} jobs, in the words of a cluster with MaxSubmitJobs
new=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
here=$(squeue --noheader --array --user=$(id -u) | wc -l)
if [ $((here + ${{new:-0}} + 1)) -gt {limit} ]; then
  echo "sbatch: error: AssocMaxSubmitJobLimit" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" \\
    "(job submit limit, user's size and/or time limits)" >&2
  exit 1
fi
exec {sbatch} "$@"
"""


def limited(folder: Path, limit: int) -> str:
    """A PATH with an sbatch that takes so many jobs at a time; waits until those of the test before have gone."""
    end = time.monotonic() + 120
    while left := subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.strip():
        assert time.monotonic() < end, f"SLURM has other jobs, which count: {left}"
        time.sleep(0.5)
    program = folder / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH.format(limit=limit, sbatch=shutil.which("sbatch")))
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def brief(text: str) -> list[str]:
    """The last lines of what a launcher printed, without log lines; there is no traceback among them."""
    assert "Traceback" not in text, text
    return [line for line in text.splitlines() if line.strip() and not re.match(r"\[20|Set the env", line)]


def test_submit_limit(root: Path, tmp_path: Path) -> None:
    baselines = f"baseline.folder={tmp_path / 'baselines'}"
    sweep = Sweep(root, tmp_path / "sweep", "seed=1,2,3,4", baselines, "method=kmeans", "logger=csv")
    code, text = sweep.run(PATH=limited(tmp_path, 2))
    assert code == 0, text
    assert "4 runs: 4 finished" in text and "sbatch: error" not in text
    assert len(re.findall("SLURM takes no more jobs for now: 2 ", text)) == 1  # however long it takes
    assert not list((tmp_path / "sweep" / ".submitit").glob("*.pkl"))


def test_submit_limit_detached(root: Path, tmp_path: Path) -> None:
    sweep = Sweep(root, tmp_path / "sweep", "seed=range(0,8)", HOLD, "hydra.launcher.detach=true")
    path = limited(tmp_path, 3)
    try:
        code, text = sweep.run(PATH=path)
        assert code == 1 and len(brief(text)) == 1, text
        assert "5 not submitted; the same command submits them" in text
        subprocess.run(["scancel", *{str(run.job) for run in sweep.runs().values() if run.job}], check=True)
        sweep.wait(lambda runs: [run.state for run in runs.values()].count("cancelled") == 3)
    finally:
        sweep.stop()


def test_two_launchers_at_once(root: Path, tmp_path: Path) -> None:
    sweep = Sweep(root, tmp_path / "sweep", "seed=1,2,3", HOLD, "hydra.launcher.detach=true")
    try:
        both = [sweep.start() for _ in range(2)]
        texts = [process.communicate(timeout=200)[0] for process in both]
        assert sorted(re.findall(r"(\d) to start", "".join(texts))) == ["0", "3"], texts
        arrays = {str(run.job).partition("_")[0] for run in sweep.runs().values()}
        assert len(arrays) == 1 and len(queue(str(run.job) for run in sweep.runs().values())) == 3
    finally:
        sweep.stop()


def test_a_second_job_for_a_run_ends(root: Path, tmp_path: Path) -> None:
    sweep = Sweep(root, tmp_path / "sweep", "seed=1", HOLD, "hydra.launcher.detach=true", "logger=csv")
    try:
        assert sweep.run()[0] == 0
        run = sweep.runs()["1"]
        run.folder.mkdir()
        listed = sweep.folder / "jobs.jsonl"
        entry = json.loads(listed.read_text().splitlines()[-1])
        with listed.open("a") as file:  # as if it had been submitted again
            file.write(json.dumps({**entry, "job": "1"}) + "\n")
        with FileLock(run.folder / ".lock"):  # held by the other job
            subprocess.run(["scontrol", "release", str(run.job)], check=True)
            sweep.wait(lambda runs: queue([str(run.job)])[str(run.job)].word == "FAILED")
        assert seconds(queue([str(run.job)])[str(run.job)].elapsed) < 60
        error = (sweep.folder / ".submitit" / str(run.job) / f"{run.job}_0_log.err").read_text()
        assert f"another job works on this run (entered for it: 1); this one, {run.job}, ends" in error
    finally:
        sweep.stop()


def seconds(elapsed: str) -> int:
    """SLURM's ``days-hours:minutes:seconds``, of which the first may be missing."""
    days, _, clock = elapsed.rpartition("-")
    return 86400 * int(days or 0) + sum(60**k * int(part) for k, part in enumerate(reversed(clock.split(":"))))


def test_control_c(root: Path, tmp_path: Path) -> None:
    sweep = Sweep(root, tmp_path / "sweep", "seed=1,2", HOLD)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    process = sweep.start()
    signal.signal(signal.SIGINT, before)
    try:
        runs = sweep.wait(lambda runs: len(runs) == 2 and all(run.job for run in runs.values()))
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
        array = str(runs["1"].job).partition("_")[0]
        assert process.returncode == 130 and len(brief(text)) <= 3, text
        assert f"the jobs go on; scancel {array} ends them" in text and f"status {sweep.folder}" in text
        assert {run.state for run in sweep.runs().values()} == {"queued"}
    finally:
        sweep.stop()


def test_unknown_partition(root: Path, tmp_path: Path) -> None:
    code, text = Sweep(root, tmp_path / "sweep", "seed=1,2", "hydra.launcher.partition=nope").run()
    assert code == 1 and len(brief(text)) == 1, text
    assert brief(text)[-1].endswith("Batch job submission failed: Invalid partition name specified")


def test_a_run_that_fits_no_node_says_why_it_waits(root: Path, tmp_path: Path) -> None:
    more = ["hydra.launcher.cpus_per_task=999", "hydra.launcher.detach=true"]
    sweep = Sweep(root, tmp_path / "sweep", "seed=1,2", *more)
    try:
        code, text = sweep.run()
        assert code == 0, text
        sweep.wait(lambda runs: {(run.state, run.reason) for run in runs.values()} == {("queued", "PartitionConfig")})
    finally:
        sweep.stop()


def test_mismatch_and_missing_input(root: Path, tmp_path: Path) -> None:
    sweep = Sweep(root, tmp_path / "sweep", "seed=1,2")
    code, text = sweep.run("trainer=ddp", "trainer.devices=4", "hydra.launcher.tasks_per_node=2")
    assert code == 1 and "tasks_per_node=2, but trainer.devices=4" in brief(text)[-1]
    code, text = sweep.run(f"model.checkpoint={tmp_path / 'none.pt'}")
    assert code == 1 and brief(text)[-1].startswith("model.checkpoint=")
    assert not (sweep.folder / ".submitit").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_full_disk(root: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=True)
    try:
        code, text = Sweep(root, small / "sweep", "seed=1,2").run()
        assert code == 1 and "No space left on device" in brief(text)[-1] and len(brief(text)) <= 3
    finally:
        subprocess.run(["umount", str(small)], check=True)

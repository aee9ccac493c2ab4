"""Runs of several processes on a real SLURM: what they ask for, and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import time
from datetime import datetime
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
    noted = (sweep.folder / ".submitit" / str(run.job) / "failure_0.json").stat().st_mtime
    assert ended(str(run.job)) - noted < 60  # the other rank would wait for ever


def test_arguments_of_srun_and_mail(root: Path, tmp_path: Path) -> None:
    """An environment variable that srun sets breaks the run, and SLURM hands the mail to its program."""
    sweep = Sweep(root, tmp_path / "sweep", "seed=1", "logger=csv")
    more = ["hydra.launcher.srun_args=['--export=ALL,SLOWLY_BROKEN_RANK=0']"]
    more += ["+hydra.launcher.additional_parameters={mail-user: me@there, mail-type: 'END,FAIL'}"]
    code, text = sweep.run(*more)
    (run,) = sweep.runs().values()
    assert (code, run.state) == (1, "failed") and "this rank is broken on purpose" in run.reason, text
    (file,) = (sweep.folder / ".submitit").glob("*.sh")
    submitted = file.read_text()
    assert "--kill-on-bad-exit=1 --export=ALL,SLOWLY_BROKEN_RANK=0" in submitted
    assert "#SBATCH --mail-user=me@there\n" in submitted and "#SBATCH --mail-type=END,FAIL\n" in submitted
    sent = Path("/var/log/slurm/mail.log")  # what .ci/slurm.sh makes SLURM's MailProg write
    if sent.exists():
        array = str(run.job).partition("_")[0]
        wanted = re.compile(rf"Job_id={array}\D.* Failed.* me@there$", re.M)
        end = time.monotonic() + 60
        while not wanted.search(sent.read_text()):
            assert time.monotonic() < end, sent.read_text()
            time.sleep(1)


def ended(job: str) -> float:
    """When SLURM took a job for ended, in seconds since the epoch."""
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    return datetime.fromisoformat(re.findall(r"EndTime=(\S+)", shown)[0]).timestamp()


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The final weights of a run of two ranks that nothing interrupts."""
    sweep = two_ranks(root, tmp_path_factory.mktemp("undisturbed"))
    code, text = sweep.run()
    assert code == 0, text
    (run,) = sweep.runs().values()
    return (run.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("how", ["requeued", "preempted"])
def test_two_ranks_go_on(root: Path, tmp_path: Path, undisturbed: bytes, how: str) -> None:
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
        assert (run.folder / "model.safetensors").read_bytes() == undisturbed
    finally:
        launcher.kill()
        sweep.stop()


def test_runs_are_grouped_by_what_they_ask_for(root: Path, tmp_path: Path) -> None:
    sweep = two_ranks(root, tmp_path, "method=kmeans")
    sweep.overrides[sweep.overrides.index("trainer.devices=2")] = "trainer.devices=1,2"
    code, text = sweep.run()
    assert code == 0 and "2 runs: 2 finished" in text, text
    assert len(re.findall("SLURM job", text)) == 2


def test_submission_file_of_four_gpus(root: Path, tmp_path: Path) -> None:
    sweep = Sweep(root, tmp_path / "sweep", "seed=1,2", "trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2")
    sweep.overrides = [o for o in sweep.overrides if not re.match(r"hydra.launcher.(gpus_per_node|mem_gb)=", o)]
    sweep.run("hydra.launcher.detach=true")  # there are no GPUs here: sbatch refuses what it reads
    sweep.stop()
    (file,) = (sweep.folder / ".submitit").glob("**/*.sh")
    text = file.read_text()
    for line in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "mem=64GB"):
        assert f"#SBATCH --{line}\n" in text, text
    assert "--kill-on-bad-exit=1" in text

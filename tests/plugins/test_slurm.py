"""Sweeps on a real SLURM: what interrupts a run costs nothing, and ends in the same weights as if undisturbed.

Start a SLURM with ``.ci/slurm.sh``. Slow ones (real time-outs): ``-m "slurm and slow"``.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from sweep import Sweep, point

from pwfn.rundir.slurm import queue
from pwfn.rundir.status import Run

pytestmark = pytest.mark.slurm

POINTS = ["sigma_join=std_mu,mean_sigma,keep_the_same_divide_by_2", "prior=pow2,constant"]


def weights(run: Run) -> dict[str, bytes]:
    """The final weights, bit for bit."""
    return {name: value.numpy().tobytes() for name, value in load_file(run.folder / "model.safetensors").items()}


def processes(run: Run) -> list[int]:
    """All processes of a run's job, the training process first."""
    answer = subprocess.run(["squeue", "-h", "-j", str(run.job), "-o", "%A"], capture_output=True, text=True)
    wanted = f"SLURM_JOB_ID={answer.stdout.strip()}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # ended meanwhile, or somebody else's
            continue
    trains = {pid for pid, command in found.items() if "submitit.core._submit" in command and "srun" not in command}
    (train,) = (pid for pid in trains if _parent(pid) not in trains)  # its loader workers have the same command
    return [train, *sorted(set(found) - {train})]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def job_state(run: Run) -> str:
    """SLURM's word for how a job ended."""
    return queue([str(run.job)])[str(run.job)].word


@pytest.fixture(scope="module")
def reference(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The six runs, undisturbed and with the baseline they share."""
    folder = tmp_path_factory.mktemp("reference")
    sweep = Sweep(root, folder / "sweep", *POINTS, f"baseline.folder={folder / 'baselines'}")
    code, text = sweep.run()
    assert code == 0, text
    assert "6 runs: 6 finished" in text
    return sweep.runs()


@pytest.fixture(scope="module")
def disturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The six runs again, each interrupted in another way; what was seen meanwhile."""
    folder = tmp_path_factory.mktemp("disturbed")
    sacct = folder / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text(f"#!/bin/sh\ncase $* in --noheader*) ;; *) touch {folder}/asked ;; esac\nexit 1\n")
    sacct.chmod(0o755)
    base = [f"baseline.folder={folder / 'baselines'}", "dataset.workers=1", "hydra.launcher.max_array=4"]
    sweep = Sweep(root, folder / "sweep", *POINTS, *base)
    path = f"{sacct.parent}:{os.environ['PATH']}"
    launcher = sweep.start(seconds=0.03, SLOWLY_BROKEN="2", PATH=path)
    seen: dict[str, Any] = {"sweep": sweep, "folder": folder}

    try:
        _disturb(sweep, seen)
        seen["text"], _ = launcher.communicate(timeout=400)
        seen["code"] = launcher.returncode
        seen["runs"] = sweep.runs()
        told = queue(str(run.job) for run in seen["runs"].values())
        seen["states"] = {job: known.word for job, known in told.items()}
        yield seen
    finally:
        launcher.kill()
        sweep.stop()


def _disturb(sweep: Sweep, seen: dict[str, Any]) -> None:
    """Requeue, kill, cancel and signal one run each, in the middle of its rounds."""
    first = sweep.wait_for_round("std_mu pow2")
    subprocess.run(["scontrol", "requeue", str(first.job)], check=True)
    killed = sweep.wait_for_round("std_mu constant")
    seen["masks"] = {pid: _signals(pid) for pid in processes(killed)}
    os.kill(processes(killed)[0], signal.SIGKILL)
    cancelled = sweep.wait_for_round("mean_sigma constant")
    subprocess.run(["scancel", str(cancelled.job)], check=True)
    signalled = sweep.wait_for_round("keep_the_same_divide_by_2 pow2")
    for pid in processes(signalled):
        os.kill(pid, signal.SIGUSR2)


def _signals(pid: int) -> dict[str, Any]:
    """Command of a process, and whether it handles, ignores or blocks SIGUSR2."""
    text = Path(f"/proc/{pid}/status").read_text()
    masks = dict(re.findall(r"^Sig(Cgt|Ign|Blk):\s*(\w+)", text, re.M))
    return {name: bool(int(mask, 16) >> (signal.SIGUSR2 - 1) & 1) for name, mask in masks.items()} | {
        "command": Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    }


def test_undisturbed_runs_share_one_baseline(reference: dict[str, Run]) -> None:
    sweep = next(iter(reference.values())).folder.parent
    (baseline,) = (sweep.parent / "baselines").iterdir()
    assert (baseline / "baseline.safetensors").exists()
    outputs = [(sweep / ".submitit" / f"{r.job}" / f"{r.job}_0_log.out").read_text() for r in reference.values()]
    assert sum("training the baseline" in output for output in outputs) == 1


def test_wandb_runs_of_a_sweep_share_a_group(reference: dict[str, Run]) -> None:
    folder = next(iter(reference.values())).folder.parent
    born = json.loads((folder / "sweep.json").read_text())
    for run in reference.values():
        (file,) = run.folder.glob("wandb/offline-run-*/*.wandb")
        sigma_join, prior = point(run).split()
        labels = [f"{born['name']} {born['date']}", "pwfn", f"prior={prior}", f"sigma_join={sigma_join}", "digits"]
        assert all(label.encode() in file.read_bytes() for label in labels)


def test_requeued_run_ends_in_the_same_weights(disturbed: dict[str, Any], reference: dict[str, Run]) -> None:
    run = disturbed["runs"]["std_mu pow2"]
    assert run.state == "finished"
    assert weights(run) == weights(reference["std_mu pow2"])


def test_user_signal_to_every_process_of_the_job(disturbed: dict[str, Any], reference: dict[str, Run]) -> None:
    run = disturbed["runs"]["keep_the_same_divide_by_2 pow2"]
    assert run.state == "finished"
    assert weights(run) == weights(reference["keep_the_same_divide_by_2 pow2"])


def test_untouched_run_is_complete(disturbed: dict[str, Any], reference: dict[str, Run]) -> None:
    run = disturbed["runs"]["keep_the_same_divide_by_2 constant"]
    assert run.state == "finished"
    assert weights(run) == weights(reference["keep_the_same_divide_by_2 constant"])


def test_killed_and_cancelled_runs_are_told_apart(disturbed: dict[str, Any]) -> None:
    killed, cancelled = disturbed["runs"]["std_mu constant"], disturbed["runs"]["mean_sigma constant"]
    assert (killed.state, disturbed["states"][killed.job]) == ("stopped", "FAILED")
    assert (cancelled.state, disturbed["states"][cancelled.job]) == ("cancelled", "CANCELLED")


def test_exception_fails_the_job_and_stands_in_its_log(disturbed: dict[str, Any]) -> None:
    run = disturbed["runs"]["mean_sigma pow2"]
    assert (run.state, disturbed["states"][run.job]) == ("failed", "FAILED")
    assert json.loads((run.folder / "summary.json").read_text())["status"] == "failed"
    log = (run.folder / "launch.log").read_text()
    assert "Traceback" in log and "broken on purpose" in log


def test_launcher_shows_all_runs_and_fails(disturbed: dict[str, Any]) -> None:
    text = disturbed["text"]
    assert disturbed["code"] == 1
    assert "6 runs: 3 finished, 1 stopped, 1 failed, 1 cancelled" in text
    assert "broken on purpose" in text and str(disturbed["runs"]["mean_sigma pow2"].log) in text
    assert "3 of 6 runs did not finish" in text


def test_arrays_are_split(disturbed: dict[str, Any]) -> None:
    assert len({str(run.job).partition("_")[0] for run in disturbed["runs"].values()}) == 2


def test_accounting_is_not_polled(disturbed: dict[str, Any]) -> None:
    assert not (disturbed["folder"] / "asked").exists()


def test_only_the_training_process_handles_the_signal(disturbed: dict[str, Any]) -> None:
    train, *others = disturbed["masks"].values()
    assert train["Cgt"]
    workers = [mask for mask in others if mask["command"] == train["command"]]
    services = [mask for mask in others if "wandb-core" in mask["command"]]
    assert workers and all(mask["Ign"] for mask in workers)
    assert services and all(mask["Blk"] for mask in services)


def test_same_command_resumes_though_its_launcher_is_killed(
    disturbed: dict[str, Any], reference: dict[str, Run]
) -> None:
    sweep, before = disturbed["sweep"], disturbed["runs"]
    stamps = {name: (run.folder / "summary.json").stat().st_mtime_ns for name, run in before.items()}
    launcher = sweep.start()
    rest = [name for name, run in before.items() if run.state != "finished"]
    sweep.wait(lambda runs: all(runs[name].job not in (None, before[name].job) for name in rest))
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    after = sweep.drained()
    assert {run.state for run in after.values()} == {"finished"}
    for name, run in after.items():
        untouched = stamps[name] == (run.folder / "summary.json").stat().st_mtime_ns
        assert untouched == (before[name].state == "finished"), name
        assert weights(run) == weights(reference[name]), name
        whole(run)
    ids = {name: wandb_ids(run) for name, run in after.items()}
    assert all(len(found) == 1 for found in ids.values())
    assert len(set.union(*ids.values())) == len(ids)


def whole(run: Run) -> None:
    """Every file of a finished run can be read."""
    assert json.loads((run.folder / "summary.json").read_text())["status"] == "finished"
    assert [row["round"] for row in csv.DictReader((run.folder / "rounds.csv").open())] == ["0", "1", "2"]
    assert json.loads((run.folder / "git.json").read_text())["commit"]


def wandb_ids(run: Run) -> set[str]:
    """The ids of the W&B runs in a run's folder; each start makes a folder."""
    return {path.name.rpartition("-")[2] for path in run.folder.glob("wandb/offline-run-*")}


def restarts(run: Run) -> int:
    """How often SLURM started a job again."""
    shown = subprocess.run(["scontrol", "show", "job", str(run.job)], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"Restarts=(\d+)", shown)[0])


def one_run(root: Path, folder: Path, reference: dict[str, Run], *more: str) -> Sweep:
    """A sweep of a single run that has a reference, with the reference's baseline."""
    baselines = reference["std_mu pow2"].folder.parents[1] / "baselines"
    chosen = ["sigma_join=std_mu", "prior=pow2", f"baseline.folder={baselines}"]
    return Sweep(root, folder / "sweep", *chosen, *more)


@pytest.fixture(params=[False, True], ids=["terminated", "signalled"])
def preemption(request: pytest.FixtureRequest) -> Iterator[None]:
    """How SLURM announces a preemption: by SIGTERM alone, or by the job's own signal first."""
    path = Path("/etc/slurm/slurm.conf")
    if request.param and not os.access(path, os.W_OK):
        pytest.skip(f"{path} cannot be changed here")
    before = path.read_text()
    try:
        if request.param:
            path.write_text(before + "SlurmctldParameters=preempt_send_user_signal\n")
            subprocess.run(["scontrol", "reconfigure"], check=True)
        yield
    finally:
        if request.param:
            path.write_text(before)
            subprocess.run(["scontrol", "reconfigure"], check=True)


@pytest.mark.usefixtures("preemption")
def test_preempted_run_goes_on(root: Path, tmp_path: Path, reference: dict[str, Run]) -> None:
    sweep = one_run(root, tmp_path, reference)
    launcher = sweep.start(seconds=0.03)
    try:
        sweep.wait_for_round("std_mu pow2")
        urgent = ["srun", "--partition=high", "--exclusive", "--quiet", "true"]
        subprocess.run(urgent, check=True, timeout=120)
        text, _ = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, text
        run = sweep.runs()["std_mu pow2"]
        assert restarts(run) >= 1
        assert weights(run) == weights(reference["std_mu pow2"])
        assert len(wandb_ids(run)) == 1
    finally:
        launcher.kill()
        sweep.stop()


@pytest.mark.slow
def test_controller_away_at_the_signal(root: Path, tmp_path: Path, reference: dict[str, Run]) -> None:
    """slurmctld stops before the job is signalled and comes back 90 s later: one restart, the same weights."""
    controller = Path("/run/slurmctld.pid")
    if os.geteuid() != 0 or not controller.exists():
        pytest.skip("slurmctld cannot be stopped here")
    sweep = one_run(root, tmp_path, reference)
    launcher = sweep.start(seconds=0.03)
    try:
        pids = processes(sweep.wait_for_round("std_mu pow2"))
        os.kill(int(controller.read_text()), signal.SIGTERM)
        try:
            for pid in pids:
                os.kill(pid, signal.SIGUSR2)
            time.sleep(90)
        finally:
            subprocess.run(["slurmctld"], check=True)
        text, _ = launcher.communicate(timeout=400)
        assert launcher.returncode == 0, text
        run = sweep.runs()["std_mu pow2"]
        assert restarts(run) == 1
        assert weights(run) == weights(reference["std_mu pow2"])
    finally:
        launcher.kill()
        sweep.stop()


@pytest.mark.slow
def test_several_time_outs_in_a_row(root: Path, tmp_path: Path, reference: dict[str, Run]) -> None:
    """Three epochs of 72 s under a limit of 2 minutes: at most 100 s of them are trained before the signal."""
    sweep = one_run(root, tmp_path, reference, "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=20")
    launcher = sweep.start(seconds=0.45)
    try:
        text, _ = launcher.communicate(timeout=900)
        assert launcher.returncode == 0, text
        run = sweep.runs()["std_mu pow2"]
        assert restarts(run) >= 2
        assert weights(run) == weights(reference["std_mu pow2"])
        assert len(wandb_ids(run)) == 1
    finally:
        launcher.kill()
        sweep.stop()


def test_more_jobs_than_an_array_may_hold(root: Path, tmp_path: Path) -> None:
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=True).stdout
    limit = int(re.findall(r"MaxArraySize\s*=\s*(\d+)", shown)[0])
    if limit > 50:
        pytest.skip(f"MaxArraySize={limit} is too large to exceed in a test (.ci/slurm.sh sets 21)")
    hold = "+hydra.launcher.additional_parameters.hold=true"
    sweep = Sweep(root, tmp_path / "sweep", f"seed=range(0,{limit + 2})", hold)
    try:
        code, text = sweep.run("hydra.launcher.detach=true")
        assert code == 0, text
        runs = sweep.runs()
        assert len(runs) == limit + 2
        assert {(run.state, run.reason) for run in runs.values()} == {("queued", "JobHeldUser")}
        assert len({str(run.job).partition("_")[0] for run in runs.values()}) == 2
        show = [sys.executable, "-m", "pwfn.report", "status", str(sweep.folder)]
        shown = subprocess.run(show, cwd=root, capture_output=True, text=True, check=True).stdout
        assert f"{limit + 2} runs: {limit + 2} queued" in shown and shown.count("JobHeldUser") == limit + 2
        code, text = sweep.run("hydra.launcher.detach=true")
        assert f"{limit + 2} runs, 0 to start" in text
    finally:
        sweep.stop()


def fresh_environment(folder: Path, *install: str) -> Path:
    """A virtual environment with this package installed anew; everything else is borrowed from the present one."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *install], check=True)
    return python


DISCOVER = """
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
import pwfn
print([f"{c.__module__}.{c.__name__}" for c in Plugins.instance().discover(Launcher)], pwfn.__file__)
"""


def test_fresh_installation_submits_from_elsewhere_what_it_was(
    root: Path, tmp_path: Path, reference: dict[str, Run]
) -> None:
    """Hydra finds the launchers in both kinds of installation; a queued job does not see later edits."""
    copy = tmp_path / "checkout"
    skip = shutil.ignore_patterns(".git", "outputs", "__pycache__", ".*_cache", ".hypothesis", ".benchmarks")
    shutil.copytree(root, copy, ignore=skip, symlinks=True)
    editable = fresh_environment(tmp_path / "editable", "-e", str(copy))
    found = subprocess.run([str(editable), "-c", DISCOVER], cwd="/", capture_output=True, text=True, check=True).stdout
    names = [f"hydra_plugins.pwfn_launcher.launcher.{kind}Launcher" for kind in ("Local", "Slurm")]
    assert all(name in found for name in names) and str(copy) in found

    wheel = fresh_environment(tmp_path / "wheel", str(copy))
    project = tmp_path / "project"  # launch.py, conf/ and sweeps/ without the package beside them
    project.mkdir()
    shutil.copy(copy / "launch.py", project)
    for name in ("conf", "sweeps"):
        shutil.copytree(copy / name, project / name, symlinks=True)
    hold = "+hydra.launcher.additional_parameters.hold=true"
    sweep = one_run(project, tmp_path, reference, hold)
    sweep.python = str(wheel)
    try:
        code, text = sweep.run("hydra.launcher.detach=true")
        assert code == 0, text
        (run,) = sweep.runs().values()
        assert run.state == "queued"
        (installed,) = (tmp_path / "wheel").glob("lib/*/site-packages/pwfn/experiment/run.py")
        installed.write_text("raise RuntimeError('edited after submission')")
        config = project / "conf" / "config.yaml"
        config.write_text(config.read_text().replace("seed: 1", "seed: 2"))
        subprocess.run(["scontrol", "release", str(run.job)], check=True)
        (run,) = sweep.drained().values()
        assert run.state == "finished", run.tail()
        assert weights(run) == weights(reference["std_mu pow2"])
    finally:
        sweep.stop()

"""Sweeps without SLURM: names, files, code snapshots, status, the local launcher, leaving at a signal."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra_plugins.pwfn_launcher.job import requeue
from hydra_plugins.pwfn_launcher.launcher import SlurmLauncher
from hydra_plugins.pwfn_launcher.resources import processes
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from pwfn.experiment.checkpoints import checkpointing
from pwfn.experiment.interruption import shielded
from pwfn.report.__main__ import main
from pwfn.rundir.failure import first_failure
from pwfn.rundir.files import write_json
from pwfn.rundir.naming import config_hash, run_name, sweep_name
from pwfn.rundir.provenance import git_state, snapshot
from pwfn.rundir.status import status
from pwfn.rundir.status_table import print_status

SWEEPS = ["delta", "paper_imagenet", "prior", "regulariser", "released", "schedule", "seeds", "sigma_join"]
SWEEPS += ["wfn_cifar10", "wfn_delta"]


@pytest.fixture
def composed(root: Path) -> Iterator[Any]:
    """``compose(*overrides)`` with Hydra's part, as ``launch.py`` sees it."""
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
    OmegaConf.register_new_resolver("sweep_name", lambda *, _root_: sweep_name(_root_), replace=True)
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        yield lambda *overrides: compose("config", overrides=list(overrides), return_hydra_config=True)


def test_all_sweeps_are_here(root: Path) -> None:
    assert sorted(path.stem for path in (root / "sweeps").glob("*.yaml")) == SWEEPS


@pytest.mark.parametrize("name", SWEEPS)
def test_every_point_of_a_sweep_composes_and_has_a_name_of_its_own(root: Path, composed: Any, name: str) -> None:
    header = (root / "sweeps" / f"{name}.yaml").read_text()
    assert f"# python launch.py sweeps={name}" in header
    assert all(f"# {word}:" in header for word in ("Cost", "Shows", "Quick"))
    master = composed(f"sweeps={name}")
    assert Path(master.hydra.sweep.dir).name == name
    assert master.hydra.mode.name == "MULTIRUN"
    parsed = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in master.hydra.sweeper.params.items()])
    points: list[list[str]] = [[]]
    for override in parsed:
        values = list(override.sweep_string_iterator())
        points = [[*p, f"{override.get_key_element()}={v}"] for p in points for v in values]
    assert f"{len(points)} runs" in header
    root_of_data = ["dataset.root=DIR"] if name in ("paper_imagenet", "wfn_cifar10") else []
    folders = {composed(*point, f"sweeps={name}", *root_of_data).hydra.sweep.subdir for point in points}
    assert len(folders) == len(points)


def asked(*overrides: str, sweeps: str | None = None, **content: Any) -> DictConfig:
    hydra = {"overrides": {"task": list(overrides)}, "runtime": {"choices": {"sweeps": sweeps}}}
    return OmegaConf.create({**content, "hydra": hydra})


def test_run_name_tells_what_was_asked_for() -> None:
    cfg = asked("prior=pow2", "fixing.delta_start=0.5", "sweeps=x", "logger=csv", "logger.tags=[a]", seed=1)
    name = run_name(cfg)
    assert name == f"prior-pow2_delta-start-0.5_{config_hash(cfg)}"
    assert run_name(cfg, ["fixing.delta_start"]) == f"delta-start-0.5_{config_hash(cfg)}"


@given(st.lists(st.text(max_size=60), max_size=8), st.integers())
def test_run_names_are_short_and_safe(overrides: list[str], seed: int) -> None:
    name = run_name(asked(*overrides, seed=seed))
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{11,79}", name)


def test_hash_follows_the_resolved_configuration_but_not_its_looks() -> None:
    cfg = {"a": {"x": 1, "y": "${.x}"}, "name": "n", "dataset": {"workers": 0, "limit": 5}, "logger": {"tags": []}}
    same = {"a": {"y": 1, "x": 1}, "name": "m", "dataset": {"limit": 5, "workers": 9}, "logger": {"tags": ["t"]}}
    other = {**same, "dataset": {"limit": 6, "workers": 9}}
    hashes = [config_hash(OmegaConf.create(content)) for content in (cfg, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert re.fullmatch(r"[0-9a-f]{12}", hashes[0])


def test_sweep_by_hand_is_named_by_its_keys() -> None:
    name = sweep_name(asked("prior=pow2,constant", "seed=range(1,3)", "fixing.fractions=[0.5,1]", "dataset.limit=9"))
    assert re.fullmatch(r"prior_seed_[0-9a-f]{12}", name)
    assert sweep_name(asked("seed=1,2")) != sweep_name(asked("seed=1,2,3"))
    assert sweep_name(asked("seed=1,2", sweeps="seeds")) == "seeds"


def repository(folder: Path) -> Path:
    package = folder / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    return package


def test_git_state_is_commit_and_difference(tmp_path: Path) -> None:
    package = repository(tmp_path)
    state, diff = git_state(package) or ({}, "")
    assert len(state["commit"]) == 40 and not state["dirty"] and diff == ""
    (package / "__init__.py").write_text("a = 2\n")
    (package / "new.py").write_text("")
    state, diff = git_state(package) or ({}, "")
    assert state["dirty"] and state["untracked"] == ["package/new.py"]
    assert "-a = 1\n+a = 2" in diff


def test_git_state_of_an_installed_copy_is_unknown(tmp_path: Path) -> None:
    repository(tmp_path)
    copy = tmp_path / "venv" / "package"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("")
    assert git_state(copy) is None


def test_snapshot_is_what_a_job_imports(root: Path, tmp_path: Path) -> None:
    snapshot(tmp_path / "code", root / "pwfn" / "plugins" / "hydra_plugins" / "pwfn_launcher")
    modules = "from pwfn.rundir import naming; from hydra_plugins.pwfn_launcher import job"
    show = f"{modules}; print(naming.__file__, job.__file__)"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "code")}
    found = subprocess.run([sys.executable, "-c", show], cwd="/", env=env, capture_output=True, text=True, check=True)
    assert all(path.startswith(str(tmp_path / "code")) for path in found.stdout.split())


def sweep_of(folder: Path, **runs: dict[str, Any] | None) -> Path:
    """A sweep's folder as the launcher and the runs leave it; None for a run that never started."""
    with (folder / "jobs.jsonl").open("w") as file:
        for name, summary in runs.items():
            job = None if summary is None else "77"
            entry = {"folder": name, "cluster": "local", "job": job, "overrides": [f"seed={name}", "model=m"]}
            file.write(json.dumps(entry) + "\n")
            if summary is not None:
                (folder / name).mkdir()
                (folder / name / "summary.json").write_text(json.dumps(summary))
    return folder


def test_status_reads_files(tmp_path: Path) -> None:
    finished = {"status": "finished", "acc1": 98.25, "unique": 1234, "entropy": 2.5}
    failed = {"status": "failed", "error": "ValueError: no"}
    sweep_of(tmp_path, a=finished, b=failed, c={"status": "running"}, d={"status": "running"}, e=None)
    (tmp_path / "b" / "launch.log").write_text("Traceback\n  deep\nValueError: no\n")
    (tmp_path / "c" / "rounds.csv").write_text("round,acc1_after,unique,entropy\n0,50.0,9,1.5\n1,60.5,8,1.25\n")
    with FileLock(tmp_path / "c" / ".lock"):
        runs = {run.folder.name: run for run in status(tmp_path)}
    states = {name: run.state for name, run in runs.items()}
    assert states == {"a": "finished", "b": "failed", "c": "running", "d": "stopped", "e": "missing"}
    assert runs["a"].figures == {"acc1": 98.25, "unique": 1234, "entropy": 2.5}
    assert runs["c"].figures == {"round": 1, "acc1": 60.5, "unique": 8, "entropy": 1.25}
    assert runs["b"].tail(2) == ["  deep", "ValueError: no"] and runs["b"].reason == "ValueError: no"


def test_status_prints_what_differs_and_what_failed(tmp_path: Path) -> None:
    failed = {"status": "failed", "error": "ValueError: no"}
    sweep_of(tmp_path, a={"status": "finished", "acc1": 98.25, "unique": 1234, "entropy": 2.5}, b=failed)
    (tmp_path / "b" / "launch.log").write_text("ValueError: [no]\n")
    text = io.StringIO()
    print_status(status(tmp_path), Console(file=text, width=120))
    assert re.search(r"seed=a .* 77 .* finished .* 98.25 .* 1,234 .* 2.500", text.getvalue())
    assert "model=m" not in text.getvalue()
    assert "    ValueError: [no]" in text.getvalue() and str(tmp_path / "b" / "launch.log") in text.getvalue()
    assert "2 runs: 1 finished, 1 failed" in text.getvalue()


def test_status_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "no sweep" in capsys.readouterr().err
    sweep_of(tmp_path, a={"status": "finished", "acc1": 1.0, "unique": 1, "entropy": 0.0})
    assert main(["status", str(tmp_path)]) == 0
    (tmp_path / "a" / "summary.json").write_text('{"status": "failed"}')
    assert main(["status", str(tmp_path)]) == 1


def test_status_is_watched_until_the_runs_end(root: Path, tmp_path: Path) -> None:
    sweep_of(tmp_path, a={"status": "running"})
    command = [sys.executable, "-m", "pwfn.report", "status", str(tmp_path), "--watch", "0.2"]
    with FileLock(tmp_path / "a" / ".lock"):
        watching = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert watching.stdout is not None
        assert any("1 runs: 1 running" in line for line in watching.stdout)  # reads on until it says so
        write_json(tmp_path / "a" / "summary.json", {"status": "finished", "acc1": 98.25})
    text, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0 and text.splitlines()[-1] == "1 runs: 1 finished" and "98.25" in text


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **answers: str) -> None:
    """A PATH with nothing but these programs, which print what is given and note that they were asked."""
    folder.mkdir()
    for name, answer in answers.items():
        (folder / f"{name}.txt").write_text(answer)
        (folder / name).write_text(
            f'#!/bin/sh\necho >>{folder}/{name}.asked\nwhile read -r l; do echo "$l"; done <{folder}/{name}.txt'
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def on_slurm(sweep: Path, *jobs: str) -> Path:
    with (sweep / "jobs.jsonl").open("w") as file:
        for job in jobs:
            entry = {"folder": f"run{job}", "cluster": "slurm", "job": job, "overrides": [f"seed={job}"]}
            file.write(json.dumps(entry) + "\n")
    return sweep


def line(job: str, task: str, state: str, elapsed: str, restarts: int, node: str, reason: str) -> str:
    return f"{job:24}{task:24}{state:24}{elapsed:20}{restarts:<12}{node:64}{reason}\n"


def test_status_asks_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = line("5", "0", "PENDING", "0:00", 0, "", "ReqNodeNotAvail, Reserved for maintenance")
    answer += line("5", "1", "RUNNING", "1-02:03:04", 2, "node17", "None")
    answer += line("5", "2", "CANCELLED", "0:00", 0, "", "JobHeldUser")
    answer += line("6", "N/A", "CANCELLED", "0:00", 0, "", "JobHeldUser")  # all that is left of an array
    accounts = "4|OUT_OF_MEMORY|01:00:00|node3\n3_1|CANCELLED by 0|00:00:00|None assigned\n"
    programs(tmp_path / "bin", monkeypatch, squeue=answer, sacct=accounts)
    sweep = on_slurm(tmp_path, "5_0", "5_1", "5_2", "6_1", "4", "3_1", "2")
    logs = [sweep / "run5_1" / "launch.log", *(sweep / ".submitit" / "5_1" / f"5_1_{k}_log.err" for k in (0, 1))]
    for log in logs:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    for _ in range(3):
        runs = {str(run.job): run for run in status(sweep)}
    states = ["queued", "running", "cancelled", "cancelled", "stopped", "cancelled", "stopped"]
    assert [run.state for run in runs.values()] == states
    assert runs["5_0"].reason == "ReqNodeNotAvail, Reserved for maintenance" and runs["4"].reason == "out_of_memory"
    assert (runs["5_1"].told.node, runs["5_1"].told.restarts) == ("node17", 2)
    assert len((tmp_path / "bin" / "sacct.asked").read_text().splitlines()) == 1
    text = io.StringIO()
    print_status(list(runs.values()), Console(file=text, width=160, soft_wrap=True))
    assert re.search(r"5_1 .* running .* node17 .* 1-02:03:04 \(start 3\)", text.getvalue())
    assert re.search(r"5_0 .* queued .* ReqNodeNotAvail, Reserved for maintenance", text.getvalue())
    assert f"seed=5_1: tail -f {' '.join(map(str, logs))}" in text.getvalue().splitlines()


def test_requeue_waits_for_the_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $* >>{tmp_path}/asked\n[ $(wc -l <{tmp_path}/asked) = 3 ]\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    requeue("41_3")
    assert (tmp_path / "asked").read_text().splitlines() == ["requeue 41_3"] * 3


def test_without_slurm_its_runs_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path / "bin", monkeypatch)
    assert [run.state for run in status(on_slurm(tmp_path, "5_0", "5_1"))] == ["unknown"] * 2


def test_long_lists_are_folded(tmp_path: Path) -> None:
    sweep_of(tmp_path, **{f"r{i}": {"status": "running"} for i in range(200)})
    for everything, lines in ((False, 40), (True, 240)):
        text = io.StringIO()
        print_status(status(tmp_path), Console(file=text, width=160, soft_wrap=True), everything=everything)
        assert len(text.getvalue().splitlines()) < lines and "200 runs: 200 stopped" in text.getvalue()


def test_status_names_the_rank_that_failed_first(tmp_path: Path) -> None:
    sweep_of(tmp_path, a={"status": "failed", "error": "RuntimeError: Connection closed by peer"})
    job = tmp_path / ".submitit" / "77"
    assert first_failure(job, 1, "ValueError: no") == "ValueError: no (rank 1)"
    assert first_failure(job, 0, "RuntimeError: Connection closed by peer") == "ValueError: no (rank 1)"
    (run,) = status(tmp_path)
    assert (run.state, run.reason) == ("failed", "ValueError: no (rank 1)")


def test_detached_optimising_sweep_is_refused(root: Path, tmp_path: Path) -> None:
    class Optimiser(BasicSweeper):
        """Stands for any sweeper that needs results."""

    config = OmegaConf.create({"hydra": {"sweeper": {"_target_": f"{__name__}.{Optimiser.__name__}"}}})
    launcher = SlurmLauncher(poll_seconds=1, detach=True)
    with pytest.raises(HydraException, match="an optimising sweeper needs the results"):
        launcher.setup(hydra_context=SimpleNamespace(config_loader=None), task_function=print, config=config)


def test_programs_started_under_a_shield_do_not_see_the_signal() -> None:
    show = ["grep", "SigBlk", "/proc/self/status"]
    with shielded():
        inside = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    outside = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    bit = 1 << (signal.SIGUSR2 - 1)
    assert int(inside.split()[1], 16) & bit
    assert not int(outside.split()[1], 16) & bit


class Line(L.LightningModule):
    """A straight line, fitted; sends this process a signal in one of its steps."""

    def __init__(self, signal_at: int | None = None) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
        self.signal_at = signal_at

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == self.signal_at:
            os.kill(os.getpid(), signal.SIGUSR2)
        return (self.line(batch) - 3 * batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: Path, model: Line) -> None:
    data = torch.utils.data.DataLoader(torch.linspace(-1, 1, 20)[:, None], batch_size=4)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", callbacks=checkpointing(folder), **quiet)
    trainer.fit(model, data)


@pytest.mark.parametrize(("signal_at", "saved"), [(2, 3), (4, 5), (9, 10)])
def test_batch_is_finished_and_saved_before_the_handler_runs(tmp_path: Path, signal_at: int, saved: int) -> None:
    seen: list[int] = []

    def handler(signum: int, frame: Any) -> None:
        checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        seen.append(checkpoint["global_step"])
        raise SystemExit(3)

    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with pytest.raises(SystemExit):
            fit(tmp_path, Line(signal_at))
        assert seen == [saved]
        assert signal.getsignal(signal.SIGUSR2) is handler
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_without_a_handler_the_signal_is_left_alone(tmp_path: Path) -> None:
    fit(tmp_path, Line())
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_local_sweep_survives_a_failing_run_and_is_resumed(root: Path, tmp_path: Path) -> None:
    """Three runs of which one raises: the others are complete; the same command runs that one alone again.

    Also where the last entry of ``jobs.jsonl`` was cut off meanwhile.
    """
    tiny = ["model.name=test_resnet", "dataset.limit=200", "dataset.batch_size=32", "baseline.epochs=1", "logger=csv"]
    tiny += ["evaluation.draws=[1]", "evaluation.noise=[]"]
    points = "fixing.fractions=[0.5,1.0],[0.25,1.0],[1.0,0.5]"
    folders = [f"hydra.sweep.dir={tmp_path / 'sweep'}", f"baseline.folder={tmp_path / 'baselines'}"]
    command = [sys.executable, str(root / "launch.py"), "-m", points, *tiny, *folders]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def launch() -> str:
        done = subprocess.run(
            [*command, "hydra.launcher.parallel=2"], cwd="/", env=env, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 1, done.stderr
        return done.stdout + done.stderr

    text = launch()
    assert "3 runs: 2 finished, 1 failed" in text and "1 of 3 runs did not finish" in text
    runs = {run.folder.name.split("_")[0]: run for run in status(tmp_path / "sweep")}
    assert "Traceback" in (runs["fractions-1.0-0.5"].folder / "launch.log").read_text()
    stamps = {name: (run.folder / "summary.json").stat().st_mtime_ns for name, run in runs.items()}
    listed = tmp_path / "sweep" / "jobs.jsonl"
    listed.write_bytes(listed.read_bytes()[:-20])  # as a full disk leaves it
    with pytest.warns(UserWarning, match=r"jobs\.jsonl: line 6 is damaged"):
        assert len(status(tmp_path / "sweep")) == 3
    text = launch()
    assert "3 runs, 1 to start" in text and "jobs.jsonl: line 6 is damaged and left out" in text
    again = {name: (run.folder / "summary.json").stat().st_mtime_ns for name, run in runs.items()}
    assert {name for name in runs if again[name] != stamps[name]} == {"fractions-1.0-0.5"}


@pytest.mark.parametrize(
    ("trainer", "gpus", "expected"),
    [
        ({"devices": 1, "strategy": "auto", "accelerator": "auto"}, 4, 1),
        ({"devices": 2, "strategy": "ddp", "accelerator": "cpu"}, 0, 2),
        ({"devices": "auto", "strategy": "ddp", "accelerator": "cpu"}, 4, 1),
        ({"devices": "auto", "strategy": "ddp", "accelerator": "gpu"}, 4, 4),
        ({"devices": -1, "strategy": "ddp", "accelerator": "auto"}, 0, 1),
        ({"devices": "0,2", "strategy": "auto", "accelerator": "gpu"}, 4, 2),
        ({"devices": [0, 1, 3], "strategy": "ddp", "accelerator": "gpu"}, 4, 3),
        ({"devices": 2, "strategy": "ddp_spawn", "accelerator": "cpu"}, 0, 1),
    ],
)
def test_a_local_run_has_a_process_per_device(trainer: dict[str, Any], gpus: int, expected: int) -> None:
    assert processes(OmegaConf.create(trainer), gpus) == expected


def test_local_sweep_over_nodes_is_refused(root: Path, tmp_path: Path) -> None:
    overrides = ["-m", "seed=1,2", "trainer=ddp", "trainer.num_nodes=2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    command = [sys.executable, str(root / "launch.py"), *overrides]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "trainer.num_nodes=1, or hydra/launcher=slurm" in done.stderr and "Traceback" not in done.stderr
    assert not any((tmp_path / "sweep" / name).exists() for name in ("jobs.jsonl", ".submitit"))


@pytest.mark.slow
def test_local_sweep_of_data_parallel_runs(root: Path, tmp_path: Path) -> None:
    """Of a method that trains, and of one that does not and so never connects its processes."""
    overrides = "-m method=pwfn,kmeans trainer=ddp trainer.devices=2 trainer.accelerator=cpu logger=csv "
    overrides += "trainer.enable_progress_bar=false evaluation.draws=[1] evaluation.noise=[] "
    overrides += "model.name=test_resnet dataset.limit=200 dataset.batch_size=32 baseline.epochs=1 "
    overrides += "fixing.fractions=[0.5,1.0] "
    overrides += f"hydra.sweep.dir={tmp_path / 'sweep'} baseline.folder={tmp_path / 'baselines'}"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(root / "launch.py"), *overrides.split()]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = status(tmp_path / "sweep")
    assert [run.state for run in runs] == ["finished"] * 2
    assert all(run.figures["unique"] < 1000 for run in runs)
    log = next(run.folder for run in runs if "pwfn" in run.folder.name) / "launch.log"
    assert all(f"GLOBAL_RANK: {rank}, MEMBER: {rank + 1}/2" in log.read_text() for rank in (0, 1))

"""Whole runs in processes of their own: what they leave behind, kills and resumes, several at once."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

import pwfn
from pwfn import scope
from pwfn.experiment.checkpoints import last_checkpoint
from pwfn.experiment.objective import FIGURES
from pwfn.rundir.files import file_digest

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "model.name=test_resnet",
    "baseline.epochs=8",
    "dataset.limit=1000",
    "fixing.fractions=[0.3,0.6,0.9,1.0]",
    "fixing.rest_epochs=2",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]


def command(folder: Path, baselines: Path, *overrides: str) -> list[str]:
    places = [f"hydra.run.dir={folder}", f"baseline.folder={baselines}"]
    return [sys.executable, str(ROOT / "launch.py"), *SMALL, *overrides, *places]


def environment() -> dict[str, str]:
    # one thread: sums are then in one order, and a loaded machine is not made slower
    return {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}


def launch(folder: Path, baselines: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, baselines, *overrides), capture_output=True, text=True, env=environment(), timeout=600
    )


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baselines")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, baselines: Path) -> tuple[Path, str]:
    """An undisturbed run: its directory and what it said."""
    folder = tmp_path_factory.mktemp("run") / "reference"
    done = launch(folder, baselines)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout + done.stderr


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def numbers(summary: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all numbers in a summary."""
    for key, value in summary.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{key}.")
        elif not isinstance(value, str):
            yield prefix + key


def test_the_run_directory(finished: tuple[Path, str]) -> None:
    folder, said = finished
    rounds, clusters = table(folder / "rounds.csv"), table(folder / "clusters.csv")
    assert [float(row["fraction"]) for row in rounds] == [0.3, 0.6, 0.9, 1.0]
    assert {c["round"] for c in clusters} == {"0", "1", "2", "3"}
    summary = json.loads((folder / "summary.json").read_text())
    keys = "status method model dataset seed params params_in_scope baseline_acc1 acc1 acc5 unique unique_nonzero "
    keys += "entropy entropy_nonzero fixed_fraction wall_seconds versions config_hash"
    assert set(keys.split()) <= set(summary)
    assert summary["status"] == "finished" and summary["fixed_fraction"] == 1
    assert set(numbers(summary)) == FIGURES  # a search may ask for each of them
    assert summary["baseline_acc1"] > 60 and summary["acc1"] > summary["baseline_acc1"] - 10
    assert int(rounds[-1]["unique"]) == summary["unique"] < 256
    for name in ("checkpoints/last.ckpt", "model.safetensors", "plots", "wandb", ".hydra/config.yaml"):
        assert (folder / name).exists(), name
    assert list((folder / "plots").glob("*.png"))
    assert str(folder) in said and "wandb sync" in said
    assert not [p for p in folder.rglob(".*.??????*") if p.suffix != ".png" and p.name.startswith(".model")]


def test_the_network_loads_into_plain_timm(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    model = timm.create_model("test_resnet", num_classes=10, in_chans=1).eval()
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict(weights, strict=True)
    values = torch.cat([getattr(m, key).flatten() for _, m, key in scope.conv_linear(model)]).unique()
    assert len(values) == json.loads((folder / "summary.json").read_text())["unique"]

    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    trained = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    pwfn.to_gaussian(trained)
    trained.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    images = torch.randn(16, 1, 32, 32)
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(logits, trained.eval()(images))
        assert torch.equal(logits, pwfn.load(folder / "model.pwfn")(images))


def history(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run record and history rows of the offline W&B run, as W&B's own reader gives them."""
    (run,) = folder.glob("wandb/offline-run-*")
    wandb = shutil.which("wandb", path=str(Path(sys.executable).parent)) or "wandb"
    said = subprocess.run([wandb, "leet", "inspect", "--json", str(run)], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    (first,) = [r["run"] for r in records if r["type"] == "run"]
    return first, [r["history"]["item"] for r in records if r["type"] == "history"]


def test_what_weights_and_biases_gets(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    run, rows = history(folder)
    text = json.dumps(run)
    assert '"sigma_join"' in text and '"fixing"' in text and "pwfn" in text
    logged = [row for row in rows if "fixing/unique" in row]
    wanted = "acc1_before acc1_after loss_after fixed fraction unique entropy entropy_nonzero order_last delta_last "
    wanted += "sigma_mean sigma_free sigma_fixed order_1 train_seconds cluster_seconds"
    assert {f"fixing/{name}" for name in wanted.split()} <= set(logged[0])
    assert [row["fixing/unique"] for row in logged] == [float(row["unique"]) for row in table(folder / "rounds.csv")]
    assert [row["round"] for row in logged] == [0, 1, 2, 3]
    everything = {name for row in rows for name in row}
    for name in ("weights", "log2_sigma_free", "log2_sigma_fixed", "centroids"):
        assert any(key.startswith(f"fixing/{name}") for key in everything), name


def test_a_finished_run_is_left_as_it_is(finished: tuple[Path, str], baselines: Path) -> None:
    folder, _ = finished
    files = [p for p in folder.rglob("*") if p.is_file() and ".hydra" not in p.parts and p.name != ".lock"]
    before = {p: p.stat().st_mtime_ns for p in files}
    done = launch(folder, baselines)
    assert done.returncode == 0
    changed = [p.name for p, stamp in before.items() if p.stat().st_mtime_ns != stamp and p.suffix != ".log"]
    assert changed == []


def test_another_configuration_is_refused(finished: tuple[Path, str], baselines: Path) -> None:
    settings = finished[0] / ".hydra" / "config.yaml"
    before = settings.read_bytes()
    done = launch(finished[0], baselines, "prior=constant")
    assert settings.read_bytes() == before
    assert done.returncode == 1 and "another configuration" in done.stderr and "Traceback" not in done.stderr


def test_evaluate_needs_the_folder_alone(finished: tuple[Path, str], tmp_path: Path) -> None:
    """Also where the configuration holds what only launch.py resolves; not where somebody has changed it."""
    folder = shutil.copytree(finished[0], tmp_path / "run", ignore=shutil.ignore_patterns("wandb"))
    settings, summary = folder / ".hydra" / "config.yaml", json.loads((folder / "summary.json").read_text())
    settings.write_text(re.sub(r"(?m)^  folder: .*$", "  folder: ${root:}/outputs/baselines", settings.read_text()))
    command = [sys.executable, "-m", "pwfn.report", "evaluate", str(folder), "evaluation.draws=[2]"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=200)
    assert done.returncode == 1 and f"{settings} has been changed since the run" in done.stderr
    (folder / "summary.json").write_text(json.dumps({**summary, "config_digest": file_digest(settings)}))
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    (measured,) = (folder / "evaluations").glob("*.json")
    assert json.loads(measured.read_text())["acc1"] == summary["acc1"]


def test_half_written_files_go_with_the_next_start(finished: tuple[Path, str], baselines: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "plots").mkdir(parents=True)
    left = [folder / ".summary.json.a1.tmp", folder / "plots" / ".accuracy.png.b2.tmp"]
    for path in left:
        path.write_text("half")
    launch(folder, baselines, "fixing.fractions=[1.0]", "fixing.first_epochs=0", "logger=csv", "evaluation.draws=[]")
    assert not [path for path in left if path.exists()] and (folder / "model.pwfn").exists()


def mid_epoch(folder: Path) -> bool:
    """Whether the last checkpoint lies inside an epoch."""
    path = last_checkpoint(folder)
    assert path is not None
    progress = torch.load(path, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return not progress["is_last_batch"]


def test_killed_at_any_moment_and_resumed(finished: tuple[Path, str], baselines: Path, tmp_path: Path) -> None:
    """After kills inside epochs the same command ends with the same weights, bit for bit."""
    folder, often = tmp_path / "killed", "checkpoint.minutes=0.001"
    seen: list[bool] = []
    spent: list[float] = []  # of the attempts before, in seconds
    for saves in (2, 5, 3):
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen(command(folder, baselines, often), env=environment(), stdout=said, stderr=said)
        stamps: set[int] = set()
        while len(stamps) < saves and process.poll() is None:
            path = last_checkpoint(folder)
            if path is not None:
                stamps.add(path.stat().st_mtime_ns)
            time.sleep(0.005)
        if process.poll() is not None:  # on a loaded machine a run may end before so many files have been seen
            assert process.returncode == 0, (tmp_path / "said").read_text()[-2000:]
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        seen.append(mid_epoch(folder))
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["status"] == "running"
        spent.append(summary["wall_seconds"])
    assert any(seen), "no kill fell inside an epoch"
    done = launch(folder, baselines, often)
    assert done.returncode == 0, done.stderr[-3000:]
    spent.append(json.loads((folder / "summary.json").read_text())["wall_seconds"])
    assert spent[0] == 0 and all(before < after for before, after in pairwise(spent))
    reference = finished[0]
    for name in ("model.safetensors", "sigma.safetensors"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    timing = ("train_seconds", "cluster_seconds")
    rows = [[{k: v for k, v in row.items() if k not in timing} for row in table(f / "rounds.csv")]
            for f in (folder, reference)]  # fmt: skip
    assert rows[0] == rows[1]
    ids = {path.name.rsplit("-", 1)[1] for path in folder.glob("wandb/offline-run-*")}
    assert len(ids) == 1


def test_a_baseline_is_trained_once(tmp_path: Path) -> None:
    """Two runs that start at once share one baseline; one of them trains it."""
    folders = [tmp_path / "a", tmp_path / "b"]
    runs = [
        subprocess.Popen(
            command(folder, tmp_path / "baselines", f"prior={prior}", "fixing.fractions=[1.0]", "baseline.epochs=2"),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder, prior in zip(folders, ("pow2", "constant"), strict=True)
    ]
    said = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert len(list((tmp_path / "baselines").glob("*/baseline.safetensors"))) == 1
    assert sum("training the baseline" in text for text in said) == 1
    accuracy = [json.loads((f / "summary.json").read_text())["baseline_acc1"] for f in folders]
    assert accuracy[0] == accuracy[1]


def test_divergence_fails_the_run_and_leaves_the_checkpoint(baselines: Path, tmp_path: Path) -> None:
    done = launch(tmp_path / "run", baselines, "optimizer.lr=1e5", "fixing.first_fraction=1.0")
    assert done.returncode == 1 and "optimizer.lr" in done.stderr
    assert "round 0" in done.stderr and "step" in done.stderr and "Traceback" not in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed" and "FloatingPointError" in summary["error"]
    path = last_checkpoint(tmp_path / "run")
    if path is not None:
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point())


@pytest.mark.parametrize("method", ["wfn", "apot_round", "kmeans"])
def test_other_methods_leave_the_same_files(method: str, baselines: Path, tmp_path: Path) -> None:
    done = launch(tmp_path / method, baselines, f"method={method}")
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path / method / "summary.json").read_text())
    assert summary["method"] == method and summary["fixed_fraction"] == 1 and summary["unique"] <= 400
    assert len(table(tmp_path / method / "rounds.csv")) == (4 if method == "wfn" else 1)
    assert summary["acc1"] > summary["baseline_acc1"] - 20
    assert (tmp_path / method / "model.pwfn").exists()

"""What a run leaves behind, from end to end: one small run through launch.py, read back from its directory."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pwfn.artifact import codes
from pwfn.artifact import file as artifact
from pwfn.experiment.results import figures
from pwfn.experiment.run import evaluate

SETTINGS = [
    "model.name=test_resnet",
    "baseline.epochs=1",
    "dataset.limit=200",
    "fixing.fractions=[0.5,1.0]",
    "fixing.max_unique=16",
    "evaluation.draws=[1,3]",
    "evaluation.noise=[0.1]",
    "evaluation.noise_draws=2",
    "export.shift_list=true",
    "export.codes=true",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]


def launch(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "launch.py"), *arguments]
    environment = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    done = launch(root, *SETTINGS, f"hydra.run.dir={place}/run", f"baseline.folder={place}/baselines")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "model.pwfn" in done.stdout and "times smaller" in done.stdout
    return place / "run"


def summary_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def test_max_unique_holds_over_the_whole_network(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    names = load_file(run / "sigma.safetensors").keys()
    values = torch.cat([weights[name].flatten() for name in names]).unique()
    assert len(values) <= 16 and len(values) == summary_of(run)["unique"]
    rows = list(csv.DictReader((run / "codebook.csv").open()))
    assert [float(row["value"]) for row in rows] == values.tolist()
    assert sum(int(row["count"]) for row in rows) == summary_of(run)["params_in_scope"]


def test_compressed_file_is_the_network(run: Path) -> None:
    network = artifact.load(run / "model.pwfn")
    weights = load_file(run / "model.safetensors")
    assert network.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    sizes = summary_of(run)["sizes"]
    assert sizes["entropy_coded"] == (run / "model.pwfn").stat().st_size
    assert sizes["bound_layers"] <= sizes["entropy_coded"] < sizes["fixed_width"] < sizes["float16"] < sizes["float32"]


def test_summary(run: Path) -> None:
    summary, evaluation = summary_of(run), json.loads((run / "evaluation.json").read_text())
    assert summary["status"] == "finished" and summary["ensemble_draws"] == 3
    for name in ("acc1", "acc5", "nll", "ece", "brier", "unique", "entropy"):
        assert summary[name] == evaluation["final"][name]
        assert summary[f"baseline_{name}"] == evaluation["baseline"][name]
    assert summary["ensemble_acc1"] == evaluation["final"]["ensemble"][-1]["acc1"]
    assert summary["sparsity"] == pytest.approx(summary["zeros"] / summary["params_in_scope"])
    orders = [value for name, value in evaluation["final"].items() if name.startswith("order_")]
    assert sum(orders) == pytest.approx(1)
    assert len(evaluation["baseline"]["noise"]) == len(evaluation["final"]["noise"]) == 1


def test_plots_are_on_disk_and_in_wandb(run: Path) -> None:
    drawn = {path.stem for path in (run / "plots").glob("*.png")}
    assert drawn >= {"accuracy", "codebook", "layers", "reliability", "noise", "ensemble", "sigma", "movement"}
    (logged,) = run.glob("wandb/offline-run-*")
    names = {path.name.split("_")[0] for path in logged.glob("files/media/images/plots/*.png")}
    assert names == drawn
    tables = {path.name.split("_")[0] for path in logged.glob("files/media/table/*.json")}
    assert tables >= {"codebook", "layers"}


def test_shift_list(run: Path) -> None:
    shifts = json.loads((run / "shifts.json").read_text())
    assert len(shifts["values"]) == summary_of(run)["unique"] and shifts["index_dtype"] == "uint8"


def test_codes(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    _, names, state = codes.read(run / "codes.safetensors")
    assert set(names) == load_file(run / "sigma.safetensors").keys() and state.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in state.items())


def test_evaluating_anew_gives_the_same_figures(root: Path, run: Path) -> None:
    before = {
        name: (run / name).read_bytes() for name in ("evaluation.json", "model.pwfn", "summary.json", "layers.csv")
    }
    folders = sorted(path for path in (root / "outputs").glob("*/*"))
    done = launch(root, f"evaluate={run}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert {name: (run / name).read_bytes() for name in before} == before
    assert sorted(path for path in (root / "outputs").glob("*/*")) == folders, "evaluating left a folder of its own"
    assert "python -m pwfn.report evaluate" in done.stderr  # where evaluate= has gone


def test_other_settings_are_a_record_of_their_own(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in ("evaluation.json", "model.pwfn", "summary.json")}
    assert evaluate(run, ["evaluation.draws=[2]"])["ensemble_draws"] == 2
    assert evaluate(run, ["dataset.limit=100"])["acc1"] != summary_of(run)["acc1"]
    assert {name: (run / name).read_bytes() for name in before} == before
    written = sorted(path.name for path in (run / "evaluations").iterdir())
    assert written == ["dataset.limit-100.json", "evaluation.draws--2-.json"]
    assert json.loads((run / "evaluations" / written[0]).read_text())["settings"] == ["dataset.limit=100"]


def test_mistakes_in_evaluating(run: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run"):
        evaluate(run / "nowhere")
    weights = run / "sigma.safetensors"
    moved = weights.rename(run / "elsewhere")
    with pytest.raises(ValueError, match=r"lacks sigma\.safetensors"):
        evaluate(run)
    moved.rename(weights)
    with pytest.raises(ValueError, match=r"the run has no setting 'no\.such'"):
        evaluate(run, ["no.such=1"])


def test_a_network_that_has_lost_everything_is_no_result() -> None:
    """The loss is finite and yet says that training diverged."""
    stage = {"acc1": 10.0, "acc5": 50.0, "nll": 3e17, "ece": 0.9, "brier": 1.8, "unique": 5, "entropy": 1.0}
    stage |= {"reliability": [], "ensemble": [], "noise": [], "sizes": {}}
    with pytest.raises(FloatingPointError, match=r"a loss of 3e\+17 nats: lower optimizer\.lr"):
        figures({"baseline": {**stage, "nll": 0.1}, "final": stage})
    assert figures({"baseline": stage, "final": {**stage, "nll": 0.1}})["loss"] == 0.1

"""Whole runs of APoT, after training and with it, in processes of their own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pwfn.report.paper import draw

SMALL = ["model.name=test_resnet", "baseline.epochs=2", "dataset.limit=400", "dataset.batch_size=32", "method=apot"]
SMALL += ["logger=csv", "evaluation.draws=[]", "evaluation.noise=[]", "trainer.enable_progress_bar=false"]
SMALL += ["trainer.accelerator=cpu", "method.bits=3"]


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baselines")


def launch(root: Path, baselines: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    places = [f"hydra.run.dir={folder}", f"baseline.folder={baselines}"]
    command = [sys.executable, str(root / "launch.py"), *SMALL, *overrides, *places]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)


@pytest.mark.parametrize("epochs", [0, 1])
def test_every_tensor_has_its_levels(root: Path, tmp_path: Path, baselines: Path, epochs: int) -> None:
    done = launch(root, baselines, tmp_path / "run", f"method.epochs={epochs}")
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished" and summary["fixed_fraction"] == 1
    start, state = load_file(run / "baseline.safetensors"), load_file(run / "model.safetensors")
    with (run / "layers.csv").open() as file:
        layers = [row["layer"] for row in csv.DictReader(file)]
    matrices = [name for name in layers if state[name].ndim > 1]
    for name in layers:
        inner = name in matrices[1:-1]
        assert len(state[name].unique()) <= (7 if inner else 255), name
        assert inner or (state[name] - start[name]).abs().max() > 0  # rounded uniformly, and trained
    learned = any(not state[name].equal(start[name]) for name in state if name.endswith("bn1.running_mean"))
    assert learned is bool(epochs)
    with (run / "clusters.csv").open() as file:
        inner_orders = {int(row["order"]) for row in csv.DictReader(file)}
    assert inner_orders >= {0, 1, 2}  # levels of 3 bits are of order 1, uniform ones of any
    assert draw([run], tmp_path / "to")["apot"] is None
    with (tmp_path / "to" / "apot.csv").open() as file:
        (inner,) = [row for row in csv.DictReader(file) if row["weights_of"] == "inner"]
    zeros = sum(int((state[name] == 0).sum()) for name in matrices[1:-1])
    biases = [
        name for name in layers if state[name].ndim == 1 and name.rpartition(".")[0] + ".weight" in matrices[1:-1]
    ]
    assert not biases and float(inner["order_1"]) == pytest.approx(1 - zeros / float(inner["weights"]))

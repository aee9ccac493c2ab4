"""Whole runs of rate-distortion fixing, in processes of their own."""

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

from pwfn.apot import order_of

SMALL = [
    "model.name=test_resnet",
    "baseline.epochs=2",
    "dataset.limit=400",
    "dataset.batch_size=32",
    "method=rate_distortion",
    "logger=csv",
    "evaluation.draws=[1]",
    "evaluation.noise=[]",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]
RANKS = ["trainer=ddp", "trainer.devices=2"]
QUICK = ["fixing.norm_images=100", "fixing.straight_through.fisher_images=100"]


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baselines")


def launch(root: Path, folder: Path, baselines: Path, *overrides: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    places = [f"hydra.run.dir={folder}", f"baseline.folder={baselines}"]
    command = [sys.executable, str(root / "launch.py"), *SMALL, *overrides, *places]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    with (folder / "rounds.csv").open() as file:
        return json.loads((folder / "summary.json").read_text()), list(csv.DictReader(file))


@pytest.mark.parametrize(
    "settings",
    [
        ["fixing=post_training", "fixing.post_training.images=100", "method.floor=0.01"],
        [*QUICK, "fixing.straight_through.feedback_images=0", "method.floor=0.01"],
        [*QUICK, "fixing.straight_through.feedback_images=100"],
        [*QUICK, "fixing.straight_through.feedback_images=100", "fixing.straight_through.feedback_last=true"],
        [*QUICK, *RANKS, "fixing.straight_through.feedback_images=100", "fixing.straight_through.feedback_last=true"],
        [*RANKS, "fixing=post_training", "fixing.post_training.images=100", "fixing.first_epochs=1"],
    ],
    ids=["post_training", "straight_through", "feedback", "both ends", "two ranks", "fine-tuned on two ranks"],
)
def test_ends_at_the_bits_asked_for(root: Path, tmp_path: Path, baselines: Path, settings: list[str]) -> None:
    summary, rounds = launch(root, tmp_path / "run", baselines, "method.bits=2.5", "method.max_unique=32", *settings)
    assert summary["status"] == "finished" and summary["fixed_fraction"] == 1
    assert 2.4 <= summary["entropy"] <= 2.55 and summary["unique"] <= 32
    assert summary["entropy"] == pytest.approx(float(rounds[-1]["expected_bits"]), abs=1e-6)
    assert float(rounds[-1]["lambda"]) > 0 and float(rounds[-1]["distortion"]) > 0
    weights = load_file(tmp_path / "run" / "model.safetensors")
    with (tmp_path / "run" / "layers.csv").open() as file:
        names = [row["layer"] for row in csv.DictReader(file)]
    values, counts = torch.cat([weights[name].flatten() for name in names]).unique(return_counts=True)
    assert not ("method.floor=0.01" in settings and counts.min() < 0.01 * counts.sum())
    assert len(values) == summary["unique"] and int(order_of(values).max()) <= 2
    with (tmp_path / "run" / "distortion.csv").open() as file:
        shares = [row for row in csv.DictReader(file) if row["round"] == rounds[-1]["round"]]
    assert [row["layer"].removeprefix("model.") for row in shares] == names
    assert sum(float(row["share"]) for row in shares) == pytest.approx(1, abs=1e-6)
    if "fixing=post_training" not in settings:
        assert [int(row["fixed"]) for row in rounds[:-1]] == [0, 0, 0]  # they only measure
        assert "acc1_kept" in rounds[-1]


def test_rounds_with_learned_sigma(root: Path, tmp_path: Path, baselines: Path) -> None:
    """PWFN's rounds with this assignment and the Fisher prior: a growing share is fixed."""
    rounds = ["fixing=quick", "fixing.fractions=[0.5,1.0]", "fixing.norm_images=0", "prior=fisher", "prior.images=100"]
    summary, rows = launch(root, tmp_path / "run", baselines, "method.bits=3", *rounds)
    assert [float(row["fraction"]) for row in rows] == [0.5, 1.0]
    assert int(rows[0]["fixed"]) == -(-summary["params_in_scope"] // 2) and summary["fixed_fraction"] == 1
    assert 2.9 <= summary["entropy"] <= 3.05 and summary["unique"] <= 64


def test_learning_needs_epochs(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "launch.py"), "method=rate_distortion", f"hydra.run.dir={tmp_path / 'run'}"]
    command += ["fixing.first_epochs=0", "fixing.rest_epochs=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and "without training it is fixing=post_training" in done.stderr
    assert not (tmp_path / "run" / "summary.json").exists()


def test_other_methods_refuse_its_learning(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "launch.py"), "fixing=post_training", f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and "needs method=rate_distortion" in done.stderr
    assert not (tmp_path / "run" / "summary.json").exists()

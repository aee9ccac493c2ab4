"""Mu and sigma trained together before round 0: once, for whoever asks next, and nothing fixed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pwfn import released
from pwfn.dataset.loading import DataModule
from pwfn.dataset.sources import digits
from pwfn.experiment.gaussian_baseline import train_gaussian_once
from pwfn.gaussian import GaussianWeight, flat_weights, to_gaussian
from pwfn.learning import GaussianLearning

CONFIG = {"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,), "interpolation": "bilinear", "crop_pct": 1.0}


def train(folder: Path, weight: Any = GaussianWeight, learning: Any = GaussianLearning, **more: Any) -> nn.Module:
    """A linear network on digits after two epochs, or as somebody has left it in the folder."""
    data = DataModule(digits(), 10, CONFIG, batch_size=32, limit=128, augmentation={"padding": 0.125})
    torch.manual_seed(0)
    model = to_gaussian(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), weight=weight)
    train_gaussian_once(
        model,
        data,
        folder,
        epochs=2,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        learning=partial(learning, weight=1.0),
        seed=1,
        trainer={"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
        **more,
    )
    return model


@pytest.mark.parametrize(
    ("weight", "learning"),
    [(GaussianWeight, GaussianLearning), (released.ReleasedWeight, released.ReleasedLearning)],
    ids=["ours", "released"],
)
def test_trained_once(weight: Any, learning: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = flat_weights(to_gaussian(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), weight=weight))
    trained, read = (flat_weights(train(tmp_path, weight, learning)) for _ in range(2))
    assert torch.equal(trained.mu, read.mu) and torch.equal(trained.sigma, read.sigma)
    assert not torch.equal(trained.mu, before.mu) and (trained.sigma[:640] > before.sigma[:640]).float().mean() > 0.9
    assert not trained.fixed.any()


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    whole = flat_weights(train(tmp_path / "whole"))
    steps = 0

    def criterion(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 5:  # in the second of two epochs of three steps
            raise InterruptedError
        return nn.functional.cross_entropy(logits, targets)

    with pytest.raises(InterruptedError):
        train(tmp_path / "cut", criterion=criterion)
    assert steps == 5 and not (tmp_path / "cut" / "gaussian.safetensors").exists()
    resumed = flat_weights(train(tmp_path / "cut", criterion=criterion))
    assert steps == 5 + 3  # the second epoch again
    assert torch.equal(whole.mu, resumed.mu) and torch.equal(whole.sigma, resumed.sigma)


def test_runs_begin_from_it(root: Path, tmp_path: Path) -> None:
    """The first run trains mu and sigma, the second, with another reach, finds them; both begin with these sigmas."""
    small = ["model.name=test_resnet", "baseline.epochs=1", "dataset.limit=400", "dataset.batch_size=32", "logger=csv"]
    small += ["fixing.fractions=[0.5,1.0]", "evaluation.draws=[1]", "evaluation.noise=[]", "trainer.accelerator=cpu"]
    small += [f"baseline.folder={tmp_path / 'baselines'}", "baseline.gaussian_epochs=1"]
    small += ["regulariser.weight=10", "trainer.gradient_clip_val=null"]  # sigma goes from 0.002 to 0.015 in an epoch
    environment, said, sigmas = {**os.environ, "OMP_NUM_THREADS": "1"}, [], []
    for delta in (1, 2):
        run = tmp_path / f"run{delta}"
        command = [
            sys.executable,
            str(root / "launch.py"),
            *small,
            f"fixing.delta_start={delta}",
            f"hydra.run.dir={run}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        said.append("training mu and sigma for 1 epochs" in done.stdout)
        with (run / "rounds.csv").open() as file:
            sigmas.append(float(next(csv.DictReader(file))["sigma_free"]))
    assert said == [True, False]
    (weights,) = (tmp_path / "baselines").glob("*-gaussian-*/gaussian.safetensors")
    trained = load_file(weights)
    sigma = torch.cat([value.flatten() for name, value in trained.items() if name.endswith("0.sigma")])
    assert float(sigma.mean()) > 0.008 and all(value > 0.008 for value in sigmas)

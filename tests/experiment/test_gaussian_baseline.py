"""Mu and sigma trained together before round 0: once, for whoever asks next, and nothing fixed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pwfn import released
from pwfn.dataset.loading import DataModule
from pwfn.dataset.sources import digits
from pwfn.experiment.gaussian_baseline import train_gaussian_once
from pwfn.gaussian import GaussianWeight, flat_weights, to_gaussian
from pwfn.learning import GaussianLearning


@pytest.mark.parametrize(
    ("weight", "learning"),
    [(GaussianWeight, GaussianLearning), (released.ReleasedWeight, released.ReleasedLearning)],
    ids=["ours", "released"],
)
def test_trained_once(weight: Any, learning: Any, tmp_path: Path) -> None:
    config = {"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,), "interpolation": "bilinear", "crop_pct": 1.0}
    data = DataModule(digits(), 10, config, batch_size=32, limit=128, augmentation={"padding": 0.125})
    settings = dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model = to_gaussian(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), weight=weight)
        before = flat_weights(model)
        train_gaussian_once(
            model,
            data,
            tmp_path,
            epochs=2,
            optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
            learning=partial(learning, weight=1.0),
            seed=1,
            trainer={"accelerator": "cpu", **settings},
        )
        found.append(flat_weights(model))
    trained, read = found
    assert torch.equal(trained.mu, read.mu) and torch.equal(trained.sigma, read.sigma)
    assert not torch.equal(trained.mu, before.mu) and (trained.sigma[:640] > before.sigma[:640]).float().mean() > 0.9
    assert not trained.fixed.any()

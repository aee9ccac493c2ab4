"""Data-parallel training for real: two processes on CPU (gloo), this file or ``launch.py`` being what they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import timm
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from PIL import Image
from torch import Tensor, nn

from pwfn import WeightFixing, clustering, to_gaussian
from pwfn import prior as priors
from pwfn.assignment import Assignment
from pwfn.classifier import Classifier
from pwfn.dataset.images import Images
from pwfn.dataset.loading import DataModule
from pwfn.experiment.evaluation import accuracy
from pwfn.experiment.run import evaluate
from pwfn.gaussian import gaussian_weights
from pwfn.learning import Attraction, GaussianLearning, Schedule
from pwfn.rounds import Round, Rounds

ROUNDS = Rounds((0.3, 0.7, 1.0), first_epochs=1, first_fraction=1.0, rest_epochs=1)
CONFIG = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bilinear", "crop_pct": 1}


def _image(index: int) -> Image.Image:
    pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels[:16] //= 1 + index % 4
    return Image.fromarray(pixels)


def _means_and_sigmas(model: nn.Module) -> tuple[Tensor, Tensor]:
    weights = list(gaussian_weights(model))
    sigmas = [w.sigma.detach().flatten() for _, _, w in weights if w.sigma is not None]
    return torch.cat([mu.detach().flatten() for _, mu, _ in weights]), torch.cat(sigmas or [torch.empty(0)])


class Steps(L.Callback):
    """For every step, before a round is run: whether mu and whether sigma changed."""

    def __init__(self) -> None:
        self.changed: list[tuple[bool, bool]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.before = _means_and_sigmas(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        mu, sigma = (not torch.equal(a, b) for a, b in zip(self.before, _means_and_sigmas(pl_module), strict=True))
        self.changed.append((mu, sigma))


class Dump(L.Callback):
    """Saves what a rank holds after each epoch and what changed on the way, and counts its clusterings."""

    def __init__(self, folder: Path, steps: Steps) -> None:
        self.folder, self.steps, self.clusterings = folder, steps, 0

    def assign(self, mu: Tensor, sigma: Tensor, round: Round) -> Assignment:
        self.clusterings += 1
        return clustering.assign(mu, sigma, round.fraction)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if trainer.is_last_batch:
            eps = [w.eps for _, _, w in gaussian_weights(pl_module) if w.eps is not None]
            content = {"state": pl_module.state_dict(), "eps": eps, "clusterings": self.clusterings}
            content["changed"] = self.steps.changed
            content["mixing"] = np.random.get_state()[1][:8].tolist()  # what timm.data.Mixup draws from
            torch.save(content, self.folder / f"{trainer.current_epoch}-{trainer.global_rank}.pt")


def _work(folder: Path, devices: int, batch: int, noise: bool, schedule: Schedule) -> None:
    """Train and fix a small network on ``devices`` processes; run by the tests as a program of its own."""
    L.seed_everything(0, verbose=False)
    images = Images(_image, [i % 4 for i in range(96)], place="noise")
    data = DataModule((images, images), 4, CONFIG, batch_size=batch, val_fraction=0, augmentation={"scale": (0.8, 1)})
    model: nn.Module = timm.create_model("test_vit", img_size=32, num_classes=4, drop_rate=0.0)
    if noise:
        norm = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model = nn.Sequential(norm, nn.Linear(8, 4)).to(memory_format=torch.channels_last)
    to_gaussian(model, prior=priors.pow2 if noise else None)
    steps = Steps()
    dump = Dump(folder, steps)
    fixing = WeightFixing(ROUNDS, assign=dump.assign, evaluate=lambda net: accuracy(net, data.test_dataloader(), 4))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        plugins=[LightningEnvironment()],
        max_epochs=ROUNDS.epochs,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        callbacks=[steps, GaussianLearning(ROUNDS, schedule=schedule), fixing, dump],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    penalty = None if noise else Attraction(fixing, alpha=20.0)
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-4)
    trainer.fit(Classifier(model, optimizer, 4, penalty=penalty), data)
    if trainer.is_global_zero:
        torch.save(fixing.rows, folder / "rows.pt")


def _run(
    folder: Path, devices: int, batch: int, noise: bool, schedule: Schedule = "joint"
) -> list[list[dict[str, Any]]]:
    """What each rank held after each round: ``[round][rank]``."""
    folder.mkdir()
    command = [sys.executable, __file__, str(folder), str(devices), str(batch), str(int(noise)), schedule]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [
        [torch.load(folder / f"{epoch}-{rank}.pt", weights_only=True) for rank in range(devices)]
        for epoch in range(ROUNDS.epochs)
    ]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    return _run(tmp_path_factory.mktemp("ddp") / "noisy", 2, 8, True)


@pytest.fixture(scope="module")
def alternate(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    return _run(tmp_path_factory.mktemp("ddp") / "alternate", 2, 8, True, "halves")


@pytest.mark.parametrize("dumped", ["noisy", "alternate"])
def test_ranks_hold_the_same_weights_after_every_round(dumped: str, request: pytest.FixtureRequest) -> None:
    for first, second in request.getfixturevalue(dumped):
        assert first["state"].keys() == second["state"].keys()
        assert any(key.endswith("sigma") for key in first["state"])
        assert any(key.endswith("running_mean") for key in first["state"])
        for key, value in first["state"].items():
            assert torch.equal(value, second["state"][key]), key


def test_rank_zero_alone_clusters(noisy: list[list[dict[str, Any]]]) -> None:
    assert [[rank["clusterings"] for rank in ranks] for ranks in noisy] == [[1, 0], [2, 0], [3, 0]]


def test_draws_differ_between_ranks(noisy: list[list[dict[str, Any]]]) -> None:
    for first, second in noisy:
        assert first["eps"]
        for a, b in zip(first["eps"], second["eps"], strict=True):
            assert not torch.equal(a, b)
        assert first["mixing"] != second["mixing"]


def test_mu_and_sigma_learn_in_turns(alternate: list[list[dict[str, Any]]]) -> None:
    """Three steps of mu, then three of sigma, before each round."""
    for rank in alternate[-1]:
        assert rank["changed"] == ([(True, False)] * 3 + [(False, True)] * 3) * 3


def test_figures_are_those_of_one_process(tmp_path: Path) -> None:
    """A run on two ranks, measured anew on one; the ranks' shares of 101 test images differ in size."""
    root, folder = Path(__file__).resolve().parents[2], tmp_path / "run"
    overrides = "trainer=ddp trainer.accelerator=cpu trainer.enable_progress_bar=false logger=csv dataset.limit=404 "
    overrides += "dataset.batch_size=32 dataset.eval_batch_size=32 model.name=test_resnet baseline.epochs=4 "
    overrides += "fixing.fractions=[1.0] fixing.first_fraction=1.0 evaluation.draws=[1,3] evaluation.noise=[0.2] "
    overrides += f"hydra.run.dir={folder} baseline.folder={tmp_path}"
    command = [sys.executable, str(root / "launch.py"), *overrides.split()]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    def figures() -> dict[str, float]:
        names = ("summary", "evaluation")
        return leaves({name: json.loads((folder / f"{name}.json").read_text()) for name in names})

    two = figures()
    evaluate(folder)
    one = figures()
    assert sum(two[f"/evaluation/final/reliability/{i}/count"] for i in range(20)) == 101
    assert two["/summary/baseline_acc1"] > 20  # a network that tells some classes apart
    assert {"/summary/ensemble_ece", "/evaluation/final/ensemble/1/nll", "/evaluation/final/noise/0/acc1"} <= two.keys()
    assert one == pytest.approx(two, rel=1e-5, abs=1e-6)


def leaves(content: Any, name: str = "") -> dict[str, float]:
    """Every number in nested JSON by the way to it."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {way: number for key, value in pairs for way, number in leaves(value, f"{name}/{key}").items()}
    return {name: content} if isinstance(content, int | float) else {}


def test_without_noise_two_ranks_are_one_process_with_their_batches_joined(tmp_path: Path) -> None:
    two, one = _run(tmp_path / "two", 2, 8, False), _run(tmp_path / "one", 1, 16, False)
    for ranks, (alone,) in zip(two, one, strict=True):
        for key, value in alone["state"].items():
            torch.testing.assert_close(ranks[0]["state"][key], value, atol=2e-5, rtol=1e-4, msg=key)
    rows = [torch.load(tmp_path / name / "rows.pt", weights_only=True) for name in ("two", "one")]
    for joined, single in zip(*rows, strict=True):
        assert joined["fixed"] == single["fixed"]
        assert joined["unique_fixed"] == single["unique_fixed"]
        assert joined["acc1_after"] == pytest.approx(single["acc1_after"], abs=1.1)
    trained = {key: value for key, value in one[0][0]["state"].items() if key.endswith("original")}
    assert any(not torch.equal(value, one[1][0]["state"][key]) for key, value in trained.items())


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), bool(int(sys.argv[4])), sys.argv[5])

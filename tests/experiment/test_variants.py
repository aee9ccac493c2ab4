"""Whole runs with settings that are off by default: strong augmentation, mixed images, low precision, memory format,
compilation. They run in this process, on digits in a folder of PNG files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pwfn.classifier import Classifier
from pwfn.experiment import training
from pwfn.experiment.prepare import prepare
from pwfn.experiment.run import evaluate, execute
from pwfn.gaussian import gaussian_weights

Run = Callable[..., Path]

SMALL = [
    *("model.name=test_resnet", "baseline.epochs=1", "fixing.fractions=[0.5,1.0]", "fixing.first_fraction=1.0"),
    *("dataset=folder", "dataset.batch_size=32", "dataset.eval_batch_size=512", "dataset.workers=0"),
    *("dataset.val_fraction=0.2", "evaluation.draws=[2]", "evaluation.noise=[0.1]", "logger=csv"),
    *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false"),
]
COMPILER = next(filter(shutil.which, ("g++", "clang++", "c++")), None)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 training and 61 test images as ``train/CLASS/*.png``, ``val/CLASS/*.png``."""
    root, data = tmp_path_factory.mktemp("digits"), load_digits()
    for i, (pixels, label) in enumerate(zip(data.images[:361], data.target, strict=False)):
        place = root / ("train" if i < 300 else "val") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).resize((32, 32)).convert("RGB").save(place / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def launch(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Carry a run with some overrides out; gives its folder."""
    OmegaConf.register_new_resolver("root", lambda: str(digits), replace=True)
    OmegaConf.register_new_resolver("run_name", lambda: "run", replace=True)
    OmegaConf.register_new_resolver("sweep_name", lambda: "sweep", replace=True)
    places = [f"dataset.root={digits}", f"baseline.folder={tmp_path_factory.mktemp('baselines')}"]
    size = "+dataset.data_config={input_size: [3, 32, 32], crop_pct: 1.0}"

    def carry_out(*overrides: str, folder: Path | None = None) -> Path:
        folder = folder or tmp_path_factory.mktemp("run") / "run"
        with initialize_config_dir(str(Path(__file__).resolve().parents[2] / "conf"), version_base="1.3"):
            cfg = compose("config", [*SMALL, size, *places, *overrides])
        execute(prepare(cfg, folder))
        return folder

    return carry_out


@pytest.fixture(scope="module")
def plain(launch: Run) -> Path:
    return launch()


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


def require_exact_centroids(folder: Path) -> None:
    """Every weight in scope is, as float32, one of the values picked in the last round."""
    assert summary(folder)["status"] == "finished" and summary(folder)["fixed_fraction"] == 1
    with (folder / "clusters.csv").open() as file:
        last = [float(row["centroid"]) for row in csv.DictReader(file) if row["round"] == "1"]
    weights, sigmas = load_file(folder / "model.safetensors"), load_file(folder / "sigma.safetensors")
    found = torch.cat([weights[name].flatten() for name in sigmas]).unique()
    assert found.dtype == torch.float32 and all(value.isfinite().all() for value in weights.values())
    assert set(found.tolist()) <= set(torch.tensor(last, dtype=torch.float32).tolist())
    assert len(found) == summary(folder)["unique"]


class Recorder(Classifier):
    """Keeps what its criterion was given in the last run, and the layout of the weights before."""

    seen: list[tuple[Tensor, Tensor, float]]
    layouts: set[bool]

    def __init__(self, model: nn.Module, *args: Any, criterion: nn.Module, **settings: Any) -> None:
        def recorded(logits: Tensor, targets: Tensor) -> Tensor:
            loss: Tensor = criterion(logits, targets)
            Recorder.seen.append((logits.detach(), targets, float(loss.detach())))
            return loss

        super().__init__(model, *args, criterion=recorded, **settings)
        Recorder.seen = []

    def on_fit_start(self) -> None:
        kernels = [(mu, w.sigma, w.free, w.centroid) for _, mu, w in gaussian_weights(self) if mu.ndim == 4]
        last = torch.channels_last
        Recorder.layouts = {t.is_contiguous(memory_format=last) for k in kernels for t in k if t is not None}


@pytest.mark.parametrize("alpha", ["mixup_alpha", "cutmix_alpha"])
def test_mixed_batches_reach_the_loss(plain: Path, launch: Run, monkeypatch: pytest.MonkeyPatch, alpha: str) -> None:
    monkeypatch.setattr(training, "Classifier", Recorder)
    folder = launch(f"dataset.mixup.{alpha}=0.8", "dataset.mixup.label_smoothing=0.2")
    require_exact_centroids(folder)
    mixed = 0
    for logits, targets, loss in Recorder.seen:
        assert targets.shape == logits.shape == (32, 10)
        torch.testing.assert_close(targets.sum(1), torch.ones(32))
        assert float(targets.min()) == pytest.approx(0.02)  # the smoothing, shared out among ten classes
        assert loss == pytest.approx(float(-(targets * logits.log_softmax(1)).sum(1).mean()), rel=1e-5)
        mixed += int((targets > 0.021).sum(1).max()) == 2
    assert len(Recorder.seen) == 2 * 7 and mixed > 10
    # what is measured is never mixed: the baseline, trained without, has the figures of the plain run
    for name in ("baseline_acc1", "baseline_nll", "baseline_val_acc1"):
        assert summary(folder)[name] == summary(plain)[name]


def test_label_smoothing_without_mixing(launch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Classifier", Recorder)
    require_exact_centroids(launch("dataset.mixup.label_smoothing=0.2", "dataset.batch_size=31"))
    logits, targets, loss = Recorder.seen[0]
    assert targets.shape == (31,)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, targets, label_smoothing=0.2)))


def test_odd_batches_cannot_be_mixed(launch: Run) -> None:
    with pytest.raises(ValueError, match=r"dataset\.batch_size must be even for dataset\.mixup, got 31$"):
        launch("dataset.mixup.mixup_alpha=0.8", "dataset.batch_size=31")


@pytest.mark.parametrize("name", ["rand-m9-mstd0.5-inc1", "augmix-m3-w3"])
def test_strong_augmentation(plain: Path, launch: Run, name: str) -> None:
    folder = launch(f"dataset.augmentation.auto_augment={name}")
    require_exact_centroids(folder)
    assert summary(folder)["baseline_nll"] != summary(plain)["baseline_nll"]  # it was trained on other images


def test_low_precision_and_accumulated_gradients(launch: Run) -> None:
    folder = launch("trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2")
    require_exact_centroids(folder)
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2 * 4  # 7 batches an epoch
    assert all(p.dtype == torch.float32 for p in state["state_dict"].values() if p.is_floating_point())


def test_deterministic_algorithms(plain: Path, launch: Run) -> None:
    """Nothing that a run does on a CPU is refused or comes out differently."""
    try:
        folder = launch("trainer.deterministic=true")
    finally:
        torch.use_deterministic_algorithms(False)
    weights, same = (load_file(place / "model.safetensors") for place in (plain, folder))
    assert all(weights[name].equal(same[name]) for name in weights)


def test_channels_last(plain: Path, launch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Classifier", Recorder)
    folder = launch("trainer.channels_last=true")
    assert Recorder.layouts == {True}
    require_exact_centroids(folder)
    for name in ("model.safetensors", "sigma.safetensors", "baseline.safetensors"):
        shapes = [{k: v.shape for k, v in load_file(f / name).items()} for f in (folder, plain)]
        assert shapes[0] == shapes[1]
    for name in ("baseline_acc1", "baseline_nll"):  # the same sums in another order
        assert summary(folder)[name] == pytest.approx(summary(plain)[name], rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler")
def test_compiled(launch: Run) -> None:
    folder = launch("trainer.compile=true")
    require_exact_centroids(folder)
    compiled = summary(folder)
    eager = evaluate(folder, ["trainer.compile=false"])
    for name in ("acc1", "nll", "ece", "ensemble_nll", "baseline_nll"):
        assert eager[name] == pytest.approx(compiled[name], rel=1e-4), name


def test_a_finished_run_makes_what_it_lacks(launch: Run, plain: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "run"))
    (folder / "model.pwfn").unlink()
    launch(folder=folder)
    assert (folder / "model.pwfn").read_bytes() == (plain / "model.pwfn").read_bytes()
    measured = (folder / "evaluation.json").stat().st_mtime_ns
    launch("export.codes=true", folder=folder)
    assert (folder / "codes.safetensors").exists() and (folder / "evaluation.json").stat().st_mtime_ns == measured
    launch("evaluation.draws=[1]", folder=folder)
    assert summary(folder)["ensemble_draws"] == 1 != summary(plain)["ensemble_draws"]
    measured = (folder / "evaluation.json").stat().st_mtime_ns
    launch("evaluation.draws=[1]", folder=folder)  # nothing is left to do
    assert (folder / "evaluation.json").stat().st_mtime_ns == measured
    (folder / "model.safetensors").unlink()
    launch("evaluation.draws=[1]", folder=folder)
    again, before = (load_file(place / "model.safetensors") for place in (folder, plain))
    assert again.keys() == before.keys() and all(torch.equal(again[name], before[name]) for name in again)

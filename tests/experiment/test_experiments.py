"""The experiments that ship: the paper's settings, and every one of the paper's runs on tiny random images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import timm.data
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file

from pwfn.dataset.augmentation import training_transform
from pwfn.experiment.prepare import prepare
from pwfn.experiment.run import execute

CONF = Path(__file__).resolve().parents[2] / "conf"
PAPER = {
    "resnet18": "resnet18.tv_in1k",
    "resnet34": "resnet34.bt_in1k",
    "resnet50": "resnet50.a1_in1k",
    "densenet161": "densenet161.tv_in1k",
    "deit_tiny": "deit_tiny_patch16_224.fb_in1k",
    "deit_small": "deit_small_patch16_224.fb_in1k",
}


def composed(*overrides: str) -> DictConfig:
    OmegaConf.register_new_resolver("root", lambda: str(CONF.parent), replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random images of two classes, train/ and val/."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(5):
                pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")
    return root


@pytest.mark.parametrize(("name", "pinned"), PAPER.items())
def test_the_papers_settings(name: str, pinned: str) -> None:
    cfg = composed(f"experiment=paper/{name}", "dataset.root=none")
    assert cfg.model.name == pinned and cfg.model.pretrained
    assert cfg.dataset.name == "imagenet" and cfg.dataset.num_classes == 1000 and cfg.dataset.batch_size == 128
    assert cfg.method.name == "pwfn" and cfg.scope.path == "pwfn.scope.conv_linear"
    fixing = cfg.fixing
    assert fixing.fractions == [0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0]
    assert (fixing.first_epochs, fixing.first_fraction, fixing.rest_epochs, fixing.rest_fraction) == (1, 0.05, 3, 1.0)
    assert (fixing.delta_start, fixing.delta_end, fixing.growth, fixing.min_exponent) == (1, 1, 2, -7)
    assert fixing.zero_fix and fixing.recluster == "all" and fixing.schedule == "joint" and fixing.max_order == 4
    assert cfg.prior._target_ == "pwfn.prior.pow2" and cfg.sigma_join.path == "pwfn.sigma_join.std_mu"
    assert cfg.regulariser.pull._target_ == "pwfn.regulariser.linear" and cfg.regulariser.weight == 2**-11
    assert not cfg.regulariser.biases
    optimizer = cfg.optimizer
    assert optimizer._target_ == "torch.optim.SGD"
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (1e-3, 0.9, 1e-4)
    assert cfg.trainer.gradient_clip_val == 1


@pytest.mark.parametrize("delta", ["0.0075", "0.01", "0.015"])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_the_settings_of_wfn(name: str, delta: str) -> None:
    cfg = composed(f"experiment=wfn/{name}_delta{delta}", "dataset.root=none", "trainer=gpu")
    assert cfg.model.name == f"{name}.tv_in1k" and cfg.model.pretrained
    assert cfg.method.name == "wfn" and cfg.method.delta == float(delta)
    assert (cfg.method.alpha, cfg.method.zero_distance, cfg.method.distance) == (0.4, 2**-7, "relative")
    assert cfg.fixing.fractions == [0.3, 0.6, 0.8, 0.9, 0.95, 0.975, 0.99, 0.9975, 0.999, 1.0]
    assert (cfg.fixing.first_epochs, cfg.fixing.rest_epochs, cfg.fixing.rest_fraction) == (0, 3, 1.0)
    assert (cfg.optimizer._target_, cfg.optimizer.lr, cfg.optimizer.weight_decay) == ("torch.optim.Adam", 2e-5, 0)
    assert cfg.trainer.gradient_clip_val == 0.5 and cfg.dataset.batch_size == 64


def test_the_released_images() -> None:
    dataset = composed("dataset=imagenet_released", "dataset.root=none").dataset
    assert dataset.name == "imagenet" and dataset.val_fraction == 0.1
    config = {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"}
    settings = OmegaConf.to_container(dataset.augmentation)
    train = training_transform({**config, **dataset.data_config}, **settings)
    test = timm.data.create_transform(**{**config, **dataset.data_config}, is_training=False)
    picture = Image.fromarray(np.repeat(np.arange(200, dtype=np.uint8), 100).reshape(200, 100)).convert("RGB")
    assert train(picture).shape == test(picture).shape == (3, 224, 224)
    seen = test(picture)[0] * 0.5 + 0.5
    assert float(seen.min()) * 255 < 2 and float(seen.max()) * 255 > 197  # all of it, top and bottom
    shown = train(picture)[0]
    assert 0.8 < float(shown.max() - shown.min()) / float(seen.max() - seen.min()) / 2 * (256 / 224) < 1.2
    with pytest.raises(ValueError, match=r"^dataset\.augmentation\.resize must be 224 or more"):
        training_transform({**config, **dataset.data_config}, resize=200)


@pytest.mark.parametrize(
    "path", sorted((CONF / "experiment").rglob("*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_every_experiment_begins_with_its_command(path: Path) -> None:
    first, second, *_ = path.read_text().splitlines()
    assert first == "# @package _global_"
    assert second.startswith(f"# python launch.py experiment={path.relative_to(CONF / 'experiment').with_suffix('')}")


def test_every_pinned_preset_exists_in_timm() -> None:
    pretrained = set(timm.list_pretrained())
    presets = [p.stem for p in (CONF / "model").glob("*.yaml") if p.stem not in ("timm", "digits_resnet")]
    names = [composed(f"model={name}").model for name in presets if not name.startswith("cifar")]
    assert len(names) >= 7
    assert all(model.name in pretrained and "." in model.name for model in names)


QUICK = ("resnet18", "deit_tiny")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in PAPER])
def test_dry_run(name: str, images: Path, tmp_path: Path) -> None:
    size = ["dataset.data_config.input_size=[3,32,32]"] + ["model.kwargs.img_size=32"] * name.startswith("deit")
    cfg = composed(
        f"experiment=paper/{name}",
        f"dataset.root={images}",
        "dataset.num_classes=2",
        "dataset.batch_size=4",
        "dataset.workers=0",
        "dataset.val_fraction=0.2",
        "model.pretrained=false",
        "baseline.epochs=1",
        f"baseline.folder={tmp_path / 'baselines'}",
        "fixing.fractions=[0.5,1.0]",
        "fixing.rest_epochs=1",
        "evaluation.draws=[1]",
        "evaluation.noise=[0.1]",
        "evaluation.noise_draws=1",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "logger=csv",
        *(f"+{s}" for s in size),
    )
    folder = tmp_path / "run"
    folder.mkdir()
    summary = execute(prepare(cfg, folder))
    assert json.loads((folder / "summary.json").read_text())["status"] == summary["status"] == "finished"
    assert summary["fixed_fraction"] == 1
    assert summary["unique"] < 1000
    with (folder / "rounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["fraction"]) for row in rows] == [0.5, 1.0]
    kwargs = {"img_size": 32} if name.startswith("deit") else {}
    plain = timm.create_model(PAPER[name], num_classes=2, **kwargs)
    plain.load_state_dict(load_file(folder / "model.safetensors"))
    assert torch.isfinite(plain.eval()(torch.zeros(1, 3, 32, 32))).all()

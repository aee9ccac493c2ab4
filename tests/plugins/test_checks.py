"""What the launching machine can tell of a run is told before anything is started or queued."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra_plugins.pwfn_launcher.checks import missing_input
from omegaconf import DictConfig, OmegaConf


def reading(kind: str, root: Any, checkpoint: Path | None = None, **source: Any) -> DictConfig:
    source = {"_target_": f"pwfn.dataset.{kind}", "root": "${..root}", **source}
    dataset = {"root": root if root is None else str(root), "source": source}
    return OmegaConf.create({"dataset": dataset, "model": {"checkpoint": checkpoint and str(checkpoint)}})


def test_a_folder_must_hold_both_splits(tmp_path: Path) -> None:
    place = tmp_path / "images"
    for name in ("train", "test"):
        told = f"dataset.root={place}: there is no {place / name} on this machine"
        assert missing_input(reading("sources.folder", place, test="test")) == told
        (place / name).mkdir(parents=True)
    assert missing_input(reading("sources.folder", place, test="test")) is None
    assert "there is no" in str(missing_input(reading("sources.folder", place)))  # val/


def test_weights_must_be_a_file(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    cfg = reading("sources.digits", None, weights)
    assert missing_input(cfg) == f"model.checkpoint={weights}: there is no such file on this machine"
    weights.touch()
    assert missing_input(cfg) is None
    teacher = OmegaConf.merge(cfg, {"distillation": {"teacher": {"checkpoint": f"{weights}h"}}})
    told = f"distillation.teacher.checkpoint={weights}h: there is no such file on this machine"
    assert isinstance(teacher, DictConfig) and missing_input(teacher) == told


def test_both_files_of_mnist_are_looked_for(tmp_path: Path) -> None:
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        assert f"there is no {tmp_path / name}" in str(missing_input(reading("sources.mnist_10k", tmp_path)))
        (tmp_path / name).touch()
    assert missing_input(reading("sources.mnist_10k", tmp_path)) is None


@pytest.mark.parametrize(
    ("kind", "source", "reads"),
    [
        ("sources.timm_dataset", {"name": ""}, True),
        ("sources.timm_dataset", {"name": "torch/cifar10"}, True),
        ("sources.timm_dataset", {"name": "torch/cifar10", "download": True}, False),
        ("sources.timm_dataset", {"name": "hfds/mnist"}, False),
        ("streaming.stream", {"name": "wds/shards"}, True),
        ("streaming.stream", {"name": "tfds/mnist"}, False),
        ("sources.torchvision_dataset", {"name": "CIFAR10"}, False),
        ("sources.torchvision_dataset", {"name": "CIFAR10", "download": False}, True),
    ],
)
def test_what_is_not_downloaded_must_be_there(tmp_path: Path, kind: str, source: dict[str, Any], reads: bool) -> None:
    none = tmp_path / "none"
    told = f"dataset.root={none}: there is no {none} on this machine"
    assert missing_input(reading(kind, none, **source)) == (told if reads else None)
    assert missing_input(reading(kind, tmp_path, **source)) is None
    assert missing_input(reading(kind, "https://there/{0..9}.tar", **source)) is None
    unset = "dataset.root must be set: add dataset.root=DIR"
    assert missing_input(reading(kind, None, **source)) == (unset if reads else None)


@pytest.mark.parametrize(
    ("overrides", "code", "told"),
    [
        ("fixing.growth=2,1", 1, "fixing.growth must be a number from 1.01 to 1000000, got 1"),
        ("fixing.delta_start=1,abc", 2, "fixing.delta_start must be a number from 0.000001 to 1000000, got abc"),
        ("seed=1,2 dataset=imagenet", 1, "dataset.root must be set: add dataset.root=DIR"),
        (
            "seed=1,2 dataset=timm dataset.source.name='' dataset.root=/nowhere",
            1,
            "there is no /nowhere on this machine",
        ),
    ],
)
def test_nothing_is_started_of_a_sweep_with_a_bad_run(
    root: Path, tmp_path: Path, overrides: str, code: int, told: str
) -> None:
    sweep = tmp_path / "sweep"
    command = [sys.executable, str(root / "launch.py"), "-m", *overrides.split(), f"hydra.sweep.dir={sweep}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == code and told in done.stderr and len(done.stderr.splitlines()) == 1
    assert not any((sweep / name).exists() for name in ("jobs.jsonl", ".submitit"))

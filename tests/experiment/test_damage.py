"""Damage on disk: a cached baseline is made anew, a checkpoint is refused by name."""

from __future__ import annotations

import logging
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from pwfn.dataset.images import Images
from pwfn.dataset.loading import DataModule
from pwfn.experiment.baseline import Baseline, train_once
from pwfn.experiment.checkpoints import AtomicCheckpoints
from pwfn.model.network import save_weights

CONFIG = {"input_size": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "crop_pct": 1}


def image(index: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def train(folder: Path) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    noise = Images(image, [i % 2 for i in range(8)], place="noise")
    trainer: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    train_once(
        model,
        DataModule((noise, noise), 2, CONFIG, batch_size=4, val_fraction=0, workers=0),
        Baseline(folder, epochs=1, optimizer=partial(torch.optim.SGD, lr=0.1), scheduler=None, seed=0, trainer=trainer),
    )
    return model


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_damaged_baseline_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = train(tmp_path)[1].weight
    weights = tmp_path / "baseline.safetensors"
    whole = weights.read_bytes()
    caplog.set_level(logging.WARNING)
    assert torch.equal(train(tmp_path)[1].weight, expected) and "damaged" not in caplog.text
    for at in (-3, 9, 0):  # a weight, the header, the header's length
        caplog.clear()
        flip(weights, at)
        assert torch.equal(train(tmp_path)[1].weight, expected)
        assert "baseline.safetensors is damaged and is made anew" in caplog.text
        assert load_file(weights).keys() == {"1.weight", "1.bias"} and len(weights.read_bytes()) == len(whole)


def test_a_baseline_without_a_digest_is_taken_if_it_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = train(tmp_path)[1].weight
    (tmp_path / "baseline.sha256").unlink()
    assert torch.equal(train(tmp_path)[1].weight, expected)
    assert "damaged" not in caplog.text
    (tmp_path / "baseline.safetensors").write_bytes(b"half")
    assert torch.equal(train(tmp_path)[1].weight, expected)
    assert "damaged" in caplog.text and (tmp_path / "baseline.sha256").exists()


def test_a_baseline_of_another_network_says_which_folder_to_delete(tmp_path: Path) -> None:
    train(tmp_path)
    save_weights(tmp_path / "baseline.safetensors", {"other": torch.ones(1)})
    (tmp_path / "baseline.sha256").unlink()
    with pytest.raises(ValueError, match=rf"does not fit the network .*: delete {tmp_path}"):
        train(tmp_path)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    path, plugin = tmp_path / "last.ckpt", AtomicCheckpoints()
    plugin.save_checkpoint({"w": torch.arange(1000.0), "epoch": 3}, path)
    assert plugin.load_checkpoint(path)["epoch"] == 3
    if damage == "flip":
        with zipfile.ZipFile(path) as archive:
            (stored,) = (info for info in archive.infolist() if info.file_size == 4000)
        flip(path, stored.header_offset + 1000)
    else:
        path.write_bytes({"cut": path.read_bytes()[:2000], "empty": b"", "text": b"no checkpoint"}[damage])
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged .*: delete it to train from the beginning again"):
        plugin.load_checkpoint(path)

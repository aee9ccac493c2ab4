"""Data without an index: loaders over timm's iterable datasets."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from timm.data.dataset import IterableImageDataset

from pwfn.dataset.streaming import Stream, StreamModule, stream

CONFIG = {"input_size": (3, 16, 16), "mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bilinear", "crop_pct": 1}


class Reader:
    """What timm's readers of streams offer: images of one colour, their label times ten."""

    def __init__(self, size: int) -> None:
        self.size, self.epoch = size, -1

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        for i in range(self.size):
            yield Image.new("RGB", (20, 20), (10 * (i % 3),) * 3), i % 3

    def set_epoch(self, count: int) -> None:
        self.epoch = count


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces timm's shards by :class:`Reader`; the arguments of each opening."""
    calls: list[dict[str, Any]] = []

    def create(name: str, root: str | None, **settings: Any) -> IterableImageDataset:
        calls.append({"name": name, "root": root, **settings})
        return IterableImageDataset(root, reader=Reader(20 if settings["split"] == "train" else 6))

    monkeypatch.setattr(timm.data, "create_dataset", create)
    return calls


def test_loaders(opened: list[dict[str, Any]]) -> None:
    data = StreamModule(stream(name="wds/x", root="shards", num_samples=20), 3, CONFIG, batch_size=8, seed=4)
    batches = list(data.train_dataloader())
    assert len(data.train_dataloader()) == len(batches) == 2  # the last, too small one is dropped
    assert all(images.shape == (8, 3, 16, 16) for images, _ in batches)
    assert opened[-1]["is_training"] and opened[-1]["seed"] == 4 and opened[-1]["num_samples"] == 20
    ((images, labels),) = data.test_dataloader()
    torch.testing.assert_close(images[:, 0, 0, 0] * 255, 10.0 * labels)
    assert opened[-1]["split"] == "validation" and "is_training" not in opened[-1]


def test_splits_by_name(opened: list[dict[str, Any]]) -> None:
    data = StreamModule(stream(name="wds/x", root=None, val="held", test="test"), 3, CONFIG)
    data.val_dataloader()
    assert opened[-1]["split"] == "held"
    data.test_dataloader()
    assert opened[-1]["split"] == "test"


def test_number_of_classes_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"wds/x does not tell its number of classes: set dataset\.num_classes"):
        _ = stream(name="wds/x").num_classes


def test_unknown_stream_is_named(tmp_path: Path) -> None:
    source = stream(name="tfds/nothing_of_that_name", root=tmp_path)
    assert isinstance(source, Stream)
    with pytest.raises(ValueError, match=r"no split validation of tfds/nothing.*change dataset.source or dataset.root"):
        StreamModule(source, 3, CONFIG)


def test_webdataset_shards(tmp_path: Path) -> None:
    pytest.importorskip("webdataset", reason="shards are read by the package webdataset")
    for split, size in (("train", 24), ("validation", 6)):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as shard:
            for i in range(size):
                file = io.BytesIO()
                Image.fromarray(np.full((20, 20, 3), 10 * (i % 3), np.uint8)).save(file, "png")
                for suffix, content in (("png", file.getvalue()), ("cls", str(i % 3).encode())):
                    member = tarfile.TarInfo(f"{i:03}.{suffix}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    splits = {s: {"name": s, "filenames": [f"{s}-0.tar"], "shard_lengths": [n], "num_samples": n}
              for s, n in (("train", 24), ("validation", 6))}  # fmt: skip
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    data = StreamModule(stream(name="wds/", root=tmp_path), 3, CONFIG, batch_size=8)
    assert len(data.train_dataloader()) == len(list(data.train_dataloader())) == 3
    ((images, labels),) = data.test_dataloader()
    torch.testing.assert_close(images[:, 0, 0, 0] * 255, 10.0 * labels)

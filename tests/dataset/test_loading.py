"""Splits, transforms, order and randomisation of what a network is shown."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from PIL import Image

from pwfn.dataset.augmentation import training_transform
from pwfn.dataset.images import Images
from pwfn.dataset.loading import DataModule
from pwfn.dataset.randomise import permute, permute_each
from pwfn.dataset.sampling import Order, balanced, seeded

CONFIG = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "crop_pct": 1}


def image(index: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def images(size: int = 60, classes: int = 3) -> Images:
    return Images(image, [i % classes for i in range(size)], place="noise")


def module(**changes: Any) -> DataModule:
    arguments: dict[str, Any] = {"batch_size": 8, "val_fraction": 0.2, **changes}
    return DataModule((images(), images(30)), 3, CONFIG, **arguments)


def test_validation_split_is_balanced_fixed_and_held_out() -> None:
    first, second = module(), module(seed=5)
    assert first.val.indices == second.val.indices
    assert Counter(first.val.images.labels[i] for i in first.val.indices) == {0: 4, 1: 4, 2: 4}
    assert not set(first.val.indices) & set(first.train.indices)
    assert len(first.train) == 48


def test_validation_sees_the_test_transform() -> None:
    data = module(augmentation={"auto_augment": "rand-m9-mstd0.5-inc1"})
    index = data.val.indices[0]
    plain = torch.from_numpy(np.array(image(index))).permute(2, 0, 1) / 255 * 2 - 1
    torch.testing.assert_close(data.val[0][0], plain)
    torch.testing.assert_close(data.test[7][0], torch.from_numpy(np.asarray(image(7))).permute(2, 0, 1) / 127.5 - 1)


def test_without_a_split_the_test_images_validate() -> None:
    data = module(val_fraction=0)
    assert data.val is data.test
    assert len(data.train) == 60


def test_limit_is_balanced_in_training_and_testing() -> None:
    data = module(limit=30, val_fraction=0)
    assert Counter(data.train.images.labels[i] for i in data.train.indices) == {0: 10, 1: 10, 2: 10}
    assert Counter(data.test.images.labels[i] for i in data.test.indices) == {0: 5, 1: 5, 2: 5}


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), size=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_balanced(labels: list[int], size: int, seed: int) -> None:
    chosen = balanced(labels, size, seed)
    assert chosen == sorted(set(chosen)) == balanced(labels, size, seed)
    assert len(chosen) == min(size, len(labels))
    have, taken = Counter(labels), Counter(labels[i] for i in chosen)
    most = max(taken.values())
    assert all(taken[c] >= min(have[c], most - 1) for c in have)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 4}, "noise has 3 classes, the network 4: change dataset.num_classes"),
        ({"num_classes": 2}, "noise has 3 classes, the network 2: change dataset.num_classes"),
        ({"batch_size": 49}, "48 training images do not fill one batch of 49"),
        ({"val_fraction": 1.0}, r"val_fraction must lie in \[0, 0.9\]"),
        ({"randomise": "colours"}, "randomise must be one of labels, pixels, random_pixels"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"num_classes": 3, "batch_size": 8, "val_fraction": 0.2, **changes}
    with pytest.raises(ValueError, match=message):
        DataModule((images(), images(30)), arguments.pop("num_classes"), CONFIG, **arguments)


@given(ranks=st.integers(1, 4), size=st.integers(4, 50), seed=st.integers(0, 99), epoch=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_ranks_share_an_epoch(ranks: int, size: int, seed: int, epoch: int) -> None:
    def order(rank: int, of: int) -> list[tuple[int, int]]:
        result = Order(size, seed, rank, of)
        result.epoch = epoch
        return list(result)

    parts = [order(rank, ranks) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    together = [pair for step in zip(*parts, strict=True) for pair in step]
    assert together == order(0, 1)[: len(together)]
    assert len({index for index, _ in together}) == len(together) == size // ranks * ranks


def test_an_epoch_resumes_where_it_stopped() -> None:
    whole = [batch[0] for batch in module().train_dataloader()]
    loader = module().train_dataloader()
    loader.load_state_dict({"consumed": 4})
    rest = [batch[0] for batch in loader]
    assert len(whole) == 6
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_augmentation_does_not_depend_on_workers() -> None:
    alone, helped = (list(module(workers=n).train_dataloader()) for n in (0, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(alone, helped, strict=True))


def test_seeded_leaves_the_random_state_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with seeded(7):
        inside = torch.rand(1)
    assert torch.equal(torch.rand(1), expected)
    with seeded(7):
        assert torch.equal(torch.rand(1), inside)


def test_padded_crop_is_a_shift_of_the_image() -> None:
    crop = training_transform(CONFIG, padding=0.125, hflip=0.0, color_jitter=None)
    picture = Image.fromarray(np.full((16, 16, 3), 255, np.uint8))
    seen = {tuple((crop(picture)[0] > 0).sum(d).max().item() for d in (0, 1)) for _ in range(200)}
    assert seen == {(a, b) for a in (14, 15, 16) for b in (14, 15, 16)}


def test_flip_alone_gives_two_images() -> None:
    flip = training_transform(CONFIG, scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.5, color_jitter=None)
    plain = torch.from_numpy(np.asarray(image(3))).permute(2, 0, 1) / 127.5 - 1
    with seeded(0):
        seen = [flip(image(3)) for _ in range(40)]
    kinds = [(torch.allclose(x, plain), torch.allclose(x, plain.flip(2))) for x in seen]
    assert set(kinds) == {(True, False), (False, True)}


@pytest.mark.parametrize("name", ["augmix-m3-w3", "rand-m9-mstd0.5-inc1"])
def test_strong_augmentation_is_timms(name: str) -> None:
    strong = training_transform(CONFIG, padding=0.125, auto_augment=name, re_prob=1.0)
    assert strong(image(0)).shape == (3, 16, 16)
    assert type(strong.transforms[1].transforms[0]).__name__ in ("AugMixAugment", "RandAugment")


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", ["rand-m10-n6-inc1", "rand-m0-n6", "augmix-m10-w3-d6"])
def test_augmentation_at_its_limits(name: str, mode: str) -> None:
    """Every magnitude gives an image, also those that leave none of its bits."""
    if mode == "L" and "augmix" in name and Version(timm.__version__) < Version("1.0.30"):
        pytest.skip("timm before 1.0.30 cannot mix grey images")
    channels = len(mode)
    config = {**CONFIG, "input_size": (channels, 16, 16), "mean": (0.5,) * channels, "std": (0.5,) * channels}
    strong = training_transform(config, auto_augment=name)
    for index in range(60):
        with seeded(index):
            tensor = strong(image(index).convert(mode))
        assert tensor.shape == (channels, 16, 16) and tensor.abs().max() <= 1


def test_shuffled_labels() -> None:
    data = module(randomise="labels")
    assert sorted(data.train.images.labels) == sorted(images().labels) != data.train.images.labels
    assert data.test.images.labels == images(30).labels
    assert data.train.images.labels == module(randomise="labels", seed=3).train.images.labels


def test_one_permutation_of_pixels_for_all_images() -> None:
    plain, shuffled = module(), module(randomise="pixels")
    moved = {}
    for i in (0, 1, 2):
        a, b = plain.test[i][0].flatten(1), shuffled.test[i][0].flatten(1)
        assert not torch.equal(a, b)
        where = [int((a == b[:, k : k + 1]).all(0).nonzero()[0]) for k in range(256)]
        assert sorted(where) == list(range(256))
        moved[i] = where
    assert moved[0] == moved[1] == moved[2]


def test_a_permutation_for_each_image() -> None:
    picture = torch.arange(12.0).view(1, 3, 4).repeat(2, 1, 1)
    same, first, second = (
        permute(picture, 9, seed=1),
        permute_each(picture, 0, seed=1),
        permute_each(picture, 1, seed=1),
    )
    assert torch.equal(same, permute(picture, 4, seed=1))
    assert not torch.equal(first, second)
    assert torch.equal(first, permute_each(picture, 0, seed=1))
    for x in (same, first, second):
        assert torch.equal(x[0], x[1])  # channels together
        assert sorted(x[0].flatten().tolist()) == list(range(12))


def test_grey_images_for_a_network_of_three_channels() -> None:
    grey = Images(lambda i: Image.new("L", (16, 16), 100), [0, 1, 2] * 4, place="grey")
    data = DataModule((grey, grey), 3, CONFIG, batch_size=2, val_fraction=0)
    assert data.test[0][0].shape == (3, 16, 16)
    single = {**CONFIG, "input_size": (1, 16, 16), "mean": (0.5,), "std": (0.5,)}
    assert DataModule((images(), images()), 3, single, batch_size=2).train[0][0].shape == (1, 16, 16)

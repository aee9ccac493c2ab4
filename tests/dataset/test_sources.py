"""Sources of images: what they hold, and one clear message for each kind of bad input."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pwfn.dataset.images import Images
from pwfn.dataset.sources import digits, folder, mnist_10k, timm_dataset, torchvision_dataset


def tree(root: Path, *, train: int = 3, test: int = 2, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """An ImageFolder tree of 8x8 images of one colour: 50 for the first class, 51 for the second, ..."""
    for split, count in (("train", train), ("val", test)):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (50 + label,) * 3).save(root / split / name / f"{i}.png")
    return root


def test_folder(tmp_path: Path) -> None:
    train, test = folder(root=tree(tmp_path))
    assert train.labels == [0, 0, 0, 1, 1, 1]
    assert test.labels == [0, 0, 1, 1]
    assert train.num_classes == test.num_classes == 2
    assert train.read(4).getpixel((0, 0)) == (51, 51, 51)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*nowhere/train: root must hold train/ and val/"):
        folder(root=tmp_path / "nowhere")


def test_empty_class_folder(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "train" / "eel").mkdir()
    with pytest.raises(ValueError, match=r"/train: .*eel"):
        folder(root=root)


def test_folders_of_other_classes(tmp_path: Path) -> None:
    root = tree(tmp_path)
    shutil.move(root / "val" / "dog", root / "val" / "doc")
    with pytest.raises(ValueError, match=r"differ in the classes doc, dog"):
        folder(root=root)


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    root = tree(tmp_path)
    victim = root / "train" / "dog" / "1.png"
    if content is None:  # cut off in the middle
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(victim)
        content = victim.read_bytes()[:2000]
    victim.write_bytes(content)
    train, _ = folder(root=root)
    with pytest.raises(ValueError, match=r"unreadable image .*train/dog/1.png"):
        train.read(4)


def test_relabelled() -> None:
    images = Images(lambda i: Image.new("L", (1, 1), i), [0, 1], place="memory", num_classes=3)
    other = images.relabelled([2, 0])
    assert other.labels == [2, 0]
    assert other.num_classes == 3
    assert other.read(1).getpixel((0, 0)) == 1


def test_digits() -> None:
    train, test = digits()
    assert (len(train), len(test)) == (1437, 360)
    assert train.num_classes == 10
    assert train.read(0).size == (8, 8)
    again, _ = digits()
    assert train.labels == again.labels


def test_mnist_test_images(shared: Path) -> None:
    train, test = mnist_10k(root=shared / "data")
    assert (len(train), len(test)) == (8000, 2000)
    assert train.read(0).size == (28, 28)
    counts = np.bincount(train.labels) + np.bincount(test.labels)
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # the known class sizes


def idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_idx_files_by_hand(tmp_path: Path) -> None:
    idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.arange(8 * 4).reshape(8, 2, 2))
    idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([0, 1] * 4))
    train, test = mnist_10k(root=tmp_path, test_fraction=0.25)
    assert sorted(train.labels + test.labels) == [0] * 4 + [1] * 4
    pixels = sorted(np.asarray(part.read(i)).ravel().tolist() for part in (train, test) for i in range(len(part)))
    assert pixels == np.arange(32).reshape(8, 4).tolist()


@pytest.mark.parametrize("damage", ["missing", "cut", "no gzip", "other sizes"])
def test_damaged_idx_file_is_named(tmp_path: Path, damage: str) -> None:
    images, labels = tmp_path / "t10k-images-idx3-ubyte.gz", tmp_path / "t10k-labels-idx1-ubyte.gz"
    idx(images, np.zeros((8, 2, 2)))
    idx(labels, np.array([0, 1] * 4))
    if damage == "missing":
        images.unlink()
    elif damage == "cut":
        images.write_bytes(images.read_bytes()[:-12])
    elif damage == "no gzip":
        images.write_bytes(b"hello")
    else:
        images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes()) + b"x"))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz"):
        mnist_10k(root=tmp_path)


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "MNIST"])
def test_absent_torchvision_data_names_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is neither whole in .*{tmp_path.name}.* change dataset.root"):
        torchvision_dataset(name=name, root=tmp_path, download=False)


def test_damaged_torchvision_data_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"not a batch")
    with pytest.raises(ValueError, match=rf"CIFAR10 is neither whole in .*{tmp_path.name}"):
        torchvision_dataset(name="CIFAR10", root=tmp_path, download=False)


def test_timm_folder(tmp_path: Path) -> None:
    train, test = timm_dataset(name="", root=tree(tmp_path))
    assert sorted(train.labels) == [0, 0, 0, 1, 1, 1]
    assert sorted(test.labels) == [0, 0, 1, 1]
    for i, label in enumerate(train.labels):
        assert train.read(i).getpixel((0, 0))[0] == 50 + label


def test_timm_folder_with_a_damaged_image(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "train" / "cat" / "0.png").write_bytes(b"nothing")
    train, _ = timm_dataset(name="", root=root)
    bad = [i for i, label in enumerate(train.labels) if label == 0]
    with pytest.raises(ValueError, match=r"unreadable image .*train/cat/0\.png"):  # timm itself would pass over it
        for i in bad:
            train.read(i)


def test_timm_torch_folder(tmp_path: Path) -> None:
    train, _ = timm_dataset(name="torch/image_folder", root=tree(tmp_path))
    assert train.labels == [0, 0, 0, 1, 1, 1]


def test_timm_archive(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree")
    for split in ("train", "val"):
        shutil.make_archive(str(tmp_path / split), "tar", root / split)
    train, _ = timm_dataset(name="", root=tmp_path / "train.tar")
    assert sorted(train.labels) == [0, 0, 0, 1, 1, 1]
    (tmp_path / "train.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"train\.tar"):
        timm_dataset(name="", root=tmp_path / "train.tar")


@pytest.mark.parametrize("name", ["torch/nothing", "hfds/nobody/nothing", ""])
def test_unknown_timm_dataset(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"no split train of .*change dataset.source.name or dataset.root"):
        timm_dataset(name=name, root=tmp_path / "none")

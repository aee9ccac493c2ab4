"""Sources of images and labels.

A source is a function that returns ``(train, test)``, two :class:`pwfn.dataset.images.Images`; splits, transforms
and loaders are made from them in :mod:`pwfn.dataset.loading`.
"""

from __future__ import annotations

import gzip
import math
import tarfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torchvision.datasets
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pwfn.dataset.images import Images
from pwfn.dataset.reading import ArrayImage, DatasetImage, FileName, ReaderImage, labels_of

__all__ = ["digits", "folder", "mnist_10k", "timm_dataset", "torchvision_dataset"]


def digits(*, test_fraction: float = 0.2, seed: int = 0) -> tuple[Images, Images]:
    """Return the 1,797 handwritten digits (8x8 grey) that ship inside scikit-learn, split by class."""
    data = load_digits()
    return _split(np.rint(data.images * (255 / 16)).astype(np.uint8), data.target, test_fraction, seed, "digits")


def mnist_10k(*, root: str | Path, test_fraction: float = 0.2, seed: int = 0) -> tuple[Images, Images]:
    """Read the 10,000 test images of MNIST alone (28x28 grey), split by class into training and test images.

    Args:
        root: folder of ``t10k-images-idx3-ubyte.gz`` and ``t10k-labels-idx1-ubyte.gz``.
        test_fraction: share of the images that are for testing.
        seed: of the split.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    files = [Path(root).expanduser() / f"t10k-{name}.gz" for name in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    images, labels = _idx(files[0], 3), _idx(files[1], 1)
    if len(images) != len(labels):
        raise ValueError(f"{files[0]} holds {len(images)} images, {files[1]} {len(labels)} labels")
    return _split(images, labels, test_fraction, seed, str(files[0]))


def folder(*, root: str | Path, train: str = "train", test: str = "val") -> tuple[Images, Images]:
    """Read two ImageFolder trees, ``root/train/<class>/*`` and ``root/val/<class>/*``.

    Raises:
        ValueError: if a folder is missing, a class folder is empty, or the two differ in their classes.
    """
    parts = []
    for name in (train, test):
        place = Path(root).expanduser().resolve() / name
        if not place.is_dir():
            raise ValueError(f"no folder {place}: root must hold {train}/ and {test}/")
        try:
            parts.append(torchvision.datasets.ImageFolder(str(place)))
        except FileNotFoundError as error:
            raise ValueError(f"{place}: {error}") from error
    if parts[0].classes != parts[1].classes:
        odd = sorted(set(parts[0].classes) ^ set(parts[1].classes))
        raise ValueError(f"{root}: {train}/ and {test}/ differ in the classes {', '.join(odd[:8])}")
    first, second = (
        Images(DatasetImage(p), p.targets, place=p.root, num_classes=len(p.classes), name=FileName(p.samples))
        for p in parts
    )
    return first, second


def torchvision_dataset(*, name: str, root: str | Path, download: bool = True) -> tuple[Images, Images]:
    """Read a torchvision dataset with a ``train`` argument: CIFAR10, CIFAR100, MNIST, FashionMNIST, ...

    Raises:
        ValueError: if the files are neither whole under ``root`` nor to be downloaded.
    """
    make = getattr(torchvision.datasets, name)
    place = Path(root).expanduser().resolve()
    parts = []
    for train in (True, False):
        try:
            try:
                parts.append(make(str(place), train=train, download=False))
            except (RuntimeError, OSError, EOFError, ValueError):  # not there, or damaged
                if not download:
                    raise
                parts.append(make(str(place), train=train, download=True))
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            raise ValueError(
                f"{name} is neither whole in {place} nor to be downloaded ({error}): "
                "put its files there, or change dataset.root"
            ) from error
    first, second = (
        Images(DatasetImage(p), [int(t) for t in p.targets], place=str(place), num_classes=len(p.classes))
        for p in parts
    )
    return first, second


def timm_dataset(
    *, name: str, root: str | Path | None = None, train: str = "train", test: str = "validation", **settings: Any
) -> tuple[Images, Images]:
    """Read two splits of a map-style dataset of ``timm.data.create_dataset``.

    Such are ``hfds/...``, ``torch/...``, a folder, a tar file.

    Args:
        name: as of ``timm.data.create_dataset``.
        root: folder of the files or of the download.
        train, test: names of the splits.
        settings: other arguments of ``timm.data.create_dataset``.

    Raises:
        ValueError: if there is no such dataset, or its labels are not known without reading every image.
    """
    root = None if root is None else str(Path(root).expanduser())
    place = f"{name or 'timm dataset'} in {root}"
    parts = []
    for split in (train, test):
        try:
            part = timm.data.create_dataset(name, root, split=split, **settings)
        except (AssertionError, ImportError, RuntimeError, OSError, ValueError, tarfile.TarError) as error:
            raise ValueError(
                f"no split {split} of {place} ({type(error).__name__}: {error}): "
                "change dataset.source.name or dataset.root"
            ) from error
        labels = labels_of(part)
        if labels is None:
            raise ValueError(f"{place} does not tell its labels beforehand: use a dataset of another kind")
        name_of = partial(part.filename, absolute=True) if hasattr(part, "filename") else None
        parts.append(Images(ReaderImage(part), labels, place=f"{place}, {split}", name=name_of))
    return parts[0], parts[1]


def _split(images: np.ndarray, labels: np.ndarray, fraction: float, seed: int, place: str) -> tuple[Images, Images]:
    """Split an array of images into training and test images, each class alike."""
    parts = train_test_split(images, labels, test_size=fraction, random_state=seed, stratify=labels)
    train, test = (Images(ArrayImage(parts[i]), parts[i + 2].tolist(), place=place) for i in (0, 1))
    return train, test


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """Read a gzipped file of MNIST's format: 2 zero bytes, type 8 (uint8), the number of sizes, big-endian sizes."""
    if not path.is_file():
        raise ValueError(f"no file {path}: change dataset.root")
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) - start != math.prod(shape):
        raise ValueError(f"{path} is damaged: not {dimensions}-dimensional bytes of the sizes that it states")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)

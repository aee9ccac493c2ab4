"""Sources of images and labels.

A source is a function that returns ``(train, test)``, two datasets of PIL images and class indices; splits,
transforms and loaders are made from them in :mod:`pwfn.loading`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets
from PIL import Image
from torch.utils.data import Dataset

__all__ = ["Images", "digits", "folder", "torchvision_dataset"]


class Images(Dataset[tuple[Any, int]]):
    """PIL images by index with their labels known beforehand.

    Args:
        image: gives the image at an index.
        labels: class index of every image.
    """

    def __init__(self, image: Callable[[int], Any], labels: Sequence[int]) -> None:
        self.image = image
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.image(index), self.labels[index]


class _Array:
    """``image(index)`` over an array in memory (a class, so that loader workers can be spawned)."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])


class _Item:
    """``image(index)`` of a dataset that yields ``(image, label)``."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> Any:
        return self.dataset[index][0]


def digits(*, test_fraction: float = 0.2, seed: int = 0) -> tuple[Images, Images]:
    """The 1,797 handwritten digits (8x8 grey) that ship inside scikit-learn, split by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    parts = train_test_split(images, data.target, test_size=test_fraction, random_state=seed, stratify=data.target)
    return Images(_Array(parts[0]), parts[2].tolist()), Images(_Array(parts[1]), parts[3].tolist())


def folder(*, root: str | Path, train: str = "train", test: str = "val") -> tuple[Images, Images]:
    """Two ImageFolder trees, ``root/train/<class>/*`` and ``root/val/<class>/*``.

    Raises:
        ValueError: if a folder is missing, holds no images, or the two differ in their classes.
    """
    parts = []
    for name in (train, test):
        place = Path(root).expanduser() / name
        if not place.is_dir():
            raise ValueError(f"no folder {place}: dataset.root must hold {train}/ and {test}/")
        try:
            parts.append(torchvision.datasets.ImageFolder(str(place)))
        except FileNotFoundError as error:
            raise ValueError(f"{place}: {error}") from error
    if parts[0].classes != parts[1].classes:
        odd = sorted(set(parts[0].classes) ^ set(parts[1].classes))
        raise ValueError(f"{root}: {train}/ and {test}/ differ in the classes {odd}")
    first, second = (Images(_Item(part), part.targets) for part in parts)
    return first, second


def torchvision_dataset(*, name: str, root: str | Path, download: bool = True) -> tuple[Images, Images]:
    """A torchvision dataset with a ``train`` argument: CIFAR10, CIFAR100, MNIST, FashionMNIST, ...

    Raises:
        ValueError: if the files are neither under ``root`` nor to be downloaded.
    """
    make = getattr(torchvision.datasets, name)
    parts = []
    for train in (True, False):
        try:
            parts.append(make(str(Path(root).expanduser()), train=train, download=False))
        except RuntimeError as missing:
            try:
                if not download:
                    raise missing
                parts.append(make(str(Path(root).expanduser()), train=train, download=True))
            except (RuntimeError, OSError) as error:
                raise ValueError(
                    f"{name} is neither in {Path(root).expanduser().resolve()} nor to be downloaded "
                    f"({error}): put its files there or change dataset.root"
                ) from error
    first, second = (Images(_Item(part), [int(t) for t in part.targets]) for part in parts)
    return first, second

"""Readers of the image, the file name and the label at an index, for each kind of dataset.

They are classes and not closures, because loader workers that are spawned must pickle them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["ArrayImage", "DatasetImage", "FileName", "ReaderImage", "labels_of"]


class ArrayImage:
    """Reads the image at an index from an array in memory."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])


class DatasetImage:
    """Reads the image at an index from a dataset that yields ``(image, label)``."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> Image.Image:
        return self.dataset[index][0]


class ReaderImage:
    """Reads the image at an index from a timm dataset; a damaged image is an error, which timm would pass over."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> Image.Image:
        if not hasattr(self.dataset, "reader"):  # one of torchvision's
            return self.dataset[index][0]
        with Image.open(self.dataset.reader[index][0]) as image:
            image.load()
            return image


class FileName:
    """Tells the file name of an index in an ImageFolder."""

    def __init__(self, samples: Sequence[tuple[str, int]]) -> None:
        self.samples = samples

    def __call__(self, index: int) -> str:
        return self.samples[index][0]


def labels_of(dataset: Any) -> list[int] | None:
    """Return the class index of every image, or None if that takes reading the images."""
    reader = getattr(dataset, "reader", dataset)
    for name in ("targets", "labels"):
        if hasattr(reader, name):
            return [int(t) for t in getattr(reader, name)]
    if hasattr(reader, "iter_targets"):
        return [int(t) for t in reader.iter_targets()]
    if hasattr(reader, "samples"):
        return [int(label) for _, label in reader.samples]
    return None

"""How the image, the file name and the label at an index are read from the kinds of dataset there are.

These are classes and no closures, so that loader workers can be spawned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["ArrayImage", "DatasetImage", "FileName", "ReaderImage", "labels_of"]


class ArrayImage:
    """``image(index)`` over an array in memory."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])


class DatasetImage:
    """``image(index)`` of a dataset that yields ``(image, label)``."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> Image.Image:
        return self.dataset[index][0]


class ReaderImage:
    """``image(index)`` of a timm dataset, without its way of passing over damaged images."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> Image.Image:
        if not hasattr(self.dataset, "reader"):  # one of torchvision's
            return self.dataset[index][0]
        with Image.open(self.dataset.reader[index][0]) as image:
            image.load()
            return image


class FileName:
    """File name of an index in an ImageFolder."""

    def __init__(self, samples: Sequence[tuple[str, int]]) -> None:
        self.samples = samples

    def __call__(self, index: int) -> str:
        return self.samples[index][0]


def labels_of(dataset: Any) -> list[int] | None:
    """The class index of every image, if they can be had without reading the images."""
    reader = getattr(dataset, "reader", dataset)
    for name in ("targets", "labels"):
        if hasattr(reader, name):
            return [int(t) for t in getattr(reader, name)]
    if hasattr(reader, "iter_targets"):
        return [int(t) for t in reader.iter_targets()]
    if hasattr(reader, "samples"):
        return [int(label) for _, label in reader.samples]
    return None

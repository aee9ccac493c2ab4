"""Randomisation tests of Zhang et al. (2017): labels or pixels change places before training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from pwfn.dataset.images import Images

__all__ = ["KINDS", "Kind", "permute", "permute_each", "randomise"]

Kind = Literal["labels", "pixels", "random_pixels"]
"""What is randomised, see :data:`KINDS`."""

KINDS = get_args(Kind)
"""``labels``: the training labels change places. ``pixels``: one permutation of the pixels for all images,
training and test. ``random_pixels``: a permutation for each image, the same whenever it is seen."""


def randomise(
    train: Images, test: Images, kind: Kind | None, seed: int
) -> tuple[Images, Images, Callable[[Tensor, int], Tensor] | None]:
    """Randomise the labels of the training images, or the pixels of all images.

    Returns:
        Training images, test images, and what to do with an image's tensor and index (None: nothing).

    Raises:
        ValueError: if ``kind`` is none of :data:`KINDS`.
    """
    if kind is None:
        return train, test, None
    if kind not in KINDS:
        raise ValueError(f"randomise must be one of {', '.join(KINDS)}, got {kind}")
    if kind == "labels":
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        return train.relabelled([train.labels[i] for i in order.tolist()]), test, None
    return train, test, partial(permute if kind == "pixels" else permute_each, seed=seed)


def permute(image: Tensor, index: int, *, seed: int) -> Tensor:
    """Move the pixels of ``[C, H, W]`` by the permutation that belongs to ``seed``, channels together."""
    order = torch.randperm(image.shape[1] * image.shape[2], generator=torch.Generator().manual_seed(seed))
    return image.flatten(1)[:, order].view_as(image)


def permute_each(image: Tensor, index: int, *, seed: int) -> Tensor:
    """Move the pixels of ``[C, H, W]`` by a permutation that belongs to ``seed`` and ``index``."""
    return permute(image, index, seed=seed * 1_000_003 + index + 1)

"""Transforms of training images: timm's, or for small images a crop from a padded one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm.data
from PIL import Image
from timm.data import auto_augment
from timm.data.transforms import str_to_pil_interp
from torch import Tensor
from torchvision import transforms

__all__ = ["Transform", "training_transform"]

Transform = Callable[[Any], Tensor]
"""Makes a normalised ``[C, H, W]`` of a PIL image."""


def _posterize(image: Image.Image, bits: int, **settings: Any) -> Image.Image:
    """Posterize as timm does; 0 bits give a black image, which Pillow refuses to make from version 13."""
    return auto_augment.posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


auto_augment.NAME_TO_OP.update(
    {name: _posterize for name, operation in auto_augment.NAME_TO_OP.items() if operation is auto_augment.posterize}
)


def training_transform(
    data_config: dict[str, Any], *, padding: float | None = None, resize: int | None = None, **settings: Any
) -> Transform:
    """Build the transform that makes a training image, a PIL image, a normalised ``[C, H, W]``.

    Args:
        data_config: as of ``timm.data.resolve_model_data_config``.
        padding: crop at random from the resized image with this share of its size padded on each side, as is
            customary on CIFAR (1/8); None for timm's random resized crop.
        resize: crop at random from the image resized to this many pixels squared, whatever its shape (the released
            code's 256); None for timm's random resized crop.
        settings: other arguments of ``timm.data.create_transform``: ``scale``, ``ratio``, ``hflip``,
            ``color_jitter``, ``auto_augment`` (RandAugment, AugMix), ``re_prob``, ...

    Raises:
        ValueError: if both ``padding`` and ``resize`` are given, or ``resize`` is smaller than the input.
    """
    parts = timm.data.create_transform(**data_config, **settings, is_training=True, separate=True)
    if padding is not None or resize is not None:
        height, width = data_config["input_size"][-2:]
        if resize is not None and (padding is not None or resize < max(height, width)):
            raise ValueError(f"dataset.augmentation.resize must be {max(height, width)} or more, without padding")
        border = padding or 0.0
        crop = [
            transforms.Resize((resize or height, resize or width), str_to_pil_interp(data_config["interpolation"])),
            transforms.RandomCrop((height, width), (round(border * width), round(border * height))),
            transforms.RandomHorizontalFlip(settings.get("hflip", 0.5)),
        ]
        parts = (transforms.Compose(crop), *parts[1:])
    return transforms.Compose([*parts])

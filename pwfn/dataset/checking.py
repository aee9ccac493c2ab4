"""A pass over the images of a folder that finds those which cannot be read, before a run does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

__all__ = ["unreadable"]


def unreadable(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Decode every image below a folder, in as many processes as this one may use cores.

    Args:
        root: the folder, such as the ``dataset.root`` with ``train/CLASS/*`` and ``val/CLASS/*``.

    Yields:
        Each file with what is wrong with it, None for an image that can be read; in the order of their names.

    Raises:
        ValueError: if there are no images.
    """
    files = sorted(path for path in root.expanduser().rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        raise ValueError(f"no images below {root}")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield from zip(files, pool.map(_problem, files, chunksize=64), strict=True)


def _problem(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__
    return None

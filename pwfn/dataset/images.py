"""Images by index, with their labels known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

__all__ = ["Images"]


class Images:
    """Holds PIL images that are read by index, and their labels, which are known beforehand.

    Args:
        image: gives the image at an index.
        labels: class index of every image.
        place: where they come from, for messages.
        num_classes: number of classes; one more than the largest label if None.
        name: gives the file name of an index, for messages.
    """

    def __init__(
        self,
        image: Callable[[int], Image.Image],
        labels: Sequence[int],
        *,
        place: str,
        num_classes: int | None = None,
        name: Callable[[int], str] | None = None,
    ) -> None:
        self.image = image
        self.labels = list(labels)
        self.place = place
        self.num_classes = num_classes or max(self.labels) + 1
        self.name = name

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """Read and decode the image at an index.

        Raises:
            ValueError: naming the file, if it is no image or is damaged.
        """
        try:
            image = self.image(index)
            image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            name = self.name(index) if self.name else f"number {index} of {self.place}"
            raise ValueError(
                f"unreadable image {name}: {error}; python -m pwfn.report check-data DIR lists all below a folder"
            ) from error
        return image

    def relabelled(self, labels: Sequence[int]) -> Images:
        """Return the same images with other labels."""
        return Images(self.image, labels, place=self.place, num_classes=self.num_classes, name=self.name)

"""Data that can only be read in sequence, by timm: WebDataset shards, streams of the Hub, TensorFlow's data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import timm.data
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pwfn.dataset.augmentation import Transform, training_transform

__all__ = ["Stream", "StreamModule", "stream"]


@dataclass(frozen=True)
class Stream:
    """Names the splits of an iterable dataset of ``timm.data.create_dataset``.

    Attributes:
        name: as of ``timm.data.create_dataset``: ``wds/...``, ``hfids/...``, ``tfds/...``.
        root: folder or address of the shards.
        train, val, test: names of the splits; no split can be drawn from a stream.
        settings: other arguments of ``timm.data.create_dataset``.
    """

    name: str
    root: str | None
    train: str
    val: str
    test: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Refuse to say, because a stream does not know.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} does not tell its number of classes: set dataset.num_classes")

    def open(self, split: str, **settings: Any) -> Any:
        """Open one split as a dataset.

        Raises:
            ValueError: naming split and place, if it cannot be opened.
        """
        try:
            return timm.data.create_dataset(self.name, self.root, split=split, **{**self.settings, **settings})
        except (AssertionError, ImportError, RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"no split {split} of {self.name} in {self.root} ({type(error).__name__}: {error}): "
                "change dataset.source or dataset.root"
            ) from error


def stream(
    *,
    name: str,
    root: str | Path | None = None,
    train: str = "train",
    test: str = "validation",
    val: str | None = None,
    **settings: Any,
) -> Stream:
    """Return a source of :mod:`pwfn.dataset.sources`'s kind for data without an index; ``val`` is ``test`` if None."""
    place = None if root is None else str(Path(root).expanduser()) if "://" not in str(root) else str(root)
    return Stream(name, place, train, val or test, test, settings)


class StreamModule(L.LightningDataModule):
    """Makes batches of a :class:`Stream`; an epoch that was interrupted starts over with other images.

    Args:
        source: the stream.
        num_classes: width of the network's logits.
        data_config: as of ``timm.data.resolve_model_data_config``.
        batch_size, eval_batch_size, workers, augmentation, train_transform, seed: as of
            :class:`pwfn.dataset.loading.DataModule`.

    Raises:
        ValueError: if a split cannot be opened.
    """

    def __init__(
        self,
        source: Stream,
        num_classes: int,
        data_config: dict[str, Any],
        *,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        workers: int = 0,
        augmentation: dict[str, Any] | None = None,
        train_transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.num_classes, self.workers, self.seed = source, num_classes, workers, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or 2 * batch_size
        self.seen = timm.data.create_transform(**data_config, is_training=False)
        self.augmented = train_transform or training_transform(data_config, **(augmentation or {}))
        self.mode = "L" if data_config["input_size"][0] == 1 else "RGB"
        source.open(source.test)

    def train_dataloader(self) -> DataLoader[Any]:
        """Load training images, shuffled anew in each epoch by timm's reader; each rank reads its own."""
        batch = {"is_training": True, "batch_size": self.batch_size, "seed": self.seed}
        loader = self._loader(self.source.train, self.augmented, self.batch_size, drop_last=True, **batch)
        dataset: Any = loader.dataset
        dataset.set_epoch(0 if self.trainer is None else self.trainer.current_epoch)
        return loader

    val_is_of_training = False

    def val_dataloader(self) -> DataLoader[Any]:
        """Load validation images in order."""
        return self._loader(self.source.val, self.seen, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Load test images in order."""
        return self._loader(self.source.test, self.seen, self.eval_batch_size)

    def calibration(self, count: int, *, augmented: bool = True, batch_size: int = 50) -> Iterator[Tensor]:
        """Batches of ``count`` training images without labels, as of :class:`pwfn.dataset.loading.DataModule`."""
        seen = 0
        while seen < count:
            for images, _ in self._loader(self.source.train, self.augmented if augmented else self.seen, batch_size):
                yield images[: count - seen]
                seen += len(images)
                if seen >= count:
                    return

    def _loader(
        self, split: str, transform: Transform, size: int, *, drop_last: bool = False, **settings: Any
    ) -> DataLoader[Any]:
        dataset = self.source.open(split, input_img_mode=self.mode, **settings)
        dataset.transform = transform
        dataset.set_loader_cfg(num_workers=max(1, self.workers))  # of none, timm before 1.0.31 counts no images
        return DataLoader(
            dataset,
            size,
            drop_last=drop_last,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )

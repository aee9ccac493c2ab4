"""Splits, transforms and loaders of a source of images; training can resume inside an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import lightning as L
import timm.data
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pwfn.dataset import randomise as permuted
from pwfn.dataset.augmentation import Transform, training_transform
from pwfn.dataset.images import Images
from pwfn.dataset.sampling import Order, ResumableLoader, balanced, seeded

__all__ = ["DataModule"]


class DataModule(L.LightningDataModule):
    """Splits the images of a source and makes batches of them for training, validation and test.

    The validation split is drawn from the training images with a seed of its own, the same in every run, and is
    seen through the test transform.

    Args:
        images: the training and the test images.
        num_classes: width of the network's logits.
        data_config: ``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct``, ... as of
            ``timm.data.resolve_model_data_config``.
        batch_size: images per training batch and rank.
        eval_batch_size: images per evaluation batch; twice ``batch_size`` if None.
        workers: loader processes.
        val_fraction: share of the training images held out for validation; 0 validates on the test images.
        limit: keep a balanced subset of this many training images (and of the test images in proportion).
        augmentation: arguments of :func:`pwfn.dataset.augmentation.training_transform`.
        train_transform: used for training instead, if given.
        randomise: one of :data:`pwfn.dataset.randomise.KINDS`, or None.
        seed: of order and augmentation.
        split_seed: of the validation split, of ``limit`` and of ``randomise``.

    Raises:
        ValueError: if the labels do not fit ``num_classes``, too few images are left for one batch, or the first
            image of a split cannot be read.
    """

    def __init__(
        self,
        images: tuple[Images, Images],
        num_classes: int,
        data_config: dict[str, Any],
        *,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        workers: int = 0,
        val_fraction: float = 0.1,
        limit: int | None = None,
        augmentation: dict[str, Any] | None = None,
        train_transform: Transform | None = None,
        randomise: permuted.Kind | None = None,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        train, test = images
        for part in images:
            _require_classes(part, num_classes)
        if not 0 <= val_fraction <= 0.9:
            raise ValueError(f"val_fraction must lie in [0, 0.9], got {val_fraction}")
        kept = balanced(train.labels, limit or len(train), split_seed)
        tested = balanced(test.labels, max(1, len(test) * len(kept) // len(train)), split_seed)
        held = balanced([train.labels[i] for i in kept], round(val_fraction * len(kept)), split_seed + 1)
        validate = {kept[i] for i in held}
        self.num_classes, self.batch_size, self.workers, self.seed = num_classes, batch_size, workers, seed
        self.eval_batch_size = eval_batch_size or 2 * batch_size
        seen = timm.data.create_transform(**data_config, is_training=False)
        augmented = train_transform or training_transform(data_config, **(augmentation or {}))
        mode = "L" if data_config["input_size"][0] == 1 else "RGB"
        train, test, pixels = permuted.randomise(train, test, randomise, split_seed)
        self.train = _View(train, [i for i in kept if i not in validate], mode, augmented, pixels)
        self.test = _View(test, tested, mode, seen, pixels)
        self.val_is_of_training = bool(validate)
        self.val = _View(train, sorted(validate), mode, seen, pixels) if validate else self.test
        if len(self.train) < batch_size:
            raise ValueError(
                f"{len(self.train)} training images do not fill one batch of {batch_size}: "
                "lower dataset.batch_size or raise dataset.limit"
            )
        self._seen = mode, seen, pixels
        for view in (self.train, self.test):
            view.images.read(view.indices[0])
        self._loader: ResumableLoader | None = None

    def train_dataloader(self) -> ResumableLoader:
        """Load training images in the order of the trainer's current epoch."""
        rank, ranks = self._place()
        if self._loader is None:
            order = Order(len(self.train), self.seed, rank, ranks)
            self._loader = ResumableLoader(
                DataLoader(
                    self.train,
                    self.batch_size,
                    sampler=order,
                    drop_last=True,
                    num_workers=self.workers,
                    persistent_workers=self.workers > 0,
                    pin_memory=torch.cuda.is_available(),
                    generator=torch.Generator(),  # of the workers' base seed: the global one stays untouched
                ),
                order,
            )
        self._loader.order.rank, self._loader.order.ranks = rank, ranks
        self._loader.order.epoch = 0 if self.trainer is None else self.trainer.current_epoch
        return self._loader

    def val_dataloader(self) -> Iterable[Any]:
        """Load validation images in order; each rank sees its share."""
        return self._eval_loader(self.val)

    def test_dataloader(self) -> Iterable[Any]:
        """Load test images in order; each rank sees its share."""
        return self._eval_loader(self.test)

    def calibration(self, count: int, *, augmented: bool = True, batch_size: int = 50) -> Iterator[Tensor]:
        """Batches of ``count`` training images without labels, the same in every call and on every rank.

        Args:
            count: how many; beyond the number of training images they come again, augmented anew.
            augmented: through the training transform, else through that of the test.
            batch_size: images a batch.
        """
        view = self.train if augmented else _View(self.train.images, self.train.indices, *self._seen)
        order = Order(len(view), self.seed + 1, 0, 1)
        items: list[tuple[int, int]] = []
        while len(items) < count:
            items += list(order)
            order.epoch += 1
        settings: dict[str, Any] = {"num_workers": self.workers, "generator": torch.Generator()}
        for images, _ in DataLoader(view, batch_size, sampler=items[:count], **settings):
            yield images

    def _eval_loader(self, view: _View) -> DataLoader[Any]:
        rank, ranks = self._place()
        return DataLoader(
            view,
            self.eval_batch_size,
            sampler=range(rank, len(view), ranks),
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _require_classes(images: Images, num_classes: int) -> None:
    if images.num_classes != num_classes:
        raise ValueError(
            f"{images.place} has {images.num_classes} classes, the network {num_classes}: change dataset.num_classes"
        )


class _View(Dataset[tuple[Tensor, int]]):
    """Shows some images of a source through a transform. An item may carry the seed of its augmentation."""

    def __init__(
        self,
        images: Images,
        indices: Sequence[int],
        mode: str,
        transform: Transform,
        pixels: Callable[[Tensor, int], Tensor] | None,
    ) -> None:
        self.images, self.indices, self.mode, self.transform, self.pixels = images, indices, mode, transform, pixels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, int]:
        if isinstance(item, tuple):
            with seeded(item[1]):
                return self[item[0]]
        index = self.indices[item]
        tensor = self.transform(self.images.read(index).convert(self.mode))
        return tensor if self.pixels is None else self.pixels(tensor, index), self.images.labels[index]

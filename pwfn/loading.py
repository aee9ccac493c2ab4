"""Splits, transforms and loaders; training can resume inside an epoch as if nothing had happened."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import timm.data
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pwfn.dataset import Images

__all__ = ["DataModule", "ResumableLoader", "balanced"]

Transform = Callable[[Any], Tensor]


class DataModule(L.LightningDataModule):
    """Training, validation and test images of a source, ready for a network.

    The validation split is drawn from the training images with a seed of its own, the same in every run, and is
    seen through the test transform.

    Args:
        source: gives the training and the test images.
        num_classes: width of the network's logits.
        data_config: ``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct``, ... as of
            ``timm.data.resolve_model_data_config``.
        batch_size: images per training batch and rank.
        eval_batch_size: images per evaluation batch; twice ``batch_size`` if None.
        workers: loader processes.
        val_fraction: share of the training images held out for validation; 0 validates on the test images.
        limit: keep a balanced subset of this many training images (and of the test images in proportion).
        augmentation: arguments of ``timm.data.create_transform`` for training.
        train_transform: used for training instead of timm's, if given.
        seed: of order and augmentation.
        split_seed: of the validation split and of ``limit``.

    Raises:
        ValueError: if the labels do not fit ``num_classes`` or too few images are left for one batch.
    """

    def __init__(
        self,
        source: Callable[[], tuple[Images, Images]],
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
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        train, test = source()
        for images in (train, test):
            if max(images.labels) >= num_classes:
                raise ValueError(
                    f"the data has labels up to {max(images.labels)}, the network {num_classes} classes: "
                    "change dataset.num_classes"
                )
        kept = balanced(train.labels, limit or len(train), split_seed)
        tested = balanced(test.labels, len(test) * len(kept) // len(train), split_seed)
        held = balanced([train.labels[i] for i in kept], round(val_fraction * len(kept)), split_seed + 1)
        validate = {kept[i] for i in held}
        self.num_classes, self.batch_size, self.workers, self.seed = num_classes, batch_size, workers, seed
        self.eval_batch_size = eval_batch_size or 2 * batch_size
        seen = timm.data.create_transform(**data_config, is_training=False)
        augmented = train_transform or timm.data.create_transform(
            **data_config, is_training=True, **(augmentation or {})
        )
        self.train = _View(train, [i for i in kept if i not in validate], augmented)
        self.test = _View(test, tested, seen)
        self.val = _View(train, sorted(validate), seen) if validate else self.test
        if len(self.train) < batch_size:
            raise ValueError(
                f"{len(self.train)} training images do not fill one batch of {batch_size}: "
                "lower dataset.batch_size or raise dataset.limit"
            )
        self._loader: ResumableLoader | None = None

    def train_dataloader(self) -> ResumableLoader:
        """The training loader, in the order of the trainer's current epoch."""
        rank, ranks = self._place()
        if self._loader is None:
            order = _Order(len(self.train), self.seed, rank, ranks)
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
        self._loader.order.epoch = 0 if self.trainer is None else self.trainer.current_epoch
        return self._loader

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation images in order; each rank sees its share."""
        return self._eval_loader(self.val)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test images in order; each rank sees its share."""
        return self._eval_loader(self.test)

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


class ResumableLoader:
    """A training loader whose place inside an epoch Lightning saves and restores."""

    def __init__(self, loader: DataLoader[Any], order: _Order) -> None:
        self.loader, self.order = loader, order
        self.consumed = 0
        self._resume_at = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.consumed, self._resume_at = self._resume_at, 0
        self.order.start = self.consumed * (self.loader.batch_size or 1)
        for batch in self.loader:
            self.consumed += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches handed out in this epoch."""
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the next iteration behind that many batches."""
        self._resume_at = state_dict["consumed"] % len(self)


def balanced(labels: Sequence[int], size: int, seed: int) -> list[int]:
    """Indices of ``size`` items, as many of each class as can be, in ascending order.

    Classes take turns in giving one item, each in a random order of its own.
    """
    if size >= len(labels):
        return list(range(len(labels)))
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    turns: dict[int, int] = {}
    keyed = []
    for i in shuffled.tolist():
        turn = turns[labels[i]] = turns.get(labels[i], -1) + 1
        keyed.append((turn, len(keyed), i))
    return sorted(i for _, _, i in sorted(keyed)[:size])


class _View(Dataset[tuple[Tensor, int]]):
    """Some images of a source under a transform. An item may carry the seed of its augmentation."""

    def __init__(self, images: Images, indices: Sequence[int], transform: Transform) -> None:
        self.images, self.indices, self.transform = images, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, int]:
        if isinstance(item, tuple):
            with _seeded(item[1]):
                return self[item[0]]
        try:
            image, label = self.images[self.indices[item]]
        except OSError as error:
            raise ValueError(f"unreadable image: {error}") from error
        return self.transform(image), label


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch, numpy and random from one seed inside, as before outside."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class _Order(Sampler[tuple[int, int]]):
    """A permutation for each epoch, from a seed and the epoch's number alone; each rank takes its share.

    Every index comes with a seed of its own for augmentation: what an image looks like depends neither on the
    number of workers nor on whether the epoch was interrupted.
    """

    def __init__(self, size: int, seed: int, rank: int, ranks: int) -> None:
        self.size, self.seed, self.rank, self.ranks = size, seed, rank, ranks
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.size // self.ranks

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator)[: len(self) * self.ranks]
        seeds = torch.randint(2**31, (len(order),), generator=generator)
        mine = slice(self.rank, None, self.ranks)
        pairs = list(zip(order[mine].tolist(), seeds[mine].tolist(), strict=True))
        return iter(pairs[self.start :])

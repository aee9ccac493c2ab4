"""The choice and the order of images: balanced subsets, epochs that can resume in the middle, seeds per image."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

__all__ = ["Order", "ResumableLoader", "balanced", "seeded"]


class ResumableLoader:
    """Loads training batches; Lightning saves and restores its place inside an epoch."""

    def __init__(self, loader: DataLoader[Any], order: Order) -> None:
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
        """Return the number of batches handed out in this epoch."""
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the next iteration behind that many batches."""
        self._resume_at = state_dict["consumed"] % len(self)


def balanced(labels: Sequence[int], size: int, seed: int) -> list[int]:
    """Return the indices of ``size`` items, as many of each class as can be, in ascending order.

    Classes take turns in giving one item, each in a random order of its own.
    """
    if size >= len(labels):
        return list(range(len(labels)))
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    turns: dict[int, int] = {}
    keyed: list[tuple[int, int, int]] = []
    for i in shuffled.tolist():
        turn = turns[labels[i]] = turns.get(labels[i], -1) + 1
        keyed.append((turn, len(keyed), i))
    return sorted(i for _, _, i in sorted(keyed)[:size])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random inside the block, and restore their states after it."""
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


class Order(Sampler[tuple[int, int]]):
    """Permutes the images anew for each epoch, from a seed and the epoch's number alone; each rank takes its share.

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

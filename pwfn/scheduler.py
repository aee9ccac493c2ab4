"""Learning rates over the rounds, as factors of the optimizer's own, stepped every optimizer step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

__all__ = ["constant", "cosine", "cosine_restarts"]


def constant(optimizer: Optimizer, ends: Sequence[int]) -> LRScheduler | None:
    """No scheduler: the learning rate stays."""
    return None


def cosine(optimizer: Optimizer, ends: Sequence[int]) -> LRScheduler:
    """``(1 + cos(pi k / n)) / 2`` at step k of the ``n = ends[-1]`` steps of all rounds."""
    total = max(1, ends[-1])
    return LambdaLR(optimizer, lambda k: 0.5 * (1 + math.cos(math.pi * min(k, total) / total)))


def cosine_restarts(optimizer: Optimizer, ends: Sequence[int]) -> LRScheduler:
    """The same from each round to the next: round t ends after ``ends[t]`` steps."""
    starts = [0, *(end for end in ends if end > 0)]

    def factor(k: int) -> float:
        t = min(bisect.bisect_right(starts, k), len(starts) - 1)
        start, end = starts[t - 1] if t else 0, starts[t]
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (k - start) / max(1, end - start))))

    return LambdaLR(optimizer, factor)

"""Operations that torch refuses on a GPU wherever deterministic algorithms are asked for, done in another way there."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cumsum", "group_sum", "kthvalue"]


def kthvalue(x: Tensor, k: int) -> Tensor:
    """The k-th smallest, from 1, of the numbers in a vector; a scalar."""
    return x.msort()[k - 1] if _refused(x) else x.kthvalue(k).values


def cumsum(x: Tensor) -> Tensor:
    """0 and the sums of the first 1, 2, ..., N numbers of a float vector ``[N]``; ``[N + 1]``."""
    totals = x.cpu().cumsum(0).to(x.device) if _refused(x) else x.cumsum(0)
    return torch.cat((totals.new_zeros(1), totals))


def group_sum(x: Tensor, group: Tensor, size: int) -> Tensor:
    """The sum over each of the groups ``0, ..., size - 1`` of a float64 vector; float64 ``[size]``."""
    if _refused(x):
        return x.new_zeros(size).index_add_(0, group, x)
    return torch.bincount(group, weights=x, minlength=size)


def _refused(x: Tensor) -> bool:
    return x.is_cuda and torch.are_deterministic_algorithms_enabled()

"""What one clustering round decides: which weight takes which shared value."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Assignment"]


@dataclass(frozen=True)
class Assignment:
    """The result of one clustering round over ``N`` weights, on the device of its input.

    Groups are numbered in the order in which they were picked; a centroid picked twice (at two reaches)
    makes two groups.

    Attributes:
        values: float32 ``[N]``. The centroid of every fixed weight, the unchanged weight elsewhere.
        fixed: bool ``[N]``. True where a weight took a centroid in this round.
        group: int32 ``[N]``. Index of the weight's group in ``centroids``; -1 where the weight stays free.
        centroids: float32 ``[G]``. The value of each group, in the order picked.
        counts: int64 ``[G]``. How many weights each group took.
        orders: int64 ``[G]``. Order omega of the candidate set in force when the group was picked.
        reaches: float32 ``[G]``. Reach (delta in sigmas; for WFN the allowance) in force at the pick.
    """

    values: Tensor
    fixed: Tensor
    group: Tensor
    centroids: Tensor
    counts: Tensor
    orders: Tensor
    reaches: Tensor

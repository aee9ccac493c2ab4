"""What one clustering round decides: which weight takes which shared value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from pwfn.apot import order_of
from pwfn.kernels.chunks import map_chunks

__all__ = ["Assignment", "Pick", "from_picks", "from_values", "merge"]


@dataclass(frozen=True)
class Assignment:
    """The result of one clustering round over ``N`` weights, on the device of its input.

    Groups are numbered in the order in which they were picked; a centroid picked twice (at two reaches, or
    for two tensors) makes two groups.

    Attributes:
        values: float32 ``[N]``. The centroid of every fixed weight, the unchanged weight elsewhere.
        fixed: bool ``[N]``. True where a weight took a centroid in this round.
        group: int32 ``[N]``. Index of the weight's group in ``centroids``; -1 where the weight stays free.
        centroids: float32 ``[G]``. The value of each group, in the order picked.
        counts: int64 ``[G]``. How many weights each group took.
        orders: int64 ``[G]``. Order omega of the candidate set in force when the group was picked.
        reaches: float32 ``[G]``. Reach (delta in sigmas; for WFN the allowance) in force at the pick.
        figures: what the method tells of the round besides, by column of ``rounds.csv``.
        shares: share of the round's distortion by parameter, where the method knows it; sums to 1.
    """

    values: Tensor
    fixed: Tensor
    group: Tensor
    centroids: Tensor
    counts: Tensor
    orders: Tensor
    reaches: Tensor
    figures: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


class Pick(NamedTuple):
    """One group: its value, how many weights took it, and the order and the reach in force."""

    centroid: float
    size: int
    order: int
    reach: float


def from_picks(w: Tensor, group: Tensor, picks: Sequence[Pick]) -> Assignment:
    """Give weights ``w`` float32 ``[N]`` the picks that ``group`` int32 ``[N]`` numbers; -1 leaves a weight free.

    >>> group = torch.tensor([0, 0, -1], dtype=torch.int32)
    >>> from_picks(torch.tensor([0.4, 0.6, 2.0]), group, [Pick(0.5, 2, 1, 1.0)]).values.tolist()
    [0.5, 0.5, 2.0]
    """
    w, device = w.detach(), w.device  # threads track gradients
    centroids = torch.tensor([pick.centroid for pick in picks], dtype=torch.float32, device=device)
    padded = torch.cat((centroids, centroids.new_zeros(1)))  # an entry to read even if there was no pick
    values, fixed = torch.empty_like(w), torch.empty_like(w, dtype=torch.bool)

    def write(w: Tensor, group: Tensor, values: Tensor, fixed: Tensor) -> None:
        torch.ge(group, 0, out=fixed)
        torch.where(fixed, padded.index_select(0, group.clamp(min=0)), w, out=values)

    map_chunks(write, w, group, values, fixed)
    return Assignment(
        values=values,
        fixed=fixed,
        group=group,
        centroids=centroids,
        counts=torch.tensor([pick.size for pick in picks], dtype=torch.int64, device=device),
        orders=torch.tensor([pick.order for pick in picks], dtype=torch.int64, device=device),
        reaches=torch.tensor([pick.reach for pick in picks], dtype=torch.float32, device=device),
    )


def from_values(values: Tensor) -> Assignment:
    """Fix every weight at the value in its place, float32 ``[N]``: one group for each value, in ascending order.

    >>> from_values(torch.tensor([0.5, -1.0, 0.5])).group.tolist()
    [1, 0, 1]
    """
    centroids, group, counts = values.unique(return_inverse=True, return_counts=True)
    return Assignment(
        values=values,
        fixed=torch.ones_like(values, dtype=torch.bool),
        group=group.int(),
        centroids=centroids,
        counts=counts,
        orders=order_of(centroids),
        reaches=torch.zeros_like(centroids),
    )


def merge(assignments: Sequence[Assignment]) -> Assignment:
    """The assignment of all weights, tensor after tensor, from one (at least) of each tensor by itself.

    >>> one = from_picks(torch.tensor([0.4, 2.0]), torch.tensor([0, -1], dtype=torch.int32), [Pick(0.5, 1, 1, 1.0)])
    >>> merge([one, one]).group.tolist()
    [0, -1, 1, -1]
    """
    starts = accumulate((len(part.centroids) for part in assignments[:-1]), initial=0)
    groups = [torch.where(part.group < 0, -1, part.group + at) for at, part in zip(starts, assignments, strict=True)]
    return Assignment(
        values=torch.cat([part.values for part in assignments]),
        fixed=torch.cat([part.fixed for part in assignments]),
        group=torch.cat(groups),
        centroids=torch.cat([part.centroids for part in assignments]),
        counts=torch.cat([part.counts for part in assignments]),
        orders=torch.cat([part.orders for part in assignments]),
        reaches=torch.cat([part.reaches for part in assignments]),
    )

"""Greedy picks on a histogram: which candidates are the most wanted, and which weights each of them takes."""

from __future__ import annotations

import torch
from torch import Tensor

from pwfn.kernels.chunks import map_chunks
from pwfn.kernels.intervals import Free

__all__ = ["greedy", "take"]


def greedy(
    kinds: Tensor,
    counts: Tensor,
    stride: int,
    values: list[float],
    left: int,
    known: set[float],
    max_unique: int | None,
) -> tuple[Tensor, list[tuple[float, int]]]:
    """Pick candidates until none has a taker, ``left`` weights have taken one, or ``max_unique`` is reached.

    Returns:
        For each kind of interval, the number of the pick that takes it, -1 if none does; and each pick's value
        and count. The last pick takes all it can, be that more than what is left.
    """
    used = ((counts > 0) & (kinds % stride > 0)).nonzero().squeeze(1)
    first, wide, count = (x.cpu() for x in (kinds[used] // stride, kinds[used] % stride, counts[used]))
    end, owner = first + wide, torch.full_like(count, -1, dtype=torch.int32)
    zeros = torch.zeros(len(values) + 1, dtype=torch.int64)
    takers = zeros.index_add(0, first, count).index_add_(0, end, -count).cumsum(0)
    starts = torch.searchsorted(first, torch.arange(len(values) + 1)).tolist()
    known = set(known)
    chosen: list[tuple[float, int]] = []
    while left > 0 and len(known) != max_unique:
        best = int(takers.argmax())
        wanted = int(takers[best])
        if wanted == 0:
            break
        rows = slice(starts[max(0, best + 2 - stride)], starts[best + 1])
        gone = count[rows] * (end[rows] > best)
        owner[rows].masked_fill_(gone > 0, len(chosen))
        count[rows] -= gone
        takers -= zeros.index_add(0, first[rows], gone).index_add_(0, end[rows], -gone).cumsum(0)
        chosen.append((values[best], wanted))
        known.add(values[best])
        left -= wanted
    table = torch.full_like(kinds, -1, dtype=torch.int32)
    table[used] = owner.to(table.device)
    return table, chosen


def take(free: Free, code: Tensor, table: Tensor, group: Tensor) -> Free:
    """Enter the groups that ``table`` gives to the intervals; returns the weights that stay free."""

    def enter(place: Tensor, mu: Tensor, sigma: Tensor, code: Tensor) -> Free:
        taken = table.index_select(0, code)
        group.scatter_(0, place.long(), taken)
        keep = (taken < 0).nonzero().squeeze(1)
        return Free(*(x.index_select(0, keep) for x in (place, mu, sigma)))

    return Free(*map(torch.cat, zip(*map_chunks(enter, *free, code), strict=True)))

"""The free weights in sorted order: which candidate is the nearest to most, and which of them it takes.

The computation, step by step; ``w_1 <= ... <= w_N`` are the weights, ``c_1 < ... < c_C`` the candidates, a is the
allowance:

1. ``c_k`` is the nearest to w, the lower on a tie, if ``m_{k-1} < w <= m_k`` with ``m_k = (c_k + c_{k+1}) / 2``
   (:func:`borders`).
2. w is a float32: ``w <= m_k`` exactly if ``w <= `` the largest float32 that does not exceed ``m_k`` (:func:`borders`).
3. So the weights nearest to ``c_k`` are the ones from place ``e_k = #{w <= m_{k-1}}`` to ``e_{k+1}``, and
   ``n_k = F(e_{k+1}) - F(e_k)`` of them are free, F the running count of free weights (``SortedWeights.offer``).
4. The pick is ``argmax_k n_k``; a taken set T lowers ``n_k`` by its members between the same two places
   (``SortedWeights.most_wanted``, ``take``).
5. Distance of w to the pick c: ``d = |w - c| / |w|``, 1 where ``w = 0``; or ``|w - c|`` (:class:`Distance`).
6. d falls up to c and rises from it, on one side of 0: sorted by d, the weights are a merge of two runs that lie in
   order already, ending where d exceeds a bound r (``SortedWeights.nearest``; ``Distance.span`` inverts d = r). A bound
   that reaches past 0 makes d fall and rise again; then they are sorted.
7. The mean over the i nearest, S_i / i with S a running sum, rises with i: the longest prefix with a mean of at most a
   is found by counting the prefixes that comply (:func:`_prefix`).
8. Prefixes that end with the j-th of one run hold the members of the other with a smaller d:
   ``S = S_here(j) + S_there(#{d_there < d_j})``, one search instead of a merge (:func:`_prefix`).
9. Weights at distance 0 add to S nothing and to i nothing, unless there is a single one (:func:`_prefix`).
10. The bound was wide enough if the prefix ends inside it, or if a further weight, at r or more, would lift the mean
    above a: ``S + r > a (i + 1)``. Else r doubles, from 2.5 a on (``SortedWeights.nearest``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pwfn.kernels.deterministic import cumsum
from pwfn.kernels.sorting import stable_sort

__all__ = ["Distance", "SortedWeights", "borders"]


def borders(values: Tensor) -> Tensor:
    """The largest float32 that is as near to a value as to the next higher one, or nearer.

    Args:
        values: float64 ``[C]``, sorted.

    Returns:
        float32 ``[C - 1]``: the midpoints, rounded down.
    """
    middle = (values[1:] + values[:-1]) / 2
    below = middle.float()
    return torch.where(below > middle, below.nextafter(torch.full_like(below, -math.inf)), below)


class Distance(NamedTuple):
    """Distance of weights to a centroid, in float64, and where the weights within a distance lie.

    Relative: ``|w - c| / |w|``, and 1 where w is 0. Euclidean: ``|w - c|``. In both a weight with
    ``|w| < zero_distance`` is at distance 0 from the centroid 0.
    """

    relative: bool
    zero_distance: float

    def __call__(self, w: Tensor, centroid: Tensor | float) -> Tensor:
        """float64 distances of ``w`` to one centroid, or elementwise to as many centroids."""
        w = w.double()
        centroid = torch.as_tensor(centroid, dtype=w.dtype, device=w.device)
        away = (w - centroid).abs_()
        if self.relative:
            away = torch.where(w == 0, 1.0, away / w.abs())
        return away.masked_fill_((centroid == 0) & (w.abs() < self.zero_distance), 0.0)

    def span(self, centroid: float, reach: float) -> tuple[float, float]:
        """An interval that holds every weight within ``reach`` of the centroid."""
        if self.relative and reach >= 1:
            return -math.inf, math.inf
        if centroid == 0:
            radius = self.zero_distance if self.relative else max(self.zero_distance, reach)
            return -radius, radius
        if self.relative:
            ends = centroid / (1 + reach), centroid / (1 - reach)
        else:
            ends = centroid - reach, centroid + reach
        return min(ends), max(ends)


class SortedWeights:
    """Weights sorted once, shrinking as centroids take them.

    Each weight is looked at when it is taken, when it lies around a pick, and when the candidates change;
    what is taken is dropped from the arrays whenever it makes up half of them.
    """

    def __init__(self, w: Tensor) -> None:
        """Sort ``w``, a float32 vector; equal weights keep their order."""
        self.sorted, self.index = stable_sort(w)
        self.free = torch.ones_like(self.sorted, dtype=torch.bool)
        self.first, self.last = 0, len(w) - 1  # the outermost free weights
        self.left = len(w)

    def largest(self) -> float:
        """Largest magnitude of a free weight; there has to be one."""
        return max(-float(self.sorted[self.first]), float(self.sorted[self.last]), 0.0)

    def offer(self, grid: Tensor) -> None:
        """Replace the candidates: ``grid`` is sorted, of float32 values."""
        if 2 * self.left < len(self.sorted):
            self.sorted, self.index = self.sorted[self.free], self.index[self.free]
            self.free = torch.ones_like(self.sorted, dtype=torch.bool)
            self.first, self.last = 0, self.left - 1
        self.grid = grid.double()
        inner = torch.searchsorted(self.sorted, borders(self.grid), right=True)
        ends = inner.new_tensor([0, len(self.sorted)])
        self.edges = torch.cat((ends[:1], inner, ends[1:]))  # candidate k is the nearest from edge k to k + 1
        before = torch.cat((ends[:1], self.free.cumsum(0)))
        self.counts = before[self.edges].diff()

    def most_wanted(self) -> float:
        """The candidate that is the nearest to most free weights, the lowest on a tie."""
        return float(self.grid[self.counts.argmax()])

    def nearest(self, centroid: float, allowance: float, limit: int, distance: Distance) -> Tensor:
        """Ascending positions of the weights that a centroid takes: the nearest ones, at most ``limit``.

        They are the longest prefix, by distance, whose running mean over the non-zero distances (over all, where
        a single free weight is at distance 0) stays within the allowance. On equal distances the lower weight
        comes first; for the centroid 0 the smaller one; equal weights in no particular order.
        """
        reach = 2.5 * allowance  # of evenly spread weights the prefix ends at twice the allowance
        while True:
            low, high = distance.span(centroid, reach)
            # float32 must not round the interval inwards.
            ends = self.sorted.new_tensor([low - abs(low) * 2**-20, high + abs(high) * 2**-20])
            start, stop = torch.searchsorted(self.sorted, ends).tolist()
            window = self.free[start:stop].nonzero().squeeze(1).add_(start)
            value = self.sorted[window]
            away = distance(value, centroid)
            if far := distance.relative and reach >= 1 and centroid != 0:  # it sees past 0: more than two slopes
                away, order = away.sort(stable=True)
                window = window[order]
            split = 0 if far else int(torch.searchsorted(value, centroid))
            key = value.abs() if centroid == 0 else away
            down, up, done = _prefix(key, away, split, reach, allowance, min(limit, self.left))
            if done:
                taken = window[split - down : split + up]
                return taken.sort().values if split == 0 else taken
            reach *= 2

    def take(self, taken: Tensor) -> Tensor:
        """Drop the weights at these ascending positions; returns their indices in the tensor."""
        self.free[taken] = False
        self.counts -= torch.searchsorted(taken, self.edges).diff()
        self.left -= len(taken)
        if self.left > 0:
            self._move_ends()
        return self.index[taken]

    def _move_ends(self) -> None:
        cells = self.counts.nonzero().squeeze(1)
        if not self.free[self.first]:
            start, stop = self.edges[cells[0] : cells[0] + 2].tolist()
            self.first = start + int(self.free[start:stop].int().argmax())
        if not self.free[self.last]:
            start, stop = self.edges[cells[-1] : cells[-1] + 2].tolist()
            self.last = stop - 1 - int(self.free[start:stop].flip(0).int().argmax())


def _prefix(key: Tensor, away: Tensor, split: int, reach: float, allowance: float, limit: int) -> tuple[int, int, bool]:
    """The longest prefix within the allowance of distances that fall up to ``split`` and rise from there.

    Its mean is over the distances that are not 0, or over all if a single one is 0.

    Args:
        key: what to order by, falling and rising with ``away``; the falling side comes first on a tie.
        away: float64 distances; those above ``reach`` are ignored.

    Returns:
        How many to take on the falling side, how many on the rising side, and whether that is all whatever
        lies beyond ``reach``: it does not end there, or the mean could not bear another one.
    """
    sides = [(key[:split].flip(0), away[:split].flip(0)), (key[split:], away[split:])]
    unmoved = [int((side == 0).sum()) for _, side in sides]
    if sum(unmoved) == 1:  # as the released code has it, a single one counts
        unmoved = [0, 0]
    keys, totals, moved = [], [], []
    for (side_key, side), zeros in zip(sides, unmoved, strict=True):
        side = side[: int(torch.searchsorted(side, reach, right=True))]
        keys.append(side_key[: len(side)].contiguous())
        totals.append(cumsum(side))
        moved.append(torch.arange(-zeros, len(side) - zeros + 1, device=side.device).clamp_(min=0))
    taken = []
    for here, there in ((0, 1), (1, 0)):
        other = torch.searchsorted(keys[there], keys[here], right=here == 1)
        mean = (totals[here][1:] + totals[there][other]) / (moved[here][1:] + moved[there][other]).clamp_(min=1)
        rank = torch.arange(1, len(other) + 1, device=other.device) + other
        taken.append(int(((mean <= allowance) & (rank <= limit)).sum()))
    down, up = taken
    spent, movers = (float(x[0][down] + x[1][up]) for x in (totals, moved))
    ended = down + up == limit or down + up < len(keys[0]) + len(keys[1])
    return down, up, ended or spent + reach > allowance * (movers + 1)

"""Which value costs a weight least, found by binary search.

A weight w of sensitivity D pays ``0.5 D (c - w)**2 + lambda bits(c)`` for the value c. Divided by D/2 and less
w**2, which all values share, that is ``c**2 - 2 c w + t bits(c)`` with ``t = 2 lambda / D``: linear in the two
numbers (w, t) that a weight brings. The plane (w, t) falls into one convex cell per value. At t = 0 each value
has a cell, between the midpoints to its neighbours; as t grows values die and never return, since c is alive
exactly while the point (c, c**2 + t bits(c)) lies on the lower convex hull, a condition that each pair of
other values bounds from above in t. Between two deaths the borders are linear in t. So a weight finds its
value by a search among the deaths and another one among the borders of the values then alive.
"""

from __future__ import annotations

import heapq
import math

import torch
from torch import Tensor

from pwfn.kernels.chunks import map_chunks

__all__ = ["Envelope"]


class Envelope:
    """The lower envelope of the costs of ``C`` values, in O(C log C) time and O(C**2) memory.

    Args:
        values: ``[C]``, sorted, distinct and finite.
        bits: ``[C]``, finite code length of each value in bits.

    Raises:
        ValueError: if there are no values, their number is not that of ``bits``, or they are not as described.
    """

    def __init__(self, values: Tensor, bits: Tensor) -> None:
        if values.dim() != 1 or values.shape != bits.shape or len(values) == 0:
            raise ValueError(f"values and bits must be vectors of one length, got {values.shape} and {bits.shape}")
        if not (values.isfinite().all() and bits.isfinite().all() and (values.diff() > 0).all()):
            raise ValueError("values must be sorted, distinct and finite, and bits finite")
        v, r = values.double().cpu(), bits.double().cpu()
        order, deaths = _deaths(v.tolist(), r.tolist())
        self._deaths = torch.tensor(deaths, dtype=torch.float64)
        self._steps = [1 << k for k in reversed(range(max(1, (len(v) - 1).bit_length())))]
        self._width = 2 * self._steps[0]
        rank = torch.full((len(v),), len(order))
        rank[torch.tensor(order, dtype=torch.int64)] = torch.arange(len(order))
        dead = rank < torch.arange(len(order) + 1)[:, None]  # row e: before death e
        alive = dead.byte().sort(dim=1, stable=True).indices
        low, high = alive[:, :-1], alive[:, 1:]
        border = torch.arange(1, len(v)) < (~dead).sum(1, keepdim=True)
        at = torch.full((len(dead), self._width), math.inf, dtype=torch.float64)
        slope = torch.zeros_like(at)
        index = torch.zeros_like(at, dtype=torch.int32)
        index[:, : len(v)] = alive
        at[:, : len(v) - 1] = torch.where(border, (v[low] + v[high]) / 2, math.inf)
        slope[:, : len(v) - 1] = torch.where(border, (r[high] - r[low]) / (2 * (v[high] - v[low])), 0.0)
        self._at, self._slope, self._index = at.flatten(), slope.flatten(), index.flatten()

    def assign(self, w: Tensor, t: Tensor) -> Tensor:
        """Index of the value at which ``(c - w)**2 + t bits(c)`` is least, the lower value on a tie.

        Args:
            w: floating point ``[N]``.
            t: floating point ``[N]``, ``2 lambda / D``, finite and not negative; float64 comparisons throughout.

        Returns:
            int32 ``[N]`` on the device of ``w``; O(N log C) time, O(N) memory.
        """
        out = torch.empty_like(w, dtype=torch.int32)
        deaths, at, slope, index = (x.to(w.device) for x in (self._deaths, self._at, self._slope, self._index))

        def locate(w: Tensor, t: Tensor, out: Tensor) -> None:
            x, t = w.double(), t.double()
            place = torch.searchsorted(deaths, t, out_int32=True).mul_(self._width)
            for step in self._steps:  # doubles back to the last border that lies below the weight
                probe = place.add(step - 1)
                border = torch.addcmul(at.index_select(0, probe), slope.index_select(0, probe), t)
                place.add_(x > border, alpha=step)
            out.copy_(index.index_select(0, place))

        map_chunks(locate, w.detach(), t.detach(), out)
        return out


def _deaths(c: list[float], b: list[float]) -> tuple[list[int], list[float]]:
    """Indices of the values that die as t grows, in the order of their deaths, and the t of each, ascending."""
    size = len(c)
    left, right = list(range(-1, size - 1)), list(range(1, size + 1))
    times = [math.inf] * size

    def death(k: int) -> float:
        """When the chord between the neighbours passes below the value; the outermost values never die."""
        low, high = left[k], right[k]
        if low < 0 or high >= size:
            return math.inf
        share = (c[high] - c[k]) / (c[high] - c[low])
        excess = b[k] - share * b[low] - (1 - share) * b[high]
        return (c[k] - c[low]) * (c[high] - c[k]) / excess if excess > 0 else math.inf

    queue = []
    for k in range(size):
        times[k] = death(k)
        queue.append((times[k], k))
    heapq.heapify(queue)
    order: list[int] = []
    deaths: list[float] = []
    while queue:
        time, k = heapq.heappop(queue)
        if time == math.inf:
            break
        if time != times[k]:  # an entry from before a neighbour died
            continue
        times[k] = math.nan
        order.append(k)
        deaths.append(max(time, deaths[-1] if deaths else 0.0))
        right[left[k]], left[right[k]] = right[k], left[k]
        for near in (left[k], right[k]):
            times[near] = death(near)
            heapq.heappush(queue, (times[near], near))
    return order, deaths

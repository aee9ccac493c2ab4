"""The free weights of a clustering round: which interval of candidates each may take, and how many of each kind.

The computation, step by step; delta is the reach, ``g = 2**-b`` the step, ``c_1 < ... < c_C`` the candidates:

1. In multiples of the step, ``x = mu / g`` and ``s = max(sigma, 2**-20) / g``; candidates are whole numbers then, and
   dividing by a power of two rounds nothing (``encode``).
2. The weight may take c if ``|c - x| / s <= delta``, in float64 (the definition; ``reached`` decides it).
3. So it may take all c in ``[x - delta s, x + delta s]``: consecutive candidates, known by the first and the number.
4. The upper end: ``e = round(x + delta s)``, the nearest whole number, is the largest within reach or the one above it,
   however ``x + delta s`` was rounded in its last bit (``reached``).
5. By the comparison of 2, if ``(e - x) / s > delta`` it is the one above: e is lowered by one (``reached``).
6. Candidates up to it: ``u = #{c : c <= e}``, by a table of all whole numbers or by a search (``reached``).
7. The candidates are symmetric, so the lower end is the upper end of the mirrored weight: ``#{c : c < x - delta s} =
   C - #{c : c <= -x + delta s}`` (``encode``).
8. With zero_fix a weight of ``|x| < 1`` reaches 0 at least: ``e >= 0`` on both sides (``least``).
9. Code: ``first * stride + number``, where stride exceeds every number: ``2 delta max(s) + 3`` whole numbers lie within
   the longest reach (:func:`intervals`).
10. Weights with one code are alike for every pick: their number is all that counts (:func:`histogram`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pwfn.kernels.chunks import map_chunks

__all__ = ["SIGMA_FLOOR", "Free", "histogram", "intervals", "largest"]

SIGMA_FLOOR = 2.0**-20
"""Clustering raises every smaller sigma to this one."""

TABLE_LIMIT = 2**22  # more kinds of interval than this are sorted instead of counted in a table


class Free(NamedTuple):
    """The weights that are still free: their places in the flat vector, their means and deviations."""

    place: Tensor
    mu: Tensor
    sigma: Tensor


def largest(x: Tensor) -> float:
    """Largest magnitude; NaN if there is one, 0 for an empty tensor."""
    return max(map(abs, torch.stack(x.aminmax()).tolist())) if len(x) else 0.0


def intervals(free: Free, grid: Tensor, reach: float, step: float, zero_fix: bool) -> tuple[Tensor, int]:
    """Which candidates each weight may take, as ``first * stride + how many``; also returns ``stride``.

    Args:
        free: the weights, float32 ``[N]``.
        grid: float64 ``[C]``, the candidates: sorted, symmetric multiples of ``step``.
        reach: delta, in sigmas.
        step: the smallest power of two.
        zero_fix: let weights below the step take 0, however far it is.

    Returns:
        The codes, int32 or int64 ``[N]``, and the stride.
    """
    points = grid.to(free.mu.device) / step
    size, edge = len(points), int(points[-1]) + 1
    widest = 2 * reach * max(largest(free.sigma), SIGMA_FLOOR) / step + 3  # whole numbers within a reach
    stride = 1 + int(min(size, widest))
    code = torch.empty_like(free.place, dtype=torch.int32 if (size + 1) * stride < 2**31 else torch.int64)
    rank = None
    if 2 * edge < len(code):  # then looking ranks up is cheaper than searching
        whole = torch.arange(-edge, edge + 1, device=points.device)
        rank = torch.searchsorted(points, whole.double(), right=True).to(code.dtype)

    def reached(x: Tensor, s: Tensor, least: Tensor) -> Tensor:
        """How many candidates are at or below the upper end of the reach."""
        end = torch.add(x, s, alpha=reach).round_()
        too_far = torch.sub(end, x).div_(s).gt_(reach)
        end = torch.maximum(end.sub_(too_far), least).clamp_(-edge, edge)
        if rank is None:
            return torch.searchsorted(points, end, right=True)
        return rank.index_select(0, end.add_(edge).to(torch.int32))

    def encode(mu: Tensor, sigma: Tensor, out: Tensor) -> None:
        x = mu.double().mul_(1 / step)
        s = sigma.double().clamp_(min=SIGMA_FLOOR).mul_(1 / step)
        # With zero_fix the reach of a weight smaller than the step does not end before 0.
        least = x.trunc().abs_().mul_(-edge) if zero_fix else torch.full_like(x, -edge)
        end = reached(x, s, least)
        first = size - reached(x.neg_(), s, least)
        out.copy_(end.sub_(first).add_(first, alpha=stride))

    map_chunks(encode, free.mu, free.sigma, code)
    return code, stride


def histogram(code: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The kinds of interval, each weight's index among them, and the number of weights of each kind."""
    if size > TABLE_LIMIT:
        kinds, kind, counts = code.unique(return_inverse=True, return_counts=True)
        return kinds, kind, counts
    return torch.arange(size, device=code.device), code, code.bincount(minlength=size)

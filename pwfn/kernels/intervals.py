"""The free weights of a clustering round: which interval of candidates each may take, and how many of each kind."""

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

    In multiples of ``step``, the end of the reach is rounded to the nearest whole number and, should that be
    too far, lowered by one: the very comparison of the definition decides. Since the candidates are symmetric,
    the lower end is the upper end of the mirrored weight.
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

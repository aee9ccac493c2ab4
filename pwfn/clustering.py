"""Probabilistic weight fixing (PWFN): one clustering round over Gaussian weights.

What it does. Every weight has a mean ``mu`` and a deviation ``sigma``, which says how far it may move. A round makes a
growing share of the weights take values that are sums of few powers of two, the most wanted value first.

Equation -> function:
    candidates, sums of at most omega powers from ``2**-b`` up    :func:`pwfn.apot.candidates`
    distance ``|c - mu| / sigma``, at most ``delta`` for a taker  :func:`pwfn.kernels.intervals.intervals`
    ``argmax_c`` of the number of free weights that may take c    :func:`pwfn.kernels.greedy.greedy`
    these weights take c; the rest stays free                     :func:`pwfn.kernels.greedy.take`
    omega + 1, or ``delta * growth``, once nobody takes anything  :func:`_schedule`
    sigma of the fixed weights                                    :mod:`pwfn.sigma_join`
    the first sigma, from the distance to powers of two           :func:`pwfn.prior.pow2`
    the penalty that keeps sigma from vanishing in training       :mod:`pwfn.regulariser`
    the share fixed in round t                                    :class:`pwfn.rounds.Rounds`

Settings: the arguments of :func:`assign`, in ``conf/fixing`` as ``delta_start``, ``delta_end``, ``min_exponent`` (-b),
``growth``, ``max_order`` (of omega), ``zero_fix`` and ``max_unique``.

Cost. The candidates are sorted, so those that a weight may take are one interval of indices, and weights with the same
interval are alike. A histogram of the intervals decides every pick, and the weights are read once for each set of
candidates: O(N) time plus a few hundred picks on small tables, O(N) memory. No ``N x C`` table is built.

When it helps. It needs training with noise between the rounds, so that sigma says which weights may move. Without
training, ``method=apot_round`` and ``method=kmeans`` are cheaper; where sigma is no use, ``method=wfn`` does without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pwfn.apot import candidates
from pwfn.assignment import Assignment, Pick, from_picks
from pwfn.kernels.chunks import map_chunks
from pwfn.kernels.deterministic import kthvalue
from pwfn.kernels.greedy import greedy, take
from pwfn.kernels.intervals import SIGMA_FLOOR, Free, histogram, intervals, largest
from pwfn.rounds import share

__all__ = ["assign"]


@torch.no_grad()
def assign(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    delta: float = 1.0,
    min_exponent: int = -7,
    growth: float = 2.0,
    max_order: int = 4,
    zero_fix: bool = True,
    max_unique: int | None = None,
    fixed_before: int = 0,
) -> Assignment:
    """Let ``ceil(fraction * N)`` weights take shared values, the most wanted value first (PWFN, Algorithm 1).

    Starting with single powers of two and a reach of ``delta`` sigmas, the candidate that most free weights
    may take is picked (the lowest on a tie) and they all take it; if they are more than are still wanted, the
    nearest of them in ``|c - mu| / sigma`` do (the first in the tensor on a tie). Once no candidate has a
    taker, the order of the candidates and the reach are raised in turn, the order up to ``max_order``, and a
    fresh set is offered to the weights still free. All comparisons are those of float64.

    Args:
        mu: float32 ``[N]``, the means.
        sigma: float32 ``[N]``, the standard deviations; raised to at least ``2**-20``.
        fraction: share of the ``N`` weights to be fixed by this round, in [0, 1], taken as the decimal number
            it prints as: 0.55 of 100 weights are 55, whatever ``0.55 * 100`` is in floating point.
        delta: reach, in sigmas, at the start.
        min_exponent: the smallest power is ``2**min_exponent``.
        growth: factor by which the reach grows.
        max_order: most powers of two in a sum.
        zero_fix: put weights with ``|mu| < 2**min_exponent`` at distance 0 from the centroid 0.
        max_unique: at most this many distinct centroids. Once they are picked, the weights still wanted are
            those nearest in ``|c - mu| / sigma`` to one of them, each taking its nearest (the lower on a
            tie); these groups come last, by ascending centroid, and their reach is the largest distance
            among their members.
        fixed_before: weights besides these that are fixed already and count towards ``fraction`` of all.

    Returns:
        The assignment, on the device of ``mu``.

    Raises:
        ValueError: on tensors that are not finite float32 vectors of one shape and device, on settings out of
            range, and on weights above ``2**(24 + min_exponent)``, whose sums float32 could not hold.
    """
    mu, sigma, step = mu.detach(), sigma.detach(), 2.0**min_exponent
    _check(mu, sigma, fraction, delta, step, growth, max_order, max_unique)
    near_zero = step if zero_fix else 0.0
    left = share(fraction, mu.numel() + fixed_before) - fixed_before
    group = torch.full_like(mu, -1, dtype=torch.int32)
    free = Free(torch.arange(mu.numel(), dtype=torch.int32, device=mu.device), mu, sigma)
    picks: list[Pick] = []
    for order, reach in _schedule(float(delta), growth, max_order):
        known = {pick.centroid for pick in picks}
        if left <= 0 or len(known) == max_unique:
            break
        grid = candidates(largest(free.mu), order, min_exponent=min_exponent)
        code, stride = intervals(free, grid, reach, step, zero_fix)
        kinds, code, counts = histogram(code, (len(grid) + 1) * stride)
        table, chosen = greedy(kinds, counts, stride, grid.tolist(), left, known, max_unique)
        if chosen:
            table = torch.where(table < 0, table, table + len(picks))
            free = take(free, code, table, group)
            picks += [Pick(centroid, count, order, reach) for centroid, count in chosen]
            left -= sum(count for _, count in chosen)
    if left < 0:
        picks[-1] = picks[-1]._replace(size=picks[-1].size + left)
        _drop_farthest(group, mu, sigma, picks, near_zero)
    if left > 0:
        picks += _take_nearest(group, free, left, picks, near_zero)
    return from_picks(mu, group, picks)


def _check(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    delta: float,
    step: float,
    growth: float,
    max_order: int,
    max_unique: int | None,
) -> None:
    for name, x in (("mu", mu), ("sigma", sigma)):
        if x.dim() != 1 or x.dtype != torch.float32:
            raise ValueError(f"{name} must be a float32 vector, got {x.dtype} of shape {tuple(x.shape)}")
        if not math.isfinite(largest(x)):
            raise ValueError(f"{name} must be finite")
    for holds, demand in (
        (len(mu) == len(sigma) and mu.device == sigma.device, "mu and sigma must have one length and device"),
        (largest(mu) <= step * 2**24, f"|mu| must not exceed {step * 2**24}, 2**24 times the smallest power"),
        (0 <= fraction <= 1, f"fraction must be in [0, 1], got {fraction}"),
        (0 < delta < math.inf, f"delta must be positive and finite, got {delta}"),
        (1 < growth < math.inf, f"growth must be above 1 and finite, got {growth}"),
        (max_order >= 1, f"max_order must be at least 1, got {max_order}"),
        (max_unique is None or max_unique >= 1, f"max_unique must be at least 1, got {max_unique}"),
    ):
        if not holds:
            raise ValueError(demand)


def _schedule(reach: float, growth: float, max_order: int) -> Iterator[tuple[int, float]]:
    """Order and reach of each set of candidates: order and reach are raised in turn, then the reach alone."""
    order = 1
    yield order, reach
    while True:
        if order < max_order:
            order += 1
            yield order, reach
        reach *= growth
        yield order, reach


def _distance(centroid: Tensor, mu: Tensor, sigma: Tensor, near_zero: float) -> Tensor:
    """``|c - mu| / sigma`` in float64; 0 from the centroid 0 where ``|mu| < near_zero``."""
    mu, sigma = mu.double(), sigma.double().clamp_(min=SIGMA_FLOOR)
    distance = (centroid - mu).abs_().div_(sigma)
    return distance.masked_fill_((centroid == 0) & (mu.abs() < near_zero), 0)


def _nearest(distance: Tensor, count: int) -> Tensor:
    """Mask of the ``count`` smallest distances, the first ones on a tie."""
    bound = kthvalue(distance, count)
    near = distance < bound
    ties = (distance == bound).nonzero().squeeze(1)
    near[ties[: count - int(near.sum())]] = True
    return near


def _drop_farthest(group: Tensor, mu: Tensor, sigma: Tensor, picks: list[Pick], near_zero: float) -> None:
    """Free all but the nearest of the last group's members."""
    members = (group == len(picks) - 1).nonzero().squeeze(1)
    centroid = torch.tensor(picks[-1].centroid, dtype=torch.float64, device=mu.device)
    parts = map_chunks(lambda at: _distance(centroid, mu[at], sigma[at], near_zero), members)
    group[members[~_nearest(torch.cat(parts), picks[-1].size)]] = -1


def _take_nearest(group: Tensor, free: Free, left: int, picks: list[Pick], near_zero: float) -> list[Pick]:
    """Let the ``left`` free weights nearest to a centroid already picked take it; returns the new groups."""
    codebook = torch.tensor(sorted({pick.centroid for pick in picks}), dtype=torch.float64).to(group.device)
    above = torch.searchsorted(codebook, free.mu.double()).clamp_(max=len(codebook) - 1)
    below = (above - 1).clamp_(min=0)
    up, down = (_distance(codebook[side], free.mu, free.sigma, near_zero) for side in (above, below))
    nearest, distance = torch.where(up < down, above, below), torch.minimum(up, down)
    near = _nearest(distance, left)
    used, number, counts = nearest[near].unique(return_inverse=True, return_counts=True)
    group[free.place[near].long()] = (len(picks) + number).int()
    reach = torch.zeros_like(codebook[used]).scatter_reduce_(0, number, distance[near], "amax")
    groups = zip(codebook[used].tolist(), counts.tolist(), reach.tolist(), strict=True)
    return [Pick(centroid, number, picks[-1].order, far) for centroid, number, far in groups]

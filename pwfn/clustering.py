"""One clustering round of PWFN: which Gaussian weights take which additive powers-of-two value.

A weight may take the centroid ``c`` when ``|c - mu| / sigma <= reach``. The candidates are sorted, so those
within a weight's reach are one interval of indices, and weights with the same interval are alike: a histogram
of the intervals decides every pick, and the weights themselves are read once for each set of candidates.
Time is O(N) plus a few hundred picks on small tables, memory is O(N); no ``N x C`` table is ever built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import torch
from torch import Tensor

from pwfn.apot import candidates
from pwfn.assignment import Assignment

__all__ = ["assign"]

SIGMA_FLOOR = 2.0**-20
CHUNK_CPU, CHUNK_GPU = 2**16, 2**24  # weights converted to float64 at a time; on a CPU they stay in its cache
TABLE_LIMIT = 2**22  # more kinds of interval than this are sorted, not counted in a table


class _Pick(NamedTuple):
    centroid: float
    members: int
    order: int
    reach: float


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

    Returns:
        The assignment, on the device of ``mu``.

    Raises:
        ValueError: on tensors that are not finite float32 vectors of one shape and device, on settings out of
            range, and on weights above ``2**(24 + min_exponent)``, whose sums float32 could not hold.
    """
    _check(mu, sigma, fraction, delta, min_exponent, growth, max_order, max_unique)
    step = 2.0**min_exponent
    near_zero = step if zero_fix else 0.0
    left = math.ceil(Decimal(str(float(fraction))) * mu.numel())
    group = torch.full_like(mu, -1, dtype=torch.int32)
    free = torch.arange(mu.numel(), dtype=torch.int32, device=mu.device)
    free_mu, free_sigma = mu, sigma
    picks: list[_Pick] = []
    for order, reach in _schedule(delta, growth, max_order):
        known = {pick.centroid for pick in picks}
        if left == 0 or len(known) == max_unique:
            break
        grid = candidates(_largest(free_mu), order, min_exponent=min_exponent)
        code, stride = _intervals(free_mu, free_sigma, grid, reach, step, near_zero)
        kinds, code, counts = _histogram(code, (len(grid) + 1) * stride)
        table, chosen = _greedy(kinds, counts, stride, grid.tolist(), left, known, max_unique)
        if not chosen:
            continue
        taken = torch.where(table < 0, table, table + len(picks)).index_select(0, code)
        group[free.long()] = taken
        picks += [_Pick(centroid, count, order, reach) for centroid, count in chosen]
        left -= sum(count for _, count in chosen)
        keep = (taken < 0).nonzero().squeeze(1)
        free, free_mu, free_sigma = (x.index_select(0, keep) for x in (free, free_mu, free_sigma))
    if picks:
        _drop_farthest(group, mu, sigma, picks, near_zero)
    if left > 0:
        picks += _take_nearest(group, free, mu, sigma, left, picks, near_zero)
    return _assignment(mu, group, picks)


def _check(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    delta: float,
    min_exponent: int,
    growth: float,
    max_order: int,
    max_unique: int | None,
) -> None:
    for name, x in (("mu", mu), ("sigma", sigma)):
        if x.dim() != 1 or x.dtype != torch.float32:
            raise ValueError(f"{name} must be a float32 vector, got {x.dtype} of shape {tuple(x.shape)}")
        if not math.isfinite(_largest(x)):
            raise ValueError(f"{name} must be finite")
    if mu.shape != sigma.shape or mu.device != sigma.device:
        raise ValueError("mu and sigma must have one length and one device")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    if not 0 < delta < math.inf:
        raise ValueError(f"delta must be positive and finite, got {delta}")
    if not 1 < growth < math.inf:
        raise ValueError(f"growth must be above 1 and finite, got {growth}")
    if max_order < 1:
        raise ValueError(f"max_order must be at least 1, got {max_order}")
    if max_unique is not None and max_unique < 1:
        raise ValueError(f"max_unique must be at least 1, got {max_unique}")
    if _largest(mu) > 2.0 ** (24 + min_exponent):
        raise ValueError(f"float32 cannot hold sums of powers from 2**{min_exponent} up to {_largest(mu)}")


def _largest(x: Tensor) -> float:
    """Largest magnitude; NaN if any is, 0 for an empty tensor. Needs no memory."""
    return max(map(abs, torch.stack(x.aminmax()).tolist())) if x.numel() else 0.0


def _schedule(delta: float, growth: float, max_order: int) -> Iterator[tuple[int, float]]:
    """Order and reach of each set of candidates: order 2, reach up, order 3, reach up, ..., reach up, ..."""
    order, reach = 1, float(delta)
    yield order, reach
    while True:
        if order < max_order:
            order += 1
            yield order, reach
        reach *= growth
        yield order, reach


def _intervals(
    mu: Tensor, sigma: Tensor, grid: Tensor, reach: float, step: float, near_zero: float
) -> tuple[Tensor, int]:
    """The candidates within reach of each weight: ``first * stride + how many``, and ``stride``.

    The ends of the reach are taken to the nearest multiple of ``step`` and, where that is out of reach, one
    further in; so every end is decided by the very comparison of the definition.
    """
    points = grid.to(mu.device) / step
    widest = 2 * reach * max(_largest(sigma), SIGMA_FLOOR) / step + 3  # multiples of step in a reach
    stride = 1 + int(min(len(grid), widest))
    dtype = torch.int32 if (len(grid) + 1) * stride < 2**31 else torch.int64
    edge = int(points[-1]) + 1
    tabled = 2 * edge < mu.numel()
    if tabled:
        multiples = torch.arange(-edge, edge + 1, device=mu.device)
        below = torch.searchsorted(points, multiples.double()).mul_(stride - 1).to(dtype)
        upto = torch.searchsorted(points, multiples.double(), right=True).to(dtype)
    code = torch.empty_like(mu, dtype=dtype)
    chunk = CHUNK_GPU if mu.is_cuda else CHUNK_CPU
    for out, m, s in zip(code.split(chunk), mu.split(chunk), sigma.split(chunk), strict=True):
        m, s = m.double(), s.double().clamp_(min=SIGMA_FLOOR)
        high = torch.add(m, s, alpha=reach).div_(step).round_()
        high -= ((high * step).sub_(m).div_(s) > reach).double()
        low = torch.sub(m, s, alpha=reach).div_(step).round_()
        low += ((low * -step).add_(m).div_(s) > reach).double()
        small = m.abs() < near_zero
        high = torch.where(small, high.clamp(min=0), high)
        low = torch.where(small, low.clamp(max=0), low)
        if tabled:
            high = high.clamp_(-edge, edge).add_(edge).to(torch.int32)
            low = low.clamp_(-edge, edge).add_(edge).to(torch.int32)
            torch.add(upto.index_select(0, high), below.index_select(0, low), out=out)
        else:
            out.copy_(torch.searchsorted(points, high, right=True))
            out.add_(torch.searchsorted(points, low).mul_(stride - 1))
    return code, stride


def _histogram(code: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The kinds of interval, each weight's index into them, and how many weights are of each kind."""
    if size > TABLE_LIMIT:
        kinds, kind, counts = code.unique(return_inverse=True, return_counts=True)
        return kinds, kind, counts
    return torch.arange(size, device=code.device), code, torch.bincount(code, minlength=size)


def _greedy(
    kinds: Tensor,
    counts: Tensor,
    stride: int,
    values: list[float],
    left: int,
    known: set[float],
    max_unique: int | None,
) -> tuple[Tensor, list[tuple[float, int]]]:
    """Pick from one set of candidates until nobody wants any, nothing is left, or the values are used up.

    Returns:
        For each kind of interval the number of the pick that took it (-1: none), and the picks' values and
        counts; a last pick that is allowed fewer weights than it could have still has all of them.
    """
    used = ((counts > 0) & (kinds % stride > 0)).nonzero().squeeze(1)
    first, wide, count = (kinds[used] // stride).cpu(), (kinds[used] % stride).cpu(), counts[used].cpu()
    end = first + wide
    owner = torch.full_like(count, -1, dtype=torch.int32)
    change = torch.zeros(len(values) + 1, dtype=torch.int64)
    takers = change.index_add(0, first, count).index_add_(0, end, -count).cumsum(0)
    starts = torch.searchsorted(first, torch.arange(len(values) + 1)).tolist()
    chosen: list[tuple[float, int]] = []
    known = set(known)
    while left > 0 and len(known) != max_unique:
        best = int(takers.argmax())
        most = int(takers[best])
        if most == 0:
            break
        rows = slice(starts[max(0, best + 2 - stride)], starts[best + 1])
        gone = count[rows] * (end[rows] > best)
        owner[rows].masked_fill_(gone > 0, len(chosen))
        count[rows] -= gone
        takers -= change.index_add(0, first[rows], gone).index_add_(0, end[rows], -gone).cumsum(0)
        chosen.append((values[best], min(most, left)))
        left -= chosen[-1][1]
        known.add(values[best])
    table = torch.full_like(kinds, -1, dtype=torch.int32)
    table[used] = owner.to(table.device)
    return table, chosen


def _distance(centroid: Tensor, mu: Tensor, sigma: Tensor, near_zero: float) -> Tensor:
    """``|c - mu| / sigma`` in float64; 0 from the centroid 0 where ``|mu| < near_zero``."""
    mu, sigma = mu.double(), sigma.double().clamp_(min=SIGMA_FLOOR)
    distance = (centroid - mu).abs_().div_(sigma)
    return distance.masked_fill_((centroid == 0) & (mu.abs() < near_zero), 0)


def _nearest(distance: Tensor, count: int) -> Tensor:
    """Mask of the ``count`` smallest distances, the first ones on a tie."""
    bound = distance.kthvalue(count).values
    near = distance < bound
    ties = (distance == bound).nonzero().squeeze(1)
    near[ties[: count - int(near.sum())]] = True
    return near


def _drop_farthest(group: Tensor, mu: Tensor, sigma: Tensor, picks: list[_Pick], near_zero: float) -> None:
    """Free all but the nearest ``count`` members of the last group."""
    members = (group == len(picks) - 1).nonzero().squeeze(1)
    if len(members) > picks[-1].members:
        centroid = torch.tensor(picks[-1].centroid, dtype=torch.float64, device=mu.device)
        distance = _distance(centroid, mu[members], sigma[members], near_zero)
        group[members[~_nearest(distance, picks[-1].members)]] = -1


def _take_nearest(
    group: Tensor, free: Tensor, mu: Tensor, sigma: Tensor, left: int, picks: list[_Pick], near_zero: float
) -> list[_Pick]:
    """Let the ``left`` free weights nearest to a centroid already picked take it; returns the new groups."""
    free = free.long()
    mu, sigma = mu[free], sigma[free]
    codebook = torch.tensor(sorted({pick.centroid for pick in picks}), dtype=torch.float64, device=mu.device)
    above = torch.searchsorted(codebook, mu.double()).clamp_(max=len(codebook) - 1)
    below = (above - 1).clamp_(min=0)
    up, down = (_distance(codebook[side], mu, sigma, near_zero) for side in (above, below))
    nearest, distance = torch.where(up < down, above, below), torch.minimum(up, down)
    near = _nearest(distance, left)
    free, nearest, distance = free[near], nearest[near], distance[near]
    used, number, counts = nearest.unique(return_inverse=True, return_counts=True)
    group[free] = (len(picks) + number).int()
    reach = torch.zeros_like(codebook[used]).scatter_reduce_(0, number, distance, "amax")
    new = zip(codebook[used].tolist(), counts.tolist(), reach.tolist(), strict=True)
    return [_Pick(centroid, count, picks[-1].order, far) for centroid, count, far in new]


def _assignment(mu: Tensor, group: Tensor, picks: list[_Pick]) -> Assignment:
    centroids = torch.tensor([pick.centroid for pick in picks], dtype=torch.float32, device=mu.device)
    fixed = group >= 0
    padded = torch.cat((centroids, centroids.new_zeros(1)))  # so that there is an entry even without a pick
    return Assignment(
        values=torch.where(fixed, padded.index_select(0, group.clamp(min=0)), mu),
        fixed=fixed,
        group=group,
        centroids=centroids,
        counts=torch.tensor([pick.members for pick in picks], dtype=torch.int64, device=mu.device),
        orders=torch.tensor([pick.order for pick in picks], dtype=torch.int64, device=mu.device),
        reaches=torch.tensor([pick.reach for pick in picks], dtype=torch.float32, device=mu.device),
    )

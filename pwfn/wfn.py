"""Weight fixing networks (WFN): one clustering round without sigma, the deterministic predecessor of PWFN.

What it does. A weight may move by a relative distance, the allowance, on the average of its group. A round makes a
growing share of the weights take values that are sums of few powers of two; between rounds a penalty pulls the free
weights towards the values of the last one.

Equation -> function:
    allowance of round t of T, ``a = max(delta, delta (T - t))``       :func:`allowance`
    grid ``c_0 = g, c_{k+1} = c_k (1 + a) / (1 - a)``, cut to powers   :func:`pwfn.grid.candidates`
    distance ``|w - c| / |w|``, 0 to the centroid 0 where ``|w| < g``  :class:`pwfn.kernels.nearest.Distance`
    ``argmax_c`` of the number of free weights nearest to c            ``SortedWeights.most_wanted``
    the longest prefix by distance whose mean is at most a takes c     ``SortedWeights.nearest``
    omega + 1 once it is empty, past 20 a doubled                      :func:`assign`
    ``R``, the mean soft distance of the free weights                  :func:`pwfn.kernels.softmin.penalty`
    the penalty ``alpha stop(CE / R) R`` on the training loss          :class:`pwfn.learning.Attraction`

Settings: ``delta``, ``zero_distance`` (g), ``distance`` and ``alpha`` in ``conf/method/wfn.yaml``; the shares of the
rounds in ``conf/fixing/wfn.yaml``.

Cost. The weights are sorted once; the counts are read off at the midpoints between candidates and kept up to date from
what is taken, and a pick looks only at the weights around its centroid. O(N log N) time for a round, O(N) memory; no
``N x C`` table is built.

When it helps. It needs neither sigma nor noise in training, and its one setting, delta, trades bits for accuracy. It
knows nothing of which weights the loss minds: where that counts, ``method=pwfn`` learns it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pwfn.assignment import Assignment, Pick, from_picks
from pwfn.grid import candidates, check_range
from pwfn.kernels.curve import Curve, curve
from pwfn.kernels.nearest import Distance, SortedWeights
from pwfn.kernels.softmin import penalty
from pwfn.rounds import share

__all__ = ["Curve", "allowance", "assign", "candidates", "curve", "penalty"]

LAST_ORDER = 20  # from here on the allowance is doubled instead
DISTANCES = ("relative", "euclidean")


def allowance(delta: float, round: int, rounds: int) -> float:
    """Allowance of a fixing round: ``max(delta, delta * (rounds - round))``, generous first.

    Args:
        delta: the allowance of the last round, as a relative distance.
        round: index of the round, from 0.
        rounds: how many rounds there are.

    Raises:
        ValueError: if ``round`` is not one of ``0, ..., rounds - 1``.
    """
    if not 0 <= round < rounds:
        raise ValueError(f"round must lie in 0..{rounds - 1}, got {round}")
    return max(delta, delta * (rounds - round))


@torch.no_grad()
def assign(
    w: Tensor,
    fraction: float,
    *,
    allowance: float,
    zero_distance: float = 2**-7,
    distance: str = "relative",
    max_unique: int | None = None,
    fixed_before: int = 0,
) -> Assignment:
    """Let ``floor(fraction * N)`` weights take shared values, the value nearest to most of them first.

    The candidate that is the nearest (in ``|w - c|``, the lower on a tie) for most free weights (the lowest
    on a tie) is picked. The free weights sorted by their distance to it, it takes the longest prefix whose
    running mean over the non-zero distances stays within the allowance (the mean over all, where exactly one free
    weight is at distance 0: so the released research code counts). Where that is empty the order of the
    candidates is raised for the rest of the round; past order 20 the allowance is doubled until something is
    taken. On equal distances the lower weight goes first, for the centroid 0 the one nearer to 0, and the
    earlier in the tensor of equal weights. Only where more weights are at distance 0 from the centroid 0 than are
    still wanted it is those that ``numpy.argsort`` puts first, as in the released research code: any choice would
    do, and this one can differ between types of CPU. All comparisons are those of float64.

    Args:
        w: float32 ``[N]``.
        fraction: share of the ``N`` weights to be fixed by this round, in [0, 1], taken as the decimal number
            it prints as: 0.29 of 100 weights are 29, whatever ``0.29 * 100`` is in floating point.
        allowance: the most that a group may move, on the average. The grid of candidates is made of it too.
        zero_distance: weights below this magnitude are at distance 0 from the centroid 0.
        distance: ``relative``: ``|w - c| / |w|``, and 1 where w is 0; ``euclidean``: ``|w - c|``, the
            allowance bounding it in the weights' own unit (the grid's spacing stays relative).
        max_unique: at most this many distinct centroids. Once they are picked, the weights still wanted are
            those nearest (by ``distance``) to one of them, each taking its nearest (the lower on a tie);
            these groups come last, by ascending centroid, their reach the largest distance among the members.
        fixed_before: weights besides these that are fixed already and count towards ``fraction`` of all.

    Returns:
        The assignment, on the device of ``w``; ``orders`` and ``reaches`` hold omega and the allowance in
        force at each pick.

    Raises:
        ValueError: if ``w`` is no finite float32 vector, or a setting is out of range.
    """
    _check(w, fraction, allowance, zero_distance, distance, max_unique)
    left = share(fraction, w.numel() + fixed_before, math.floor) - fixed_before
    group = torch.full_like(w, -1, dtype=torch.int32)
    measure = Distance(distance == "relative", zero_distance)
    weights, picks = SortedWeights(w), list[Pick]()
    order, reach, offered = 0, allowance, (-1.0, -1)
    while left > 0 and not (max_unique and len({pick.centroid for pick in picks}) == max_unique):
        if offered != (weights.largest(), order):
            offered = weights.largest(), order
            grid = candidates(offered[0], allowance=allowance, zero_distance=zero_distance, order=order)
            weights.offer(grid.float().unique().to(w.device))
        centroid = weights.most_wanted()
        taken = weights.nearest(centroid, reach, left, measure)
        if len(taken) > 0:
            index = weights.take(taken)
            last_at_zero = centroid == 0 and len(taken) == left
            group[_cut_at_zero(w, group, index, measure) if last_at_zero else index] = len(picks)
            picks.append(Pick(centroid, len(taken), order, reach))
            left -= len(taken)
            reach = allowance
        elif order < LAST_ORDER:
            order += 1
        else:
            reach *= 2
    if left > 0:
        picks += _share(w, group, picks, left, order, measure)
    return from_picks(w, group, picks)


def _cut_at_zero(w: Tensor, group: Tensor, index: Tensor, distance: Distance) -> Tensor:
    """The last weights to take the centroid 0, as many as ``index``: others than these if more are at distance 0."""
    free = (group < 0).nonzero().squeeze(1)
    away = distance(w[free], 0.0)
    if int((away == 0).sum()) <= len(index):
        return index
    order = np.argsort(away.cpu().numpy())[: len(index)]
    return free[torch.from_numpy(order).to(w.device)]


def _share(w: Tensor, group: Tensor, picks: list[Pick], left: int, order: int, distance: Distance) -> list[Pick]:
    """Let the ``left`` free weights nearest to a centroid already picked take it; returns the new groups."""
    codebook = torch.tensor(sorted({pick.centroid for pick in picks}), dtype=torch.float64, device=w.device)
    free = (group < 0).nonzero().squeeze(1)
    closest = torch.searchsorted((codebook[1:] + codebook[:-1]) / 2, w[free].double())
    zero = (codebook == 0).nonzero().squeeze(1)
    if len(zero) > 0:
        closest[w[free].abs() < distance.zero_distance] = zero
    away, nearest = distance(w[free], codebook[closest]).sort(stable=True)
    free, closest, away = free[nearest[:left]], closest[nearest[:left]], away[:left]
    used, number, counts = closest.unique(return_inverse=True, return_counts=True)
    group[free] = (len(picks) + number).int()
    reaches = torch.zeros_like(codebook[used]).scatter_reduce_(0, number, away, "amax")
    new = zip(codebook[used].tolist(), counts.tolist(), reaches.tolist(), strict=True)
    return [Pick(centroid, count, order, reach) for centroid, count, reach in new]


def _check(
    w: Tensor,
    fraction: float,
    allowance: float,
    zero_distance: float,
    distance: str,
    max_unique: int | None,
) -> None:
    if w.dim() != 1 or w.dtype != torch.float32:
        raise ValueError(f"w must be a float32 vector, got {w.dtype} of shape {tuple(w.shape)}")
    if w.numel() and not torch.stack(w.aminmax()).isfinite().all():
        raise ValueError("w must be finite")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    if distance not in DISTANCES:
        raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {distance}")
    if max_unique is not None and max_unique < 1:
        raise ValueError(f"max_unique must be at least 1, got {max_unique}")
    check_range(allowance, zero_distance)

"""Untrained baselines: every weight to the nearest value of a codebook, given beforehand or fitted by k-means."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pwfn import apot
from pwfn.assignment import Assignment
from pwfn.kernels.deterministic import cumsum
from pwfn.kernels.nearest import borders

__all__ = ["apot_round", "kmeans", "to_nearest"]

SAMPLE = 2**16  # weights among which k-means finds its first centroids
TRIALS = 8  # draws for each of them, the best is kept


@torch.no_grad()
def apot_round(w: Tensor, *, order: int, min_exponent: int = -7) -> Assignment:
    """Round every weight to the nearest sum of at most ``order`` powers of two, the lower on a tie.

    The nearest value may lie above the largest ``|w|``, so the values reach to the next power of two.

    Args:
        w: float32 ``[N]``.
        order: omega, how many powers are summed, at least 1.
        min_exponent: the smallest power is ``2**min_exponent``.

    Returns:
        All weights fixed; the groups by ascending value, ``reaches`` their largest ``|w - c|``.

    Raises:
        ValueError: if ``w`` is no finite float32 vector, or as :func:`pwfn.apot.candidates` does.
    """
    _check(w)
    _, exponent = math.frexp(float(w.abs().max()) if w.numel() else 0.0)  # all |w| < 2**exponent
    largest = 2.0 ** (max(exponent, min_exponent) + 1)  # candidates sum the powers below this one
    return to_nearest(w, apot.candidates(largest, order, min_exponent=min_exponent).to(w.device), order)


@torch.no_grad()
def kmeans(
    w: Tensor, *, clusters: int, weights: Tensor | None = None, iterations: int = 1000, seed: int = 0
) -> Assignment:
    """One codebook by (weighted) 1-D k-means: Lloyd's algorithm, started by k-means++ on a sample.

    On sorted weights a cluster is an interval between two midpoints, and running sums give its mean: an
    iteration costs ``O(clusters log N)``, where scikit-learn's general ``KMeans`` compares all N weights with
    the centroids each time. A centroid that loses its last weight moves to the weight that is furthest from
    its own, so that all are used if there are as many distinct weights.

    Args:
        w: float32 ``[N]``.
        clusters: k, at least 1.
        weights: importance of each weight, float ``[N]``, not negative and not all 0, such as
            ``1 / sigma**2``; its sums are float64, which a share of the total below about 1e-12 is lost in.
        iterations: at most this many; it ends where nothing changes any more.
        seed: of the sample and the first centroids; the result is a function of it and the data.

    Returns:
        All weights fixed; the groups by ascending value, ``reaches`` their largest ``|w - c|``, ``orders`` 0
        (the values are no sums of powers of two).

    Raises:
        ValueError: if an argument is not as described.
    """
    _check(w)
    if clusters < 1:
        raise ValueError(f"clusters must be at least 1, got {clusters}")
    if iterations < 0:
        raise ValueError(f"iterations must not be negative, got {iterations}")
    if w.numel() == 0:
        return to_nearest(w, w.new_zeros(1, dtype=torch.float64), 0)
    value, index = w.sort()
    mass = torch.ones_like(value, dtype=torch.float64) if weights is None else _mass(weights, w)[index]
    mass_before = cumsum(mass)
    moment_before = cumsum(mass * value)
    centroids = _first_centroids(value, mass_before, clusters, seed)
    for _ in range(iterations):
        edges = _edges(value, centroids)
        weight, moment = mass_before[edges].diff(), moment_before[edges].diff()
        means = torch.where(weight > 0, moment / weight, centroids)
        means = _move_unused(means, value, edges)
        if means.equal(centroids):
            break
        centroids = means
    return to_nearest(w, centroids, 0)


def _first_centroids(value: Tensor, mass_before: Tensor, clusters: int, seed: int) -> Tensor:
    """k-means++ on a stratified sample (by mass) of the sorted weights; sorted."""
    generator = torch.Generator().manual_seed(seed)
    size = min(SAMPLE, len(value))
    at = (torch.arange(size, dtype=torch.float64) + torch.rand(size, generator=generator, dtype=torch.float64)) / size
    drawn = torch.searchsorted(mass_before[1:], at.to(value.device) * mass_before[-1], right=True)
    sample = value[drawn.clamp(max=len(value) - 1)].double().cpu()
    chosen = sample[torch.randint(size, (1,), generator=generator)]
    square = (sample - chosen).square()
    while len(chosen) < clusters and bool((square > 0).any()):
        drawn = square.multinomial(TRIALS, replacement=True, generator=generator)
        trials = torch.minimum(square, (sample - sample[drawn, None]).square())
        best = trials.sum(1).argmin()
        chosen, square = torch.cat((chosen, sample[drawn[best], None])), trials[best]
    unused = chosen.new_full((clusters - len(chosen),), math.inf)  # these go where they are needed most
    return torch.cat((chosen, unused)).sort().values.to(value.device)


def _move_unused(centroids: Tensor, value: Tensor, edges: Tensor) -> Tensor:
    """Put centroids without weights on the weights furthest from their own; no centroid where there is none."""
    start, stop = edges[:-1], edges[1:]
    unused = start == stop
    if not bool(unused.any()):
        return centroids
    used = centroids[~unused]
    ends = torch.cat((value[start[~unused]], value[stop[~unused] - 1])).double()
    away, furthest = (ends - used.repeat(2)).abs().sort(descending=True, stable=True)
    moved = ends[furthest[away > 0][: int(unused.sum())]]
    unplaced = centroids.new_full((int(unused.sum()) - len(moved),), math.inf)
    return torch.cat((used, moved, unplaced)).sort().values


def _edges(value: Tensor, centroids: Tensor) -> Tensor:
    """Where each centroid's interval of the sorted weights begins, and N; a midpoint is the lower one's."""
    inner = torch.searchsorted(value, borders(centroids), right=True)
    return torch.cat((inner.new_zeros(1), inner, inner.new_tensor([len(value)])))


def to_nearest(w: Tensor, codebook: Tensor, order: int) -> Assignment:
    """Round every weight to the nearest value, the lower on a tie.

    Args:
        w: float32 ``[N]``.
        codebook: float64 ``[C]``; what is not finite is left out.
        order: recorded of all values.

    Returns:
        All weights fixed; the groups by ascending value, ``reaches`` their largest ``|w - c|``.
    """
    values = codebook[codebook.isfinite()].float().unique()
    nearest = torch.bucketize(w, borders(values.double()))
    counts = nearest.bincount(minlength=len(values))
    used = counts > 0
    group = (used.cumsum(0, dtype=torch.int32) - 1)[nearest]
    rounded = values[nearest]
    reaches = torch.zeros_like(values).scatter_reduce_(0, nearest, (w - rounded).abs(), "amax")
    return Assignment(
        values=rounded,
        fixed=torch.ones_like(w, dtype=torch.bool),
        group=group,
        centroids=values[used],
        counts=counts[used],
        orders=torch.full_like(counts[used], order),
        reaches=reaches[used],
    )


def _mass(weights: Tensor, w: Tensor) -> Tensor:
    mass = weights.double()
    if weights.shape != w.shape or weights.device != w.device:
        raise ValueError("weights must have the length and the device of w")
    if not (bool(mass.isfinite().all()) and bool((mass >= 0).all()) and bool(mass.sum() > 0)):
        raise ValueError("weights must be finite, not negative and not all 0")
    return mass


def _check(w: Tensor) -> None:
    if w.dim() != 1 or w.dtype != torch.float32:
        raise ValueError(f"w must be a float32 vector, got {w.dtype} of shape {tuple(w.shape)}")
    if w.numel() and not torch.stack(w.aminmax()).isfinite().all():
        raise ValueError("w must be finite")

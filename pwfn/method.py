"""Methods: how a round proposes shared values, on one signature.

Each is a function ``method(mu, sigma, fraction, *, round, rounds, ...) -> Assignment`` of flat float32
weights: ``round`` counts from 0 to ``rounds - 1``, ``fraction`` of the weights are fixed afterwards, among them
``fixed_before`` that were fixed earlier and are not passed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import torch
from torch import Tensor

from pwfn import apot, clustering, compression, rounding
from pwfn import rate_distortion as rd
from pwfn import wfn as predecessor
from pwfn.assignment import Assignment
from pwfn.kernels.intervals import SIGMA_FLOOR

__all__ = ["apot_round", "floating", "kmeans", "pwfn", "rate_distortion", "straight_through", "wfn"]


def pwfn(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    round: int,
    rounds: int,
    fixed_before: int = 0,
    delta_start: float = 1.0,
    delta_end: float = 1.0,
    min_exponent: int = -7,
    growth: float = 2.0,
    max_order: int = 4,
    zero_fix: bool = True,
    max_unique: int | None = None,
) -> Assignment:
    """Probabilistic weight fixing; the reach of round t is ``linspace(delta_start, delta_end, rounds)[t]``.

    The other arguments are those of :func:`pwfn.clustering.assign`.
    """
    way = round / max(1, rounds - 1)
    return clustering.assign(
        mu,
        sigma,
        fraction,
        delta=delta_start + way * (delta_end - delta_start),
        min_exponent=min_exponent,
        growth=growth,
        max_order=max_order,
        zero_fix=zero_fix,
        max_unique=max_unique,
        fixed_before=fixed_before,
    )


def wfn(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    round: int,
    rounds: int,
    fixed_before: int = 0,
    delta: float = 0.0075,
    zero_distance: float = 2**-7,
    distance: str = "relative",
    max_unique: int | None = None,
) -> Assignment:
    """Weight fixing without sigma; round t allows a relative distance of ``max(delta, delta * (rounds - t))``.

    The other arguments are those of :func:`pwfn.wfn.assign`.
    """
    return predecessor.assign(
        mu,
        fraction,
        allowance=predecessor.allowance(delta, round, rounds),
        zero_distance=zero_distance,
        distance=distance,
        max_unique=max_unique,
        fixed_before=fixed_before,
    )


def apot_round(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    round: int,
    rounds: int,
    fixed_before: int = 0,
    order: int = 2,
    min_exponent: int = -7,
) -> Assignment:
    """Every weight to the nearest sum of ``order`` powers of two at once: see :func:`pwfn.rounding.apot_round`."""
    return rounding.apot_round(mu, order=order, min_exponent=min_exponent)


def kmeans(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    round: int,
    rounds: int,
    fixed_before: int = 0,
    clusters: int = 64,
    weighted: bool = False,
    seed: int = 0,
) -> Assignment:
    """Every weight to one codebook by k-means at once, ``weighted`` by 1/sigma**2: see :func:`pwfn.rounding.kmeans`.

    For a codebook of each weight tensor, :func:`pwfn.fixing.fix` calls this tensor by tensor.
    """
    weights = sigma.clamp(min=SIGMA_FLOOR).square().reciprocal() if weighted else None
    return rounding.kmeans(mu, clusters=clusters, weights=weights, seed=seed)


def floating(
    mu: Tensor, sigma: Tensor, fraction: float, *, round: int, rounds: int, fixed_before: int = 0
) -> Assignment:
    """No weight is fixed: plain training, the line that sharing is compared with at the same cost."""
    none = mu.new_zeros(0)
    return Assignment(
        values=mu.clone(),
        fixed=torch.zeros_like(mu, dtype=torch.bool),
        group=torch.full_like(mu, -1, dtype=torch.int32),
        centroids=none,
        counts=none.long(),
        orders=none.long(),
        reaches=none,
    )


def rate_distortion(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    round: int,
    rounds: int,
    fixed_before: int = 0,
    bits: float = 3.0,
    max_unique: int = 64,
    max_order: int = 2,
    min_exponent: int | None = None,
    floor: float = 0.0,
) -> Assignment:
    """All weights by :func:`pwfn.rate_distortion.assign`, of which those whose move costs least are fixed.

    The sensitivity of a weight is ``1 / sigma**2``, up to a factor that lambda takes up. ``ceil(fraction * N)``
    weights with the least ``D (c - mu)**2`` are fixed.
    """
    sensitivity = sigma.clamp(min=SIGMA_FLOOR).double().square().reciprocal()
    sensitivity = (sensitivity / sensitivity.mean()).float().clamp_(min=1e-12)
    found = rd.assign(
        mu,
        sensitivity,
        bits=bits,
        max_unique=max_unique,
        max_order=max_order,
        min_exponent=min_exponent,
        floor=floor,
    )
    cost = sensitivity * (found.values - mu).square()
    figures = {"expected_bits": compression.entropy(found.values), "distortion": float(cost.double().mean() / 2)}
    count = math.ceil(Decimal(str(float(fraction))) * (len(mu) + fixed_before)) - fixed_before
    if count >= len(mu):
        return replace(found, figures=figures)
    fixed = torch.zeros_like(found.fixed)
    fixed[cost.argsort(stable=True)[: max(0, count)]] = True
    group = torch.where(fixed, found.group, -1)
    return replace(
        found,
        values=torch.where(fixed, found.values, mu),
        fixed=fixed,
        group=group,
        counts=group[fixed].bincount(minlength=len(found.centroids)),
        figures=figures,
    )


def straight_through(
    mu: Tensor, sigma: Tensor, fraction: float, *, round: int, rounds: int, fixed_before: int = 0
) -> Assignment:
    """Every weight at the value that it has already, for straight-through learning.

    Rounds before the last one change nothing: they measure the network as it stands.

    Returns:
        One group per value, in ascending order; nothing moves. Before the last round no weight is in one.

    Raises:
        ValueError: in the last round, if weights have more values than half their number, as they do without
            :class:`pwfn.straight_through.StraightThrough`.
    """
    centroids, group, counts = mu.unique(return_inverse=True, return_counts=True)
    last = fraction == 1
    if last and 2 * len(centroids) > len(mu):
        raise ValueError("the weights share no values: straight-through learning needs its callback")
    return Assignment(
        values=mu.clone(),
        fixed=torch.full_like(mu, last, dtype=torch.bool),
        group=group.int() if last else torch.full_like(mu, -1, dtype=torch.int32),
        centroids=centroids,
        counts=counts,
        orders=apot.order_of(centroids),
        reaches=torch.zeros_like(centroids),
    )

"""Methods: how a round proposes shared values, on one signature.

Each is a function ``method(mu, sigma, fraction, *, round, rounds, ...) -> Assignment`` of flat float32
weights: ``round`` counts from 0 to ``rounds - 1``, ``fraction`` of the weights are fixed afterwards, among them
``fixed_before`` that were fixed earlier and are not passed.
"""

from __future__ import annotations

from torch import Tensor

from pwfn import clustering, rounding
from pwfn import wfn as predecessor
from pwfn.assignment import Assignment
from pwfn.kernels.intervals import SIGMA_FLOOR

__all__ = ["apot_round", "kmeans", "pwfn", "wfn"]


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

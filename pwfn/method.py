"""Methods: how a round proposes shared values, on one signature.

Each is a function ``method(mu, sigma, fraction, *, round, rounds, ...) -> Assignment`` of flat float32
weights: ``round`` counts from 0 to ``rounds - 1``, ``fraction`` of the weights are fixed afterwards.
"""

from __future__ import annotations

from torch import Tensor

from pwfn import clustering
from pwfn.assignment import Assignment

__all__ = ["pwfn"]


def pwfn(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    round: int,
    rounds: int,
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
    )

"""Methods: how a round proposes shared values, on one signature.

Each is a function ``method(mu, sigma, round, ...) -> Assignment`` of flat float32 weights, see :class:`Method`.
``conf/method`` chooses one and gives its settings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from pwfn import clustering, rounding
from pwfn import wfn as predecessor
from pwfn.assignment import Assignment, from_values
from pwfn.kernels.intervals import SIGMA_FLOOR
from pwfn.rate_distortion.cheapest import assign_cheapest
from pwfn.rounds import Round

__all__ = ["Method", "apot_round", "floating", "kmeans", "pwfn", "rate_distortion", "straight_through", "wfn"]


class Method(Protocol):
    """Proposes shared values for weights of means ``mu`` and deviations ``sigma``, float32 ``[N]``, in one round."""

    def __call__(self, mu: Tensor, sigma: Tensor, round: Round) -> Assignment: ...


def pwfn(
    mu: Tensor, sigma: Tensor, round: Round, *, delta_start: float = 1.0, delta_end: float = 1.0, **settings: Any
) -> Assignment:
    """Probabilistic weight fixing; the reach of round t is ``linspace(delta_start, delta_end, rounds)[t]``.

    The other settings are those of :func:`pwfn.clustering.assign`.
    """
    delta = delta_start + round.index / max(1, round.count - 1) * (delta_end - delta_start)
    return clustering.assign(mu, sigma, round.fraction, delta=delta, fixed_before=round.fixed_before, **settings)


def wfn(mu: Tensor, sigma: Tensor, round: Round, *, delta: float = 0.0075, **settings: Any) -> Assignment:
    """Weight fixing without sigma; round t of T allows a relative distance of ``max(delta, delta * (T - t))``.

    The other settings are those of :func:`pwfn.wfn.assign`.
    """
    allowance = predecessor.allowance(delta, round.index, round.count)
    return predecessor.assign(mu, round.fraction, allowance=allowance, fixed_before=round.fixed_before, **settings)


def apot_round(mu: Tensor, sigma: Tensor, round: Round, *, order: int = 2, min_exponent: int = -7) -> Assignment:
    """Every weight to the nearest sum of ``order`` powers of two at once: see :func:`pwfn.rounding.apot_round`."""
    return rounding.apot_round(mu, order=order, min_exponent=min_exponent)


def kmeans(
    mu: Tensor, sigma: Tensor, round: Round, *, clusters: int = 64, weighted: bool = False, seed: int = 0
) -> Assignment:
    """Every weight to one codebook by k-means at once, ``weighted`` by 1/sigma**2: see :func:`pwfn.rounding.kmeans`.

    For a codebook of each weight tensor, :func:`pwfn.fixing.fix` calls this tensor by tensor.
    """
    weights = sigma.clamp(min=SIGMA_FLOOR).square().reciprocal() if weighted else None
    return rounding.kmeans(mu, clusters=clusters, weights=weights, seed=seed)


def floating(mu: Tensor, sigma: Tensor, round: Round) -> Assignment:
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


def rate_distortion(mu: Tensor, sigma: Tensor, round: Round, **settings: Any) -> Assignment:
    """All weights by :func:`pwfn.rate_distortion.assign`, of which those whose move costs least are fixed.

    The sensitivity of a weight is ``1 / sigma**2``, up to a factor that lambda takes up; the settings are those of
    :func:`pwfn.rate_distortion.cheapest.assign_cheapest`.
    """
    sensitivity = sigma.clamp(min=SIGMA_FLOOR).double().square().reciprocal()
    sensitivity = (sensitivity / sensitivity.mean()).float().clamp_(min=1e-12)
    return assign_cheapest(mu, sensitivity, round.fraction, fixed_before=round.fixed_before, **settings)


def straight_through(mu: Tensor, sigma: Tensor, round: Round) -> Assignment:
    """Every weight at the value that it has already, for straight-through learning.

    Rounds before the last one change nothing: they measure the network as it stands.

    Returns:
        One group per value, in ascending order; nothing moves. Before the last round no weight is in one.

    Raises:
        ValueError: in the last round, if weights have more values than half their number, as they do without
            :class:`pwfn.straight_through.StraightThrough`.
    """
    found, last = from_values(mu.clone()), round.fraction == 1
    if not last:
        return replace(found, fixed=torch.zeros_like(found.fixed), group=torch.full_like(found.group, -1))
    if 2 * len(found.centroids) > len(mu):
        raise ValueError("the weights share no values: straight-through learning needs its callback")
    return found

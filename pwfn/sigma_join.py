"""Sigma joins: the sigma that the members of a group share, or keep, once they are fixed to one centroid.

Each is a function ``join(mu, sigma, group) -> sigma`` of flat tensors: ``mu`` and ``sigma`` as they were
before the round, ``group`` int32 ``[N]`` with the index of each weight's group, -1 for a weight that stays
free. Free weights keep their sigma in every join.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "allow_retraining",
    "keep_the_same_divide_by_2",
    "keep_the_same_divide_by_10",
    "mean_sigma",
    "std_mu",
]

CHUNK = 1 << 20
"""Weights whose float64 sums are formed at a time: bounds the memory beyond the result."""


def std_mu(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Population standard deviation of the members' mu (the paper's join); 0 for a single member.

    Args:
        mu: float ``[N]``, sigma: float ``[N]``, group: int ``[N]``.

    Returns:
        float ``[N]``: the group's joined sigma; the weight's own where ``group`` is -1.
    """
    count = _group_sum(torch.ones_like(mu), group)
    mean = _group_sum(mu, group) / count
    square = mu.new_zeros(len(count), dtype=torch.float64)
    for part in _chunks(mu):
        g = group[part].long() + 1
        deviation = mu[part].double() - mean[g]
        square += torch.bincount(g, weights=deviation.square_(), minlength=len(count))
    return _spread((square / count).sqrt(), sigma, group)


def mean_sigma(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Root mean square of the members' sigma, ``sqrt(mean(sigma**2))``. Shapes as in :func:`std_mu`."""
    count = _group_sum(torch.ones_like(sigma), group)
    return _spread((_group_sum(sigma.square(), group) / count).sqrt(), sigma, group)


def keep_the_same_divide_by_2(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Half of each member's own sigma. Shapes as in :func:`std_mu`."""
    return torch.where(group >= 0, sigma / 2, sigma)


def keep_the_same_divide_by_10(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """A tenth of each member's own sigma. Shapes as in :func:`std_mu`."""
    return torch.where(group >= 0, sigma / 10, sigma)


def allow_retraining(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Each member keeps its own sigma, which goes on learning after mu is fixed. Shapes as in :func:`std_mu`."""
    return sigma.clone()


def _chunks(x: Tensor) -> Iterator[slice]:
    return (slice(i, i + CHUNK) for i in range(0, len(x), CHUNK))


def _group_sum(x: Tensor, group: Tensor) -> Tensor:
    """float64 sums of ``x`` per group; entry 0 collects the free weights."""
    size = int(group.max()) + 2 if len(group) else 1
    total = x.new_zeros(size, dtype=torch.float64)
    for part in _chunks(x):
        total += torch.bincount(group[part].long() + 1, weights=x[part].double(), minlength=size)
    return total


def _spread(joined: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Hand each group's value to its members."""
    joined = joined.to(sigma.dtype)
    out = sigma.clone()
    for part in _chunks(sigma):
        g = group[part].long() + 1
        out[part] = torch.where(g > 0, joined[g], sigma[part])
    return out

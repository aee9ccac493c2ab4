"""Sigma joins: the sigma that the members of a group share, or keep, once they are fixed to one centroid.

Each is a function ``join(mu, sigma, group) -> sigma`` of flat tensors: ``mu`` and ``sigma`` as they were
before the round, ``group`` int32 ``[N]`` with the index of each weight's group, -1 for a weight that stays
free. Free weights keep their sigma in every join.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pwfn.kernels.chunks import chunks
from pwfn.kernels.deterministic import group_sum

__all__ = [
    "allow_retraining",
    "keep_the_same_divide_by_2",
    "keep_the_same_divide_by_10",
    "mean_sigma",
    "std_mu",
]


def std_mu(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Population standard deviation of the members' mu (the paper's join); 0 for a single member.

    >>> std_mu(torch.tensor([1.0, 3.0, 9.0]), torch.full((3,), 0.5), torch.tensor([0, 0, -1])).tolist()
    [1.0, 1.0, 0.5]

    Args:
        mu: float ``[N]``, sigma: float ``[N]``, group: int ``[N]``.

    Returns:
        float ``[N]``: the group's joined sigma; the weight's own where ``group`` is -1.
    """
    size = _size(group)
    count, mean = _mean(mu, group, size)
    square = torch.zeros_like(mean)
    for m, g in _chunks(mu, group):
        deviation = m.double().sub_(mean.index_select(0, g))
        square += group_sum(deviation.square_(), g, size)
    return _spread((square / count).sqrt(), sigma, group)


def mean_sigma(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Root mean square of the members' sigma, ``sqrt(mean(sigma**2))``. Shapes as in :func:`std_mu`.

    >>> mean_sigma(torch.zeros(3), torch.tensor([1.0, 7.0, 2.0]), torch.tensor([0, 0, -1])).tolist()  # sqrt(50 / 2)
    [5.0, 5.0, 2.0]
    """
    _, mean = _mean(sigma.double().square_(), group, _size(group))
    return _spread(mean.sqrt(), sigma, group)


def keep_the_same_divide_by_2(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Half of each member's own sigma. Shapes as in :func:`std_mu`.

    >>> keep_the_same_divide_by_2(torch.zeros(2), torch.tensor([1.0, 3.0]), torch.tensor([0, -1])).tolist()
    [0.5, 3.0]
    """
    return torch.where(group >= 0, sigma / 2, sigma)


def keep_the_same_divide_by_10(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """A tenth of each member's own sigma. Shapes as in :func:`std_mu`.

    >>> keep_the_same_divide_by_10(torch.zeros(2), torch.tensor([5.0, 3.0]), torch.tensor([0, -1])).tolist()
    [0.5, 3.0]
    """
    return torch.where(group >= 0, sigma / 10, sigma)


def allow_retraining(mu: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Each member keeps its own sigma, which goes on learning after mu is fixed. Shapes as in :func:`std_mu`.

    >>> allow_retraining(torch.zeros(2), torch.tensor([1.0, 3.0]), torch.tensor([0, -1])).tolist()
    [1.0, 3.0]
    """
    return sigma.clone()


def _size(group: Tensor) -> int:
    """Number of groups, the free weights being one more, the first."""
    return int(group.max()) + 2 if len(group) else 1


def _chunks(x: Tensor, group: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of ``x`` and the numbers of their groups, 0 for free weights."""
    return ((part, g + 1) for part, g in zip(chunks(x), chunks(group), strict=True))


def _mean(x: Tensor, group: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Members and float64 mean of each group."""
    count, total = (x.new_zeros(size, dtype=torch.float64) for _ in range(2))
    for part, g in _chunks(x, group):
        count += torch.bincount(g, minlength=size)
        total += group_sum(part.double(), g, size)
    return count, total / count


def _spread(joined: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
    """Hand each group's value to its members."""
    joined = joined.to(sigma.dtype)
    parts = [torch.where(g > 0, joined.index_select(0, g), s) for s, g in _chunks(sigma, group)]
    return torch.cat(parts) if parts else sigma.clone()

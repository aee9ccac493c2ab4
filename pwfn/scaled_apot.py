"""APoT: every weight a sum of powers of two times a scale of its tensor, with 2 to 5 bits a weight.

Li, Dong, Wang: Additive powers-of-two quantization (ICLR 2020). A weight of b bits is ``sign * scale * level``, its
level one of ``2**(b - 1)`` sums that take at most one power from each of one or two sets. There are two departures from
the paper. The scale, which sets where weights are clipped, is the one with the least square error, where the paper
learns it by gradient. Weights are not normalised to mean 0 first, which would change a network that is trained already.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pwfn.apot import order_of
from pwfn.assignment import Assignment
from pwfn.kernels.deterministic import cumsum
from pwfn.rounding import to_nearest

__all__ = ["BITS", "assign", "fit", "levels", "nearest", "refit", "uniform"]

EXPONENTS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((0,),),
    3: ((-1, -2, -3),),
    4: ((-1, -2, -4), (-3,)),
    5: ((-1, -3, -5), (-2, -4, -6)),
}
"""By bits: the sets of exponents, of each of which a level takes one power or none."""

BITS = tuple(EXPONENTS)
"""Bits a weight that there are levels for."""

SCALES = 256
"""Scales from which :func:`fit` starts."""

STEPS = 100
"""Improvements of the best of them, at most."""


def levels(bits: int) -> Tensor:
    """The magnitudes that ``bits`` bits a weight can have, before their scale.

    >>> levels(3).tolist(), (8 * levels(4)).tolist()
    ([0.0, 0.125, 0.25, 0.5], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0])

    Returns:
        float64 ``[2**(bits - 1)]``, ascending from 0; exact. Two bits are the ternary -1, 0, 1.

    Raises:
        ValueError: if there are no levels for ``bits``.
    """
    if bits not in EXPONENTS:
        raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}, got {bits}")
    sums = torch.zeros(1, dtype=torch.float64)
    for exponents in EXPONENTS[bits]:
        powers = torch.tensor([0.0, *(2.0**k for k in exponents)], dtype=torch.float64)
        sums = (sums[:, None] + powers).flatten()
    return sums.sort().values


def uniform(bits: int) -> Tensor:
    """The magnitudes 0, 1, 2, ... of ``bits`` bits a weight, which the paper gives to the first and the last layer.

    >>> uniform(3).tolist()
    [0.0, 1.0, 2.0, 3.0]

    Raises:
        ValueError: if ``bits`` is no whole number from 2 to 16.
    """
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"edge_bits must be a whole number from 2 to 16, got {bits}")
    return torch.arange(2 ** (bits - 1), dtype=torch.float64)


@torch.no_grad()
def fit(w: Tensor, magnitudes: Tensor) -> Tensor:
    """Find the scale with the least ``sum (w - scale * level)**2``, every weight at its nearest level.

    For weights at given levels the best scale is ``sum |w| level / sum level**2``. This and the assignment are improved
    in turn until nothing changes, from the best of :data:`SCALES` starts: clipping at a 64th of the largest ``|w|`` up
    to twice it. With sorted weights and their running sums a start costs as many searches as there are levels.

    >>> round(float(fit(torch.tensor([0.3, -0.6, 1.2, 0.0]), levels(3))), 6)  # 2.4 times 1/8, 1/4, 1/2 and 0
    2.4

    Args:
        w: float32, any shape.
        magnitudes: :func:`levels`.

    Returns:
        float64 scalar, positive; 1 where all weights are 0.
    """
    size = w.detach().flatten().abs().double().sort().values
    if not size.numel() or size[-1] == 0:
        return torch.ones((), dtype=torch.float64, device=w.device)
    at = magnitudes.to(w.device)
    sums = cumsum(size)
    factors = 2.0 ** torch.linspace(-6, 1, SCALES, dtype=torch.float64, device=w.device)
    scales, _ = _improved(size, sums, at, factors * size[-1] / at[-1])
    scale = scales[-1:]
    for _ in range(STEPS):
        previous, (scale, _) = scale, _improved(size, sums, at, scale)
        if torch.equal(previous, scale):
            break
    return scale[0]


def _improved(size: Tensor, sums: Tensor, at: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """The best scale for the assignment of each scale, and the squares that it explains; by the latter, ascending.

    Args:
        size: sorted ``|w|``, float64 ``[N]``.
        sums: their running sums, ``[N + 1]``.
        at: the levels, ``[L]``.
        scales: float64 ``[G]``.
    """
    middle = (at[1:] + at[:-1]) / 2
    inner = torch.searchsorted(size, scales[:, None] * middle, right=True)
    ends = inner.new_zeros(len(scales), 1), inner.new_full((len(scales), 1), len(size))
    edges = torch.cat((ends[0], inner, ends[1]), 1)
    product, square = sums[edges].diff() @ at, edges.diff().double() @ at.square()
    best = torch.where(square > 0, product / torch.where(square > 0, square, 1.0), scales)
    explained, order = torch.where(square > 0, product * best, 0.0).sort()
    return best[order], explained


@torch.no_grad()
def nearest(w: Tensor, magnitudes: Tensor, scale: Tensor) -> Tensor:
    """The level nearest to ``|w| / scale`` with the sign of w, the lower one on a tie. float64, the shape of ``w``.

    >>> nearest(torch.tensor([0.3, -0.6, 1.3]), levels(3), torch.tensor(2.4)).tolist()
    [0.125, -0.25, 0.5]
    """
    at = magnitudes.to(w.device)
    size = (w.abs().double() / scale).contiguous()  # torch warns of other layouts, such as channels_last
    return w.sign() * at[torch.bucketize(size, (at[1:] + at[:-1]) / 2)]


@torch.no_grad()
def refit(w: Tensor, magnitudes: Tensor, scale: Tensor) -> Tensor:
    """The best scale for the weights at the levels that they are nearest to at another scale: a step of :func:`fit`.

    >>> float(refit(torch.tensor([0.25, 0.5]), levels(3), torch.tensor(2.0)))  # levels 1/8 and 1/4
    2.0
    """
    level = nearest(w, magnitudes, scale)
    square = level.square().sum()
    return torch.where(square > 0, (level * w).sum() / square, scale)


@torch.no_grad()
def assign(w: Tensor, magnitudes: Tensor, scale: Tensor) -> Assignment:
    """Round all weights of a tensor to ``scale`` times their nearest level.

    >>> assign(torch.tensor([0.26, -0.5, 1.3]), levels(3), torch.tensor(2.0)).values.tolist()
    [0.25, -0.5, 1.0]

    Args:
        w: float32 ``[N]``.
        magnitudes: :func:`levels` or :func:`uniform`.
        scale: positive scalar.

    Returns:
        All weights fixed; the groups by ascending value, their orders those of the levels: the powers of two in a
        level, whatever the scale.
    """
    at = magnitudes.to(w.device)
    steps = torch.cat((-at.flip(0)[:-1], at))
    found = to_nearest(w, steps * scale, 0)
    index = torch.bucketize(found.centroids.double() / scale, (steps[1:] + steps[:-1]) / 2)
    return replace(found, orders=order_of(steps[index]))

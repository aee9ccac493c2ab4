"""WFN's regulariser: how far the free weights are from the centroids, as one smooth number.

A weight's term depends on nothing but the weight, so it is a curve on the real line, the same for all weights.
It is tabled as a polynomial on small cells that no kink crosses. A weight then costs looking up its cell, by the
first bits of ``1 / |w|``, and one polynomial for value and derivative, whatever the number of centroids.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pwfn.kernels.chunks import chunks

__all__ = ["Curve", "curve", "penalty"]

TEMPERATURE = 0.05
NODES = 7  # coefficients of a cell's polynomial: fewer need more cells, more cost more on every weight
BIN = 45  # a float64 without its last 45 bits: 128 bins an octave, in which no exponent changes by more than 1/2
NEGLIGIBLE = 1.75  # a centroid further away than the nearest by this much has weight exp(-35)
TABLE = 2**20  # entries of a distance table, when the curve is made


class Curve(NamedTuple):
    """A weight's term of the penalty as a function of ``u = 1 / |w|``, a table for either sign of w.

    Attributes:
        edges: float64 ``[E + 1]``, NaN at the end; cell k of a sign is ``edges[k - 1] <= u < edges[k]``.
        start: int64 ``[bins]``, the cell in which each bin of float64 numbers begins.
        first_bin: the number of the first of them.
        depth: most edges inside a bin.
        middle, scale: float64 ``[2 (E + 1)]``; the polynomial's argument is ``(u - middle) * scale``.
        coefficients: float64 ``[2 (E + 1), NODES]``, by rising power; positive weights first.
        at_zero: the term of a weight that is 0.
    """

    edges: Tensor
    start: Tensor
    first_bin: int
    depth: int
    middle: Tensor
    scale: Tensor
    coefficients: Tensor
    at_zero: float


def penalty(w: Tensor, centroids: Tensor | Curve, *, zero_distance: float = 2**-7) -> Tensor:
    """R: the mean over the weights of ``sum_j softmin_j(d_ij / 0.05) d_ij``, differentiable in ``w``.

    ``d_ij = |w_i - c_j| / |w_i|``, and 1 where ``w_i`` is 0; to the centroid 0 it is 0 where
    ``|w_i| < zero_distance``. Value and gradient agree with this formula to 1e-5 relative or better; memory
    is O(N + C * 10**4). At a kink (a weight on a centroid) the gradient is that of one of the two sides.

    Args:
        w: floating point, any shape: the free weights. No weights: 0.
        centroids: the round's centroids, in any order, repetitions counting once; or their :func:`curve`,
            which pays off where many steps share them (on the device of ``w``; ``zero_distance`` is the curve's).
        zero_distance: see above; 0 turns the exception off.

    Returns:
        A scalar of the dtype and on the device of ``w``.

    Raises:
        ValueError: if ``w`` is not floating point, or from :func:`curve`.
    """
    if not w.is_floating_point():
        raise ValueError(f"w must be floating point, got {w.dtype}")
    table = centroids if isinstance(centroids, Curve) else curve(centroids.to(w.device), zero_distance=zero_distance)
    return _Penalty.apply(w, table)


@torch.no_grad()
def curve(centroids: Tensor, *, zero_distance: float = 2**-7) -> Curve:
    """Table a weight's term of the penalty for these centroids, on their device.

    Raises:
        ValueError: if there is no centroid, one is not finite, or ``zero_distance`` is negative or not finite.
    """
    if centroids.numel() == 0 or not centroids.isfinite().all():
        raise ValueError("centroids must be at least one finite value")
    if not 0 <= zero_distance < math.inf:
        raise ValueError(f"zero_distance must be finite and not negative, got {zero_distance}")
    values = centroids.detach().double().unique()
    edges = _edges(values, zero_distance)
    low, last = torch.cat((edges.new_zeros(1), edges[:-1])), edges[-1:]
    middle, half = (low + edges) / 2, (edges - low) / 2
    nodes = ((torch.arange(NODES, dtype=torch.float64) + 0.5) * (math.pi / NODES)).cos()  # Chebyshev's
    fit = torch.linalg.vander(nodes, N=NODES).inverse().T.to(edges.device)
    u = (middle[:, None] + half[:, None] * nodes.to(edges.device)).flatten()
    coefficients = []
    for sign in (1, -1):
        terms = [_softmin(_distance(x, sign * values, zero_distance)) for x in u.split(1 + TABLE // len(values))]
        coefficients.append(torch.cat(terms).view(-1, NODES) @ fit)
        coefficients.append(_tail(last, sign * values, zero_distance))
    at_zero = torch.where((values == 0) & (zero_distance > 0), 0.0, torch.ones_like(values))
    first, final = _bin(edges[[0, -1]]).tolist()
    bins = _lower_end(torch.arange(first - 1, final + 2, device=edges.device))
    start = torch.searchsorted(edges, bins, right=True)
    return Curve(
        edges=torch.cat((edges, torch.full_like(last, math.nan))),
        start=start,
        first_bin=first - 1,
        depth=int(start.diff().max()) - 1,
        middle=torch.cat((middle, last)).repeat(2),
        scale=torch.cat((1 / half, torch.ones_like(last))).repeat(2),
        coefficients=torch.cat(coefficients),
        at_zero=float(_softmin(at_zero)),
    )


class _Penalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, table: Curve) -> Tensor:
        """The mean; its gradient is kept, as the derivative comes almost free with the value."""
        flat = w.detach().flatten()
        gradient = torch.empty_like(flat)
        total = torch.zeros((), dtype=torch.float64, device=w.device)
        # operations here are too short to be worth threads of our own: torch shares each among its threads
        parts, outs = (chunks(x, torch.get_num_threads()) for x in (flat, gradient))
        for part, out in zip(parts, outs, strict=True):
            value, slope = _evaluate(part.double(), table)
            total += value.sum()
            out.copy_(slope.div_(flat.numel()))
        ctx.save_for_backward(gradient.view_as(w))
        return (total / max(flat.numel(), 1)).to(w.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grads[0] * gradient, None


def _evaluate(w: Tensor, table: Curve) -> tuple[Tensor, Tensor]:
    """Term and derivative of each weight."""
    u = w.abs().reciprocal_()
    cell = table.start.index_select(0, (_bin(u) - table.first_bin).clamp_(0, len(table.start) - 1))
    for _ in range(table.depth):
        cell += table.edges.index_select(0, cell) <= u
    cell += (w < 0) * len(table.edges)
    scale = table.scale.index_select(0, cell)
    t = (u - table.middle.index_select(0, cell)).mul_(scale)
    columns = table.coefficients.T.contiguous().flip(0)
    value, slope = columns[0].index_select(0, cell), torch.zeros_like(t)
    for column in columns[1:]:  # Horner's rule, for the polynomial and its derivative
        slope.mul_(t).add_(value)
        value.mul_(t).add_(column.index_select(0, cell))
    slope.mul_(scale).mul_(u).mul_(u).mul_(-w.sign())  # du / dw = -sign(w) u**2
    zero = w == 0
    return value.masked_fill_(zero, table.at_zero), slope.masked_fill_(zero, 0.0)


def _distance(u: Tensor, values: Tensor, zero_distance: float) -> Tensor:
    """``|1 - c u|`` for all pairs: the relative distance of a positive weight ``1 / u`` to ``c``."""
    away = (1 - u[:, None] * values).abs_()
    return away.masked_fill_((values == 0) & (u[:, None] * zero_distance > 1), 0.0)


def _softmin(away: Tensor) -> Tensor:
    """``sum_j softmin_j(d_j / T) d_j`` over the last dimension."""
    return ((away / -TEMPERATURE).softmax(-1) * away).sum(-1)


def _edges(values: Tensor, zero_distance: float) -> Tensor:
    """Ends of the cells in ``u``: every kink, and between the kinks small enough steps."""
    sizes = values.abs().unique()
    has_zero, sizes = bool(sizes[0] == 0), sizes[sizes > 0]
    kinks = 1 / sizes
    if has_zero:  # the distance to the centroid 0 jumps below the zero distance
        jump = kinks.new_tensor([1 / zero_distance if zero_distance > 0 else 1.0])
        kinks = torch.cat((kinks, jump.nextafter(2 * jump)))
    # Beyond the last edge the nearest centroid is alone: 0, at most 1 away, or the one or two smallest.
    gap = sizes[:1] if has_zero or len(sizes) == 1 else sizes[1:2] - sizes[:1]
    first = kinks.min() / 32  # before it exponents hardly change
    last = torch.cat((kinks, (2 + NEGLIGIBLE) / gap)).max()
    lowest, highest = _bin(torch.stack((first, last))).tolist()
    return torch.cat((kinks, _lower_end(torch.arange(lowest, highest + 2, device=kinks.device)))).unique()


def _bin(u: Tensor) -> Tensor:
    """Sign, exponent and first digits of float64 numbers, as a number that rises with them."""
    return u.view(torch.int64) >> BIN


def _lower_end(bins: Tensor) -> Tensor:
    return (bins << BIN).view(torch.float64)


def _tail(last: Tensor, values: Tensor, zero_distance: float) -> Tensor:
    """Beyond the last edge: the nearest centroid's distance, which is linear in u."""
    beyond = last * 1.5
    away = _distance(beyond, values, zero_distance)[0]
    nearest = away.argmin()
    line = last.new_zeros(1, NODES)
    line[0, 1] = values[nearest].abs()
    line[0, 0] = away[nearest] - line[0, 1] * (beyond - last)[0]
    return line

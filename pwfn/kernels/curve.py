"""A table of the term that one weight adds to WFN's regulariser, as polynomials on cells.

The formula, step by step; w is a weight, c_j a centroid, T the temperature 0.05, g the zero distance:

1. Distance: ``d_j = |w - c_j| / |w|`` where ``|w| > g``, ``d_j = |w - c_j|`` where ``|w| <= g`` (:func:`_distance`).
2. Share: ``p_j = exp(-d_j / T) / sum_k exp(-d_k / T)`` (:func:`_softmin`).
3. Term of a weight: ``r(w) = sum_j p_j d_j`` (:func:`_softmin`).
4. Penalty: ``R = (1 / N) sum_i r(w_i)`` (:func:`pwfn.kernels.softmin.penalty`).
5. r is a function of w alone. It is smooth but for kinks at ``|w| = |c_j|`` and a jump at ``|w| = g``: they end cells.
6. Where w grows by a share q, ``d_j - d_k`` changes by at most ``q (2 + |d_j - d_k|)`` if relative, by twice the way
   if absolute. Cells with ``q = 1/256``, or T/16 long, keep each exponent that counts within 0.2 (:func:`_edges`).
7. On a cell, m its middle and h half its width, ``r(m + h t) = sum_k a_k t**k``: ``a = V**-1 r(m + h t_n)``, V the
   Vandermonde matrix of Chebyshev's nodes t_n (:func:`_coefficients`).
8. The rest is at most ``max |d^5 r / dt^5| / (2**4 5!)``: value and derivative are right to 1e-5 relative.
9. The cell of a weight: its first bits say in which cell their bin begins, to which one is added for every edge
   that lies in the bin and not above the weight (:func:`evaluate`).
10. Gradient: ``dR/dw_i = (1 / N) (1 / h) sum_k k a_k t**(k-1)`` (:func:`evaluate`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Curve", "curve", "evaluate"]

TEMPERATURE = 0.05
NODES = 5  # coefficients of a cell's polynomial: fewer need more cells, more cost more on every weight
BIN = 15  # a float32 without its last 15 bits: 256 bins an octave
SIGNS_AND_BINS = 2 ** (32 - BIN)
FAR = 28  # octaves above 4 max|c|, with cells of 1/16 octave; relative distances change no more beyond
TABLE = 2**20  # entries of a distance table, when the curve is made


class Curve(NamedTuple):
    """A weight's term of the penalty as a function of the weight, on cells for either sign.

    Attributes:
        start: int32 ``[2**17]``, the cell in which each bin of float32 numbers begins.
        depth: most edges inside a bin.
        upper: float32 ``[cells]``, the magnitude at which each cell ends; infinite for the last of a sign.
        middle, scale: float32 ``[cells]``; the polynomial's argument is ``(w - middle) * scale``.
        coefficients: float32 ``[NODES, cells]``, by falling power.
    """

    start: Tensor
    depth: int
    upper: Tensor
    middle: Tensor
    scale: Tensor
    coefficients: Tensor


@torch.no_grad()
def curve(centroids: Tensor, *, zero_distance: float = 2**-7, distance: str = "relative") -> Curve:
    """Table a weight's term of the penalty for these centroids, on their device; the arguments of
    :func:`pwfn.kernels.softmin.penalty`.

    Raises:
        ValueError: if there is no centroid, or an argument is out of range.
    """
    if centroids.numel() == 0 or not centroids.isfinite().all():
        raise ValueError("centroids must be at least one finite value")
    if not 0 < zero_distance < math.inf:
        raise ValueError(f"zero_distance must be positive and finite, got {zero_distance}")
    if distance not in ("relative", "euclidean"):
        raise ValueError(f"distance must be relative or euclidean, got {distance}")
    values = centroids.detach().double().unique()
    jump = _above(zero_distance, values.device) if distance == "relative" else values.new_tensor(math.inf)
    edges = _edges(values.abs(), jump)
    upper = torch.cat((edges[1:], edges.new_tensor([math.inf])))
    ends = torch.cat((edges, 2 * edges[-1:] + 1)).double()
    middle = ((ends[:-1] + ends[1:]) / 2).float()
    half = torch.minimum(middle - ends[:-1], ends[1:] - middle)  # the nodes stay inside, whatever was rounded
    half = torch.where(half > 0, half, ends.diff()).float()
    columns = [_coefficients(middle.double(), half.double(), sign * values, jump) for sign in (1, -1)]
    columns[1][1::2] *= -1  # odd powers: a negative weight's magnitude falls where the weight rises
    bins = _lower_end(torch.arange(SIGNS_AND_BINS // 2, device=edges.device, dtype=torch.int32))
    bins = bins.where(bins < math.inf, math.inf)  # the highest are those of NaN
    start = torch.searchsorted(edges, bins, right=True, out_int32=True) - 1
    inside = start.diff() - torch.isin(bins[1:], edges).int()  # an edge at the end of a bin is the next one's
    return Curve(
        start=torch.cat((start, start + len(edges))),
        depth=int(inside.max()),
        upper=upper.repeat(2),
        middle=torch.cat((middle, -middle)),
        scale=(1 / half).repeat(2),
        coefficients=torch.cat(columns, 1).flip(0).float().contiguous(),
    )


def evaluate(w: Tensor, table: Curve) -> tuple[Tensor, Tensor]:
    """The term of each weight, float32 ``[N]`` as the weights, and its derivative."""
    cell = table.start.index_select(0, (w.view(torch.int32) >> BIN).bitwise_and_(SIGNS_AND_BINS - 1))
    size = w.abs() if table.depth else w
    for _ in range(table.depth):
        cell += table.upper.index_select(0, cell) <= size
    scale = table.scale.index_select(0, cell)
    t = (w - table.middle.index_select(0, cell)).mul_(scale)
    slope = table.coefficients[0].index_select(0, cell)
    value = (slope * t).add_(table.coefficients[1].index_select(0, cell))
    for column in table.coefficients[2:]:  # Horner's rule, for the polynomial and its derivative
        slope.mul_(t).add_(value)
        value.mul_(t).add_(column.index_select(0, cell))
    return value, slope.mul_(scale)


def _distance(size: Tensor, values: Tensor, jump: Tensor) -> Tensor:
    """Distance of positive weights to every centroid: relative from the jump on, absolute below it."""
    relative = (1 - values / size[:, None]).abs_()
    return torch.where(size[:, None] >= jump, relative, (size[:, None] - values).abs_())


def _softmin(away: Tensor) -> Tensor:
    """``sum_j softmin_j(d_j / T) d_j`` over the last dimension."""
    return ((away / -TEMPERATURE).softmax(-1) * away).sum(-1)


def _coefficients(middle: Tensor, half: Tensor, values: Tensor, jump: Tensor) -> Tensor:
    """Polynomial of each cell through the terms at Chebyshev's nodes: float64 ``[NODES, cells]``, by rising power."""
    nodes = ((torch.arange(NODES, dtype=torch.float64) + 0.5) * (math.pi / NODES)).cos()
    fit = torch.linalg.vander(nodes, N=NODES).inverse().to(middle.device)
    size = (middle[:, None] + half[:, None] * nodes.to(middle.device)).flatten()
    terms = [_softmin(_distance(x, values, jump)) for x in size.split(1 + TABLE // len(values))]
    found = fit @ torch.cat(terms).view(-1, NODES).T
    found[2:, -1] = 0  # all weights beyond the last edge, where the term is a line
    return found


def _edges(sizes: Tensor, jump: Tensor) -> Tensor:
    """Lower ends of the cells, float32: 0, every kink, and between the kinks small enough steps."""
    top = float(sizes.max())
    ends = min(float(jump), top)  # of what is absolute and no line
    steps = torch.arange(0, ends, TEMPERATURE / 16, dtype=torch.float64, device=sizes.device)
    halved = min(float(jump), max(top, 1.0)) * torch.arange(15, dtype=torch.float64, device=sizes.device).neg().exp2()
    edges = [sizes.new_zeros(1), sizes, steps, halved]  # the last so that what is next to nothing keeps its digits
    if jump.isfinite():
        far = torch.stack((jump, (4 * sizes.max()).maximum(jump))).float()
        first, last = (far.view(torch.int32) >> BIN).tolist()
        bins = _lower_end(torch.arange(first + 1, last + 2, dtype=torch.int32, device=sizes.device))
        octaves = torch.arange(16 * FAR, dtype=torch.float64, device=sizes.device) / 16
        edges += [jump[None], bins.double(), far[1].double() * octaves.exp2()]
    return (found := torch.cat(edges).float().unique())[found.isfinite()]


def _above(number: float, device: torch.device) -> Tensor:
    """The smallest float32 above a number, in float64."""
    nearest = torch.tensor(number, dtype=torch.float32, device=device)
    above = nearest.nextafter(nearest.new_tensor(math.inf))
    return (above if nearest <= number else nearest).double()


def _lower_end(bins: Tensor) -> Tensor:
    return (bins << BIN).view(torch.float32)

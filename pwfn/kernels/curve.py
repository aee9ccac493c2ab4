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
9. The cell of a weight: sums of few powers of two, and so all edges, begin bins of float32 numbers. The first bits of
   a weight are its bin then, and the others are t (:func:`_by_bins`). Elsewhere its bin says in which cell the bin
   begins; every edge in the bin below the weight adds one (:func:`evaluate`).
10. Gradient: ``dR/dw_i = (1 / N) (1 / h) sum_k k a_k t**(k-1)`` (:func:`evaluate`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pwfn.kernels.nearest import borders

__all__ = ["Curve", "curve", "evaluate"]

TEMPERATURE = 0.05
NODES = 5  # coefficients of a cell's polynomial: fewer need more cells, more cost more on every weight
BIN = 15  # a float32 without its last 15 bits: 256 bins an octave
STEP = TEMPERATURE / 16  # length of cells where distances are absolute
SIGNS_AND_BINS = 2 ** (32 - BIN)
FAR = 28  # octaves above 4 max|c|, with cells of 1/16 octave; relative distances change no more beyond
TABLE = 2**20  # entries of a distance table, when the curve is made


class Cells(NamedTuple):
    """Holds the cells of either sign that are no bins.

    Attributes:
        start: int32 ``[2**17]``, the cell in which each bin of float32 numbers begins.
        depth: most edges inside a bin.
        upper: float32 ``[cells]``, the magnitude at which each cell ends; infinite for the last of a sign.
        middle: float32 ``[cells]``; the polynomial's argument is ``(w - middle) * scale``.
    """

    start: Tensor
    depth: int
    upper: Tensor
    middle: Tensor


class Curve(NamedTuple):
    """A weight's term of the penalty as a function of the weight, on cells that hold their upper end.

    Attributes:
        coefficients: float32 ``[NODES, cells]``, by falling power.
        scale: float32 ``[cells]``, the derivative of the polynomial's argument by the weight.
        cells: where the cells lie; None where they are the bins of float32 numbers, whose argument is -1 to 1 by
            rising magnitude.
    """

    coefficients: Tensor
    scale: Tensor
    cells: Cells | None


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
    jump = values.new_tensor(math.inf)
    if distance == "relative":
        jump = borders(values.new_tensor([zero_distance, zero_distance])).double()[0]  # the largest float32 up to it
    edges = _edges(values.abs(), jump)
    ends = torch.cat((edges, 2 * edges[-1:] + 1)).double()
    middle = ((ends[:-1] + ends[1:]) / 2).float()
    half = torch.minimum(middle - ends[:-1], ends[1:] - middle)  # the nodes stay inside, whatever was rounded
    half = torch.where(half > 0, half, ends.diff()).float()
    columns = [_coefficients(middle.double(), half.double(), sign * values, jump) for sign in (1, -1)]
    bins = _lower_end(torch.arange(SIGNS_AND_BINS // 2, device=edges.device, dtype=torch.int32))
    bins = bins.where(bins < math.inf, math.inf)  # the highest are those of NaN
    start = torch.searchsorted(edges, bins, right=True, out_int32=True) - 1
    inside = start.diff() - torch.isin(bins[1:], edges).int()  # an edge at the end of a bin is the next one's
    start[-1] = 0  # the bits of 0, less one, are those of NaN
    if not inside.any():
        return _by_bins(bins.double(), start, middle.double(), half.double(), columns)
    columns[1][1::2] *= -1  # odd powers: a negative weight's magnitude falls where the weight rises
    return Curve(
        coefficients=torch.cat(columns, 1).flip(0).float().contiguous(),
        scale=(1 / half).repeat(2),
        cells=Cells(
            start=torch.cat((start, start + len(edges))),
            depth=int(inside.max()),
            upper=torch.cat((edges[1:], edges.new_tensor([math.inf]))).repeat(2),
            middle=torch.cat((middle, -middle)),
        ),
    )


def evaluate(w: Tensor, table: Curve) -> tuple[Tensor, Tensor]:
    """The term of each weight, float32 ``[N]`` as the weights, and its derivative; NaN of NaN."""
    bits = w.view(torch.int32) - 1  # a bin holds its upper end, not its lower one
    cell = (bits >> BIN).bitwise_and_(SIGNS_AND_BINS - 1)
    if table.cells is None:
        t = bits.bitwise_and_(2**BIN - 1).float().add_(1 - 2 ** (BIN - 1)).mul_(2.0 ** (1 - BIN))
        scale = table.scale.index_select(0, cell)
    else:
        cell, size = table.cells.start.index_select(0, cell), w.abs()
        for _ in range(table.cells.depth):
            cell += table.cells.upper.index_select(0, cell) < size
        scale = table.scale.index_select(0, cell)
        t = (w - table.cells.middle.index_select(0, cell)).mul_(scale)
    slope = table.coefficients[0].index_select(0, cell)
    value = torch.addcmul(table.coefficients[1].index_select(0, cell), slope, t)
    for column in table.coefficients[2:]:  # Horner's rule, for the polynomial and its derivative
        torch.addcmul(value, slope, t, out=slope)
        torch.addcmul(column.index_select(0, cell), value, t, out=value)
    return value, slope.mul_(scale)


def _by_bins(lower: Tensor, start: Tensor, middle: Tensor, half: Tensor, columns: list[Tensor]) -> Curve:
    """Give each bin the polynomial of the cell that it lies in: ``sum_k a_k (alpha + beta t)**k`` by powers of t."""
    upper = torch.cat((lower[1:], lower.new_tensor([math.inf])))
    width = ((upper - lower) / 2).clamp(min=2.0**-126)  # shorter ones, near 0, have no reciprocal in float32
    alpha, beta = ((upper + lower) / 2 - middle[start]) / half[start], width / half[start]
    found = []
    for column in columns:
        a = column[:, start]
        terms = [[math.comb(j, k) * a[j] * alpha ** (j - k) for j in range(k, NODES)] for k in range(NODES)]
        found.append(torch.stack([torch.stack(term).sum(0) * beta**k for k, term in enumerate(terms)]).flip(0))
    scale = [1 / width, -1 / width]
    for table in (*found, *scale):  # the bin of 0, whose argument is 1 there
        table[..., -1] = table[..., 0]
    return Curve(torch.cat(found, 1).float().contiguous(), torch.cat(scale).float(), None)


def _distance(size: Tensor, values: Tensor, jump: Tensor) -> Tensor:
    """Distance of positive weights to every centroid: relative above the jump, absolute up to it."""
    relative = (1 - values / size[:, None]).abs_()
    return torch.where(size[:, None] > jump, relative, (size[:, None] - values).abs_())


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
    """Lower ends of the cells, float32: 0, every kink, and between kinks short enough steps, at bins if possible."""
    top = float(sizes.max())
    ends = min(float(jump), top)  # of what is absolute and no line
    steps = torch.arange(0, ends, STEP, dtype=torch.float64, device=sizes.device)
    steps = torch.where(steps < 2**8 * STEP, _at_bin(steps), steps)  # bins are short enough there
    halved = min(float(jump), max(top, 1.0)) * torch.arange(18, dtype=torch.float64, device=sizes.device).neg().exp2()
    edges = [sizes.new_zeros(1), sizes, steps, _at_bin(halved)]  # the last keep the digits of what is next to nothing
    if jump.isfinite():
        far = torch.stack((jump, (4 * sizes.max()).maximum(jump))).float()
        first, last = (far.view(torch.int32) >> BIN).tolist()
        bins = _lower_end(torch.arange(first + 1, last + 2, dtype=torch.int32, device=sizes.device))
        octaves = torch.arange(16 * FAR, dtype=torch.float64, device=sizes.device) / 16
        edges += [jump[None], bins.double(), _at_bin(far[1].double() * octaves.exp2())]
    return (found := torch.cat(edges).float().unique())[found.isfinite()]


def _at_bin(numbers: Tensor) -> Tensor:
    """Numbers, float64 and not negative, lowered to where a bin begins."""
    return _lower_end(numbers.float().view(torch.int32) >> BIN).double()


def _lower_end(bins: Tensor) -> Tensor:
    return (bins << BIN).view(torch.float32)

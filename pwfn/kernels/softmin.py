"""WFN's regulariser: how far the free weights are from the centroids, as one smooth number.

``R = (1 / N) sum_i r(w_i)``; :mod:`pwfn.kernels.curve` derives r and tables it, so that a weight costs looking up its
cell and one polynomial, whatever the number of centroids.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pwfn.kernels.chunks import chunks
from pwfn.kernels.curve import Curve, curve, evaluate

__all__ = ["penalty"]


def penalty(
    w: Tensor, centroids: Tensor | Curve, *, zero_distance: float = 2**-7, distance: str = "relative"
) -> Tensor:
    """R: the mean over the weights of ``sum_j softmin_j(d_ij / 0.05) d_ij``, differentiable in ``w``.

    ``d_ij = |w_i - c_j| / |w_i|`` where ``|w_i| > zero_distance``, else ``|w_i - c_j|``. Value and gradient agree
    with this formula to 1e-5 relative or better; memory is O(N + C * 10**4). At a kink (a weight on a centroid) the
    gradient is that of one of the two sides.

    Args:
        w: the free weights, floating point, any shape; no weights give 0.
        centroids: the round's centroids, in any order, repetitions counting once; or their :func:`curve`,
            which pays off where many steps share them (on the device of ``w``; the other arguments are the curve's).
        zero_distance: see above.
        distance: ``relative``, as above; ``euclidean``: ``|w_i - c_j|`` for all weights.

    Returns:
        A scalar of the dtype and on the device of ``w``.
    """
    if not w.is_floating_point():
        raise ValueError(f"w must be floating point, got {w.dtype}")
    if not isinstance(centroids, Curve):
        centroids = curve(centroids.to(w.device), zero_distance=zero_distance, distance=distance)
    return _Penalty.apply(w, centroids)


class _Penalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, table: Curve) -> Tensor:
        """The mean; its gradient is kept, as the derivative comes almost free with the value."""
        mean, ctx.gradient = _value_and_gradient(w, table)
        ctx.save_for_backward(w)
        ctx.table = table
        return mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The kept gradient becomes the result in place, as new memory costs more than the product; once."""
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # the graph was retained
            _, gradient = _value_and_gradient(ctx.saved_tensors[0], ctx.table)
        return gradient.mul_(grads[0]), None


def _value_and_gradient(w: Tensor, table: Curve) -> tuple[Tensor, Tensor]:
    flat = w.detach().flatten()
    gradient = torch.empty_like(flat)
    total = torch.zeros((), dtype=torch.float64, device=w.device)
    # operations here are too short to be worth threads of our own: torch shares each among its threads
    parts, outs = (chunks(x, max(4, torch.get_num_threads())) for x in (flat, gradient))
    for part, out in zip(parts, outs, strict=True):
        value, slope = evaluate(part.float(), table)
        total += value.sum(dtype=torch.float64)
        torch.div(slope, flat.numel(), out=out)
    return (total / max(flat.numel(), 1)).to(w.dtype), gradient.view_as(w)

"""Entropy-constrained assignment: what a move costs in loss, and a value in bits.

Weight i takes ``argmin_c 0.5 D_i (c - w_i)**2 + lambda bits(c)`` with ``bits(c) = -log2(count(c) / N)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pwfn import apot
from pwfn.assignment import Assignment
from pwfn.rate_distortion.codebook import fit
from pwfn.rate_distortion.codes import candidates
from pwfn.rate_distortion.envelope import Envelope

__all__ = ["assign"]


@torch.no_grad()
def assign(
    w: Tensor,
    sensitivity: Tensor,
    *,
    bits: float = 3.0,
    max_unique: int = 64,
    max_order: int = 2,
    min_exponent: int | None = None,
    floor: float = 0.0,
) -> Assignment:
    """Assign every weight the shared value that costs it least, at ``bits`` bits a weight.

    The entropy lies in ``[bits - 0.02, bits]``; where it jumps over that interval, or the weights need fewer
    bits at no cost, it is the nearest one found below.

    Args:
        w: float32 ``[N]``, weights.
        sensitivity: floating point ``[N]``, ``D_i``, second derivative of the mean loss in nats, positive.
        bits: target of the entropy, in bits a weight.
        max_unique: most values in the codebook.
        max_order: most powers of two that a value is a sum of.
        min_exponent: smallest power; None is 12 below the power that no weight exceeds.
        floor: least share of the weights that a value may have, in [0, 1).

    Returns:
        An assignment that fixes every weight, its groups in ascending order of their values, ``reaches`` the
        largest ``|c - w|`` of each. O(N log C) time for each pass over the weights, O(N) memory.

    Raises:
        ValueError: if ``w`` is not a finite float32 vector, ``sensitivity`` not as long, finite and positive,
            ``bits`` not positive, ``max_unique`` below 1, or ``floor`` outside [0, 1).
    """
    _check(w, sensitivity, bits, max_unique, floor)
    if len(w) == 0:
        none = w.new_zeros(0)
        numbers = none.long()
        return Assignment(none, none.bool(), none.int(), none, numbers, numbers, none)
    w, sensitivity = w.detach(), sensitivity.detach()
    values = candidates(w, max_order=max_order, min_exponent=min_exponent)
    scale, code = fit(w, sensitivity, values, bits=bits, max_unique=max_unique, floor=floor)
    group = Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)
    return _assignment(w, group, code.values)


def _assignment(w: Tensor, group: Tensor, values: Tensor) -> Assignment:
    counts = group.bincount(minlength=len(values))
    used = counts > 0
    group = (used.cumsum(0, dtype=torch.int32) - 1).index_select(0, group)
    centroids = values[used].float()
    rounded = centroids.index_select(0, group)
    away = (w - rounded).abs_()
    return Assignment(
        values=rounded,
        fixed=torch.ones_like(w, dtype=torch.bool),
        group=group,
        centroids=centroids,
        counts=counts[used],
        orders=apot.order_of(centroids),
        reaches=torch.zeros_like(centroids).scatter_reduce_(0, group.long(), away, "amax"),
    )


def _check(w: Tensor, sensitivity: Tensor, bits: float, max_unique: int, floor: float) -> None:
    if w.dim() != 1 or w.dtype != torch.float32:
        raise ValueError(f"w must be a float32 vector, got {w.dtype} of shape {tuple(w.shape)}")
    if w.shape != sensitivity.shape or w.device != sensitivity.device:
        raise ValueError("sensitivity must have the length and the device of w")
    if len(w) and not torch.stack(w.aminmax()).isfinite().all():
        raise ValueError("w must be finite")
    if len(w) and not (sensitivity.min() > 0 and sensitivity.max() < math.inf):
        raise ValueError("sensitivity must be finite and positive")
    if not bits > 0:
        raise ValueError(f"bits must be positive, got {bits}")
    if max_unique < 1:
        raise ValueError(f"max_unique must be at least 1, got {max_unique}")
    if not 0 <= floor < 1:
        raise ValueError(f"floor must lie in [0, 1), got {floor}")

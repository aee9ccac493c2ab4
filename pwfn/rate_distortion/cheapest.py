"""Rate-distortion assignment of a share of the weights: those whose move costs the least loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pwfn import compression
from pwfn.assignment import Assignment
from pwfn.rate_distortion.assignment import assign
from pwfn.rounds import share

__all__ = ["assign_cheapest"]


def assign_cheapest(
    w: Tensor,
    sensitivity: Tensor,
    fraction: float,
    *,
    bits: float = 3.0,
    max_unique: int = 64,
    max_order: int = 2,
    min_exponent: int | None = None,
    floor: float = 0.0,
    fixed_before: int = 0,
) -> Assignment:
    """Assign all weights, then fix the ``ceil(fraction * N)`` with the least ``D (c - w)**2``.

    Args:
        w: float32 ``[N]``.
        sensitivity: D, float32 ``[N]``, positive, of mean 1.
        fraction: share of the weights that are fixed afterwards.
        bits, max_unique, max_order, min_exponent, floor: see :func:`pwfn.rate_distortion.assign`.
        fixed_before: weights besides these that are fixed already and count towards ``fraction`` of all.

    Returns:
        The assignment; its figures are ``expected_bits``, the entropy once all weights are fixed, in bits a weight,
        and ``distortion``, the mean of ``0.5 D (c - w)**2``.
    """
    found = assign(
        w,
        sensitivity,
        bits=bits,
        max_unique=max_unique,
        max_order=max_order,
        min_exponent=min_exponent,
        floor=floor,
    )
    cost = sensitivity * (found.values - w).square()
    figures = {"expected_bits": compression.entropy(found.values), "distortion": float(cost.double().mean() / 2)}
    count = share(fraction, len(w) + fixed_before) - fixed_before
    if count >= len(w):
        return replace(found, figures=figures)
    fixed = torch.zeros_like(found.fixed)
    fixed[cost.argsort(stable=True)[: max(0, count)]] = True
    group = torch.where(fixed, found.group, -1)
    return replace(
        found,
        values=torch.where(fixed, found.values, w),
        fixed=fixed,
        group=group,
        counts=group[fixed].bincount(minlength=len(found.centroids)),
        figures=figures,
    )

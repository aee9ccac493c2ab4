"""The values that weights may share, and how many bits each of them costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pwfn import apot

__all__ = ["Code", "above", "candidates", "code_of"]


class Code(NamedTuple):
    """The values in use, sorted, how many weights have each, and its length in bits (float64)."""

    values: Tensor
    counts: Tensor
    lengths: Tensor

    @property
    def entropy(self) -> float:
        """Bits a weight."""
        return float((self.counts * self.lengths).sum() / self.counts.sum())


def code_of(values: Tensor, counts: Tensor, *, max_unique: int | None = None, floor: float = 0.0) -> Code:
    """The ideal code of values that are used this often; values that are not used die.

    Args:
        values: ``[C]``, sorted.
        counts: ``[C]``, integers, or sums of what weights of a sample stand for.
        max_unique: the least used values beyond this number die too, the higher ones first on a tie.
        floor: so do those with a smaller share of the weights, the most used one excepted.
    """
    keep = (counts > 0) & (counts >= min(floor * float(counts.sum()), float(counts.max())))
    if max_unique is not None and int(keep.sum()) > max_unique:
        keep = torch.zeros_like(keep)
        keep[counts.sort(descending=True, stable=True).indices[:max_unique]] = True
    values, counts = values[keep], counts[keep]
    return Code(values, counts, -(counts.double() / counts.sum()).log2())


def above(code: Code, floor: float) -> Code | None:
    """The code without the values that have a smaller share of the weights than ``floor``; None if it has none such."""
    frequent = code_of(code.values, code.counts, floor=floor)
    return frequent if len(frequent.values) < len(code.values) else None


def candidates(w: Tensor, *, max_order: int, min_exponent: int | None = None) -> Tensor:
    """Sums of at most ``max_order`` powers of two, up to the first power that no weight exceeds.

    Args:
        w: weights, any shape.
        max_order: at least 1.
        min_exponent: smallest power; None is 12 below the power that no weight exceeds.

    Returns:
        float64 ``[C]`` on the device of ``w``, sorted, symmetric, with 0.
    """
    largest = float(w.abs().max()) if w.numel() else 0.0
    top = math.ceil(math.log2(largest)) if largest > 0 else 0
    lowest = top - 12 if min_exponent is None else min_exponent
    # The list of powers ends below its bound, so that the bound itself is a sum only of order two.
    bound = 2.0 ** max(top, lowest)
    sums = apot.candidates(bound, max_order, min_exponent=lowest)
    return torch.cat((sums, sums.new_tensor([-bound, bound]))).unique().to(w.device)

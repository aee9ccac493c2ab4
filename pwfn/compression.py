"""How much a network's weights share: unique values, entropy in bits, zeros, orders."""

from __future__ import annotations

import torch
from torch import Tensor

from pwfn import apot

__all__ = ["entropy", "order_shares", "sharing", "unique"]


def unique(w: Tensor, *, zeros: bool = True) -> int:
    """Number of distinct values in ``w`` (any shape); without 0 where ``zeros`` is false.

    >>> unique(torch.tensor([0.0, 0.0, 0.5, 0.75]))
    3
    """
    return len(_counts(w, zeros)[0])


def entropy(w: Tensor, *, zeros: bool = True) -> float:
    """Shannon entropy of the values of ``w`` in bits per weight, ``-sum p log2 p``.

    >>> entropy(torch.tensor([0.0, 0.0, 0.5, 0.75]))  # 1/2 * 1 bit + 2 * 1/4 * 2 bits
    1.5

    Args:
        w: any shape.
        zeros: whether the value 0 takes part; whether it does in published WFN figures is not settled.

    Returns:
        Bits per weight (not nats); 0.0 for an empty tensor.
    """
    return _entropy(_counts(w, zeros)[1])


def order_shares(w: Tensor) -> dict[int, float]:
    """Share of the weights of each order (the fewest powers of two that sum to a magnitude; 0 has order 0).

    >>> order_shares(torch.tensor([0.0, 0.0, 0.5, 0.75]))
    {0: 0.5, 1: 0.25, 2: 0.25}

    Args:
        w: any shape.

    Returns:
        order -> share of the weights in [0, 1]; the shares sum to 1.
    """
    values, counts = _counts(w, zeros=True)
    orders = apot.order_of(values)
    total = max(1, w.numel())
    return {int(o): float(counts[orders == o].sum()) / total for o in orders.unique()}


def sharing(w: Tensor) -> dict[str, float]:
    """All the figures of a flat weight vector at once, from one sort.

    >>> sharing(torch.tensor([0.0, 0.0, 0.5, 0.75]))
    {'unique': 3, 'unique_nonzero': 2, 'entropy': 1.5, 'entropy_nonzero': 1.0, 'zeros': 2}

    Args:
        w: ``[N]``.

    Returns:
        ``unique``, ``unique_nonzero`` (counts), ``entropy``, ``entropy_nonzero`` (bits), ``zeros`` (count).
    """
    values, counts = _counts(w, zeros=True)
    nonzero = values != 0
    return {
        "unique": len(values),
        "unique_nonzero": int(nonzero.sum()),
        "entropy": _entropy(counts),
        "entropy_nonzero": _entropy(counts[nonzero]),
        "zeros": int(counts[~nonzero].sum()),
    }


def _counts(w: Tensor, zeros: bool) -> tuple[Tensor, Tensor]:
    w = w.detach().flatten()
    values, counts = torch.unique(w if zeros else w[w != 0], return_counts=True)
    return values, counts


def _entropy(counts: Tensor) -> float:
    if len(counts) == 0:
        return 0.0
    p = counts.double() / counts.sum()
    return float((-p * p.log2()).sum().clamp(min=0))

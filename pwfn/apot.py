"""Additive powers-of-two: the values that weights may share, and how many powers each of them costs.

A value of order omega is, up to its sign, a sum of omega powers of two; multiplying by it takes omega shifts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["candidates", "order_of", "terms"]


def candidates(largest: float, order: int, *, min_exponent: int) -> Tensor:
    """Every sum of at most ``order`` powers of two that does not exceed ``largest`` in magnitude.

    The powers are ``2**min_exponent, ..., 2**(ceil(log2(largest)) - 1)``, each used as often as wanted. Sets
    are nested in ``order``, symmetric, and always hold 0 (which is all they hold while
    ``largest <= 2**min_exponent``, where the list of powers is empty).

    >>> candidates(1.0, 2, min_exponent=-2).tolist()  # sums of at most two of 1/4 and 1/2
    [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]

    Args:
        largest: largest magnitude to be represented, the largest ``|mu|`` still free.
        order: omega, at least 1.
        min_exponent: smallest exponent, -7 in the paper (its ``b = 7``).

    Returns:
        float64 ``[C]`` on the CPU, sorted, without repetitions; every sum is exact.

    Raises:
        ValueError: if ``largest`` is negative or not finite, ``order`` is below 1, or ``largest`` is so far
            above ``2**min_exponent`` that float64 could not hold the sums.
    """
    if not (math.isfinite(largest) and largest >= 0):
        raise ValueError(f"largest must be finite and not negative, got {largest}")
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    mantissa, exponent = math.frexp(largest)  # largest = mantissa * 2**exponent, mantissa in [0.5, 1)
    top = exponent - 1 if mantissa == 0.5 else exponent  # ceil(log2(largest))
    if largest > 0 and top - min_exponent > 52:
        raise ValueError(f"float64 cannot hold sums of powers from 2**{min_exponent} up to {largest}")
    powers = [2.0**k for k in range(min_exponent, top)] if largest > 0 else []
    steps = torch.tensor([0.0, *powers], dtype=torch.float64)
    sums = torch.zeros(1, dtype=torch.float64)
    for _ in range(order):
        sums = (sums[:, None] + steps).unique()
        sums = sums[sums <= largest]
    return torch.cat((-sums.flip(0)[:-1], sums))


def order_of(values: Tensor) -> Tensor:
    """Order of each value: the fewest powers of two that sum to its magnitude; 0 has order 0.

    The powers are added, never subtracted, as in :func:`candidates`, so that order omega means: in the
    candidate set of order omega and in no lower one. 7/8 has order 3 (1/2 + 1/4 + 1/8), though a signed sum
    (1 - 1/8) would need two. Two equal powers are never cheaper than the one they make, hence the order is
    the number of ones in the binary mantissa.

    >>> order_of(torch.tensor([0.0, 0.5, 0.75, -0.875])).tolist()
    [0, 1, 2, 3]

    Args:
        values: floating point, any shape; float32 and float64 mantissas are read in full.

    Returns:
        int64, the shape and device of ``values``.

    Raises:
        ValueError: if a value is not finite.
    """
    if not values.isfinite().all():
        raise ValueError("only finite values are sums of powers of two")
    mantissa, _ = torch.frexp(values.double().abs())
    digits = (mantissa * 2.0**53).long()
    order = torch.zeros_like(digits)
    while (digits > 0).any():
        order += digits > 0
        digits &= (digits - 1).clamp_(min=0)  # clears the lowest one
    return order


def terms(value: float) -> list[int]:
    """Exponents, largest first, of the ``order_of(value)`` powers of two that sum to ``|value|``.

    >>> terms(-0.8125)  # 1/2 + 1/4 + 1/16
    [-1, -2, -4]

    Raises:
        ValueError: if ``value`` is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"only finite values are sums of powers of two, got {value}")
    numerator, denominator = abs(float(value)).as_integer_ratio()  # the denominator is a power of two
    point = denominator.bit_length() - 1
    return [k - point for k in reversed(range(numerator.bit_length())) if numerator >> k & 1]

"""The candidates of WFN: a geometric grid, every value cut to few powers of two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["candidates", "check_range"]

WIDEST = 0.9999  # the ratio (1 + a) / (1 - a) needs a < 1


def candidates(largest: float, *, allowance: float, zero_distance: float, order: int) -> Tensor:
    """A geometric grid of relative spacing ``2 * allowance``, every value cut to few powers of two.

    The grid is ``c_0 = zero_distance``, ``c_{k+1} = c_k (1 + a) / (1 - a)`` up to ``largest``, and 0. A value
    becomes its nearest power of two (in log2); then ``order`` times, where it is still off by at least ``a``
    times the value, the residual is rounded in the same way and added.

    Args:
        largest: largest magnitude to be represented, the largest ``|w|`` still free.
        allowance: a, capped at 0.9999.
        zero_distance: smallest value of the grid, and with the order the smallest power:
            ``2**(ceil(log2(zero_distance)) - order - 1)``.
        order: omega, how many residuals are added, from 0.

    Returns:
        float64 ``[C]`` on the CPU, sorted, symmetric, without repetitions; 0 is always among them.

    Raises:
        ValueError: if an argument is out of range.
    """
    if not (math.isfinite(largest) and largest >= 0):
        raise ValueError(f"largest must be finite and not negative, got {largest}")
    if order < 0:
        raise ValueError(f"order must not be negative, got {order}")
    check_range(allowance, zero_distance)
    a = min(allowance, WIDEST)
    ratio = (1 + a) / (1 - a)
    # One step more than the logarithm asks for: the comparison below decides, not its rounding.
    steps = int(math.log(largest / zero_distance) / math.log(ratio)) + 2 if largest >= zero_distance else 0
    grid = torch.full((steps,), ratio, dtype=torch.float64)
    grid[:1] = zero_distance
    grid = grid.cumprod(0)
    grid = grid[grid <= largest]
    least = math.ceil(math.log2(zero_distance)) - order - 1
    values = _nearest_power(grid, least)
    for _ in range(order):
        residual = grid - values
        values = values + torch.where(residual.abs() >= a * grid, _nearest_power(residual, least), 0)
    return torch.cat((-values, values, torch.zeros(1, dtype=torch.float64))).unique() + 0.0  # no -0.0


def check_range(allowance: float, zero_distance: float) -> None:
    """Refuse an allowance or a zero distance that makes no grid.

    Raises:
        ValueError: if one of them is not positive and finite.
    """
    if not 0 < allowance < math.inf:
        raise ValueError(f"allowance must be positive and finite, got {allowance}")
    if not 0 < zero_distance < math.inf:
        raise ValueError(f"zero_distance must be positive and finite, got {zero_distance}")


def _nearest_power(values: Tensor, least: int) -> Tensor:
    powers = values.abs().log2().round().clamp(min=least).exp2()
    return torch.where(values == 0, 0, powers.copysign(values))

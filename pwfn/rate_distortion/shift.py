"""Power-of-two scales of parameters: one codebook up to a shift.

A parameter's weights are divided by ``2**e`` before they share values, and the values are multiplied by it after:
exact, and a byte a parameter. Parameters begin with a root mean square of about 1. Then codebook and exponents are
chosen in turn: each parameter takes the exponent at which its ``sum 0.5 D (c - w)**2 + lambda bits(c)`` is least,
so that sensitive parameters use the codebook where it is finer than their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pwfn.rate_distortion.codes import Code
from pwfn.rate_distortion.envelope import Envelope
from pwfn.rate_distortion.layers import Layer

__all__ = ["choose_shifts"]

REACH = 3  # exponents tried on each side
ROUNDS = 5
SAMPLE = 20_000  # weights of a parameter that its exponent is chosen by


def choose_shifts(layers: Sequence[Layer], fit: Callable[[], tuple[Code, float]]) -> tuple[Code, float]:
    """Scale the layers, in place, and return codebook and lambda.

    Args:
        layers: the parameters.
        fit: finds codebook and lambda for the layers as they are.
    """
    for layer in layers:
        square = float(layer.w.double().square().mean())
        layer.scale(round(math.log2(square) / 2) if square > 0 else 0)
    code, scale = fit()
    for _ in range(ROUNDS):
        moves = [_best_move(layer, code, scale) for layer in layers]
        if not any(moves):
            break
        for layer, move in zip(layers, moves, strict=True):
            layer.scale(move)
        code, scale = fit()
    return code, scale


def _best_move(layer: Layer, code: Code, scale: float) -> int:
    """The change of the exponent with the least cost; 0 unless another is better by a thousandth."""
    w, sensitivity = layer.w.flatten(), layer.sensitivity.flatten()
    if len(w) > SAMPLE:
        part = torch.linspace(0, len(w) - 1, SAMPLE, device=w.device, dtype=torch.float64).long()
        w, sensitivity = w[part], sensitivity[part]
    envelope = Envelope(code.values, code.lengths)

    def cost(move: int) -> float:
        x, d = torch.ldexp(w, torch.tensor(-move)), sensitivity * 4.0**move
        index = envelope.assign(x, (2 * scale) / d)
        return _cost(x, d, index, code, scale)

    costs = {move: cost(move) for move in range(-REACH, REACH + 1)}
    best = min(costs, key=lambda move: costs[move])
    return best if costs[best] < 0.999 * costs[0] else 0


def _cost(w: Tensor, sensitivity: Tensor, index: Tensor, code: Code, scale: float) -> float:
    squares = (code.values.to(w.dtype)[index] - w).square()
    return float((0.5 * sensitivity * squares).double().sum() + scale * code.lengths[index].sum())

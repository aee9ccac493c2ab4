"""Power-of-two scales: what they make equal, and when they are used."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from pwfn.rate_distortion.codes import Code, code_of
from pwfn.rate_distortion.layers import Layer
from pwfn.rate_distortion.post_training import _first_code
from pwfn.rate_distortion.shift import _best_move, choose_shifts


def layer(name: str, w: torch.Tensor, sensitivity: float) -> Layer:
    return Layer(name, nn.Parameter(w), w.view(1, 1, -1), None, torch.full((1, 1, len(w)), sensitivity))


def chosen(*layers: Layer, bits: float = 3.0) -> tuple[Code, float]:
    return choose_shifts(layers, partial(_first_code, list(layers), bits, 64, 2, None, 0.0))


@pytest.mark.parametrize("power", [-3, 5])
def test_a_power_of_two_is_scaled_away(power: int) -> None:
    """Weights 2**k times as large, errors 4**k times as cheap: the same codebook, k more in the exponent."""
    w = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    one, other = layer("a", w, 1.0), layer("b", torch.ldexp(w, torch.tensor(power)), 4.0**-power)
    chosen(one, other)
    assert other.exponent - one.exponent == power
    assert torch.equal(one.w, other.w) and torch.equal(one.sensitivity, other.sensitivity)


def test_sensitive_weights_use_finer_values() -> None:
    """Of the integers from -8 to 8, weights of size 1 use more where errors are dear, fewer where bits are."""
    values = torch.arange(-8, 9).double()
    code = code_of(values, (1000 * torch.exp(-values.abs())).long() + 1)
    w = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    moves = [_best_move(layer("a", w, sensitivity), code, 1e-2) for sensitivity in (1e-2, 1.0, 1e3)]
    assert moves == sorted(moves, reverse=True)
    assert moves[0] > 0 > moves[-1]  # divided by a power of two, and multiplied by one


def test_a_layer_of_zeros() -> None:
    zeros, other = layer("zeros", torch.zeros(10), 1.0), layer("other", torch.randn(1000), 1.0)
    chosen(zeros, other)
    assert zeros.w.isfinite().all() and bool((zeros.w == 0).all())

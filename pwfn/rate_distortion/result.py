"""Shared values put into a network, and the figures of what that did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pwfn.rate_distortion.codes import Code, code_of
from pwfn.rate_distortion.layers import Layer

__all__ = ["Result", "write"]


@dataclass(frozen=True)
class Result:
    """What fixing did.

    Attributes:
        bits: entropy of the codebook's values over the weights in scope, bits a weight.
        unique: number of values in the codebook.
        unique_weights: number of distinct weights; more than ``unique`` where layers have scales.
        scale: lambda, nats of mean loss that a bit may cost.
        distortion: predicted rise of the mean loss, nats, at the temperature of the observation.
        zeros: number of weights that are 0.
        weights: number of weights in scope.
        share: part of ``distortion`` that each parameter brings, by name; sums to 1.
        exponents: each parameter's power-of-two scale, by name; all 0 without scales.
        norm_layers: how many norm layers had their statistics corrected.
    """

    bits: float
    unique: int
    unique_weights: int
    scale: float
    distortion: float
    zeros: int
    weights: int
    norm_layers: int
    share: dict[str, float] = field(repr=False)
    exponents: dict[str, int] = field(repr=False)


def write(layers: Sequence[Layer], code: Code, index: Tensor, scale: float) -> Result:
    """Put the values into the parameters and return what that did.

    Args:
        layers: the parameters.
        code: the codebook.
        index: int64 ``[N]``, index of the value of each weight, the layers in order.
        scale: lambda.
    """
    parts = index.split([layer.w.numel() for layer in layers])
    losses = []
    for layer, part in zip(layers, parts, strict=True):
        values = code.values.to(layer.w)[part.long()].view_as(layer.w)
        errors = layer.w - values
        if layer.g is None:
            losses.append(float((0.5 * layer.sensitivity * errors.square()).double().sum()))
        else:
            h = layer.load()[1]
            losses.append(float((0.5 * layer.g[:, :, None] * errors * (errors @ h)).double().sum()))
        scaled = torch.ldexp(values, torch.tensor(layer.exponent))
        layer.parameter.data.copy_(scaled.view_as(layer.parameter))
    total = sum(losses)
    weights = torch.cat([layer.parameter.detach().flatten() for layer in layers])
    used = code_of(code.values, index.bincount(minlength=len(code.values)))
    return Result(
        bits=used.entropy,
        unique=len(used.values),
        unique_weights=len(weights.unique()),
        scale=scale,
        distortion=total,
        zeros=int((weights == 0).sum()),
        weights=len(weights),
        norm_layers=0,
        share={layer.name: loss / max(total, 1e-30) for layer, loss in zip(layers, losses, strict=True)},
        exponents={layer.name: layer.exponent for layer in layers},
    )

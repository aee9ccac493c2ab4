"""Draws of a network's weights, which are restored afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pwfn.gaussian import gaussian_weights

__all__ = ["drawn", "perturbed"]


@contextmanager
def perturbed(model: nn.Module, sigma: Mapping[str, Tensor]) -> Iterator[Callable[[int, float], None]]:
    """Let the weights be drawn anew inside the block, and restore them to the bit after it.

    Args:
        model: a plain network, its weights being mu.
        sigma: by parameter name, of the parameter's shape or a scalar.

    Yields:
        ``draw(seed, scale)``: sets each named parameter to ``mu + scale * sigma * eps``.
    """
    parameters = [model.get_parameter(name) for name in sigma]
    mus = [p.detach().clone() for p in parameters]
    sigmas = [s.to(mu).expand_as(mu) for s, mu in zip(sigma.values(), mus, strict=True)]

    def draw(seed: int, scale: float) -> None:
        if not mus:
            return
        generator = torch.Generator(mus[0].device).manual_seed(seed)
        for p, mu, s in zip(parameters, mus, sigmas, strict=True):
            eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
            p.data.copy_(torch.addcmul(mu, s, eps, value=scale))

    try:
        yield draw
    finally:
        for p, mu in zip(parameters, mus, strict=True):
            p.data.copy_(mu)


@contextmanager
def drawn(model: nn.Module) -> Iterator[Callable[[int, float], None]]:
    """Let a converted network in evaluation mode compute with draws of its weights inside the block.

    Args:
        model: a network converted by :func:`pwfn.to_gaussian`, or a module around one.

    Yields:
        ``draw(seed, scale)``: the forward computes with ``mu + scale * sigma * eps`` from now on, sigma being that
        in force.
    """
    weights = [(mu, weight) for _, mu, weight in gaussian_weights(model)]
    before = [(weight.training, weight.noisy, weight.eps) for _, weight in weights]

    def draw(seed: int, scale: float) -> None:
        generator = torch.Generator(weights[0][0].device).manual_seed(seed)
        for mu, weight in weights:
            eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
            weight.training, weight.noisy, weight.eps = (
                True,
                True,
                eps * scale,
            )  # the network itself stays in evaluation

    try:
        yield draw
    finally:
        for (_, weight), kept in zip(weights, before, strict=True):
            weight.training, weight.noisy, weight.eps = kept

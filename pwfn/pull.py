"""The regulariser's pull on the sigmas of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from pwfn.gaussian import GaussianWeight, gaussian_weights

__all__ = ["LAMBDA", "Regulariser", "pull_sigmas", "regularised"]

Regulariser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``regulariser(sigma, eps, grad)``, see :mod:`pwfn.regulariser`."""

LAMBDA = 2.0**-11
"""The paper's weight of the regulariser."""


@torch.no_grad()
def pull_sigmas(
    model: nn.Module,
    regulariser: Regulariser,
    weight: float = LAMBDA,
    *,
    biases: bool = False,
    average: Callable[[Tensor], Tensor] | None = None,
    sizes: Mapping[GaussianWeight, Tensor] | None = None,
) -> None:
    """Apply a regulariser to the gradients of sigma, after the backward pass and before the optimizer's step.

    Sigma is pulled where :meth:`pwfn.gaussian.GaussianWeight.pulled` says so: of free weights, by default.

    Args:
        model: a converted network with gradients.
        regulariser: ``regulariser(sigma, eps, grad)``, see :mod:`pwfn.regulariser`.
        weight: lambda.
        biases: pull the sigma of tensors with fewer than two dimensions, too.
        average: mean over the ranks of data-parallel training, whose draws differ; None on a single process.
        sizes: mean ``|eps|`` of each tensor over the micro-batches of a step; of the last draw if None. A pull
            knows eps by its size alone and is linear in it or free of it, so that this averages the pulls
            (``linear_on_grad``, which is not linear, weighs the mean size against the gradient of the whole step).
    """
    for tensor in regularised(model, biases):
        sigma, eps = tensor.sigma, tensor.eps if sizes is None else sizes.get(tensor)
        if sigma is None or sigma.grad is None or eps is None:
            continue
        pull = regulariser(sigma.detach(), eps, sigma.grad)
        if average is not None:
            pull = average(pull)
        where = tensor.pulled()
        if where is None:
            sigma.grad.sub_(pull, alpha=weight)
        else:
            sigma.grad.addcmul_(pull, where, value=-weight)


def regularised(model: nn.Module, biases: bool) -> Iterator[GaussianWeight]:
    """The tensors whose sigma the regulariser pulls: those of two dimensions and more, or all with ``biases``."""
    return (weight for _, mu, weight in gaussian_weights(model) if biases or mu.ndim > 1)

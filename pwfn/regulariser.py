"""Regularisers: what keeps sigma from collapsing to nothing.

Each is given by its pull, ``pull(sigma, eps, grad) -> Tensor``: the amount by which it lowers ``dL/dsigma``
(and so raises sigma), before multiplication by the regulariser's weight lambda. That is minus the derivative
of the penalty named in each docstring; one of them, :func:`linear_on_grad`, has no penalty of its own. Pulls
are applied to the gradient between the backward pass and the optimizer's step, where the averaged gradient
is known and loss scaling is undone. ``s`` is S, the sigma above which nothing pulls.

Arguments: ``sigma`` the standard deviations, ``eps`` the standard normal draws of this step, ``grad`` the
gradient of the task loss by sigma; all of one shape and dtype, that of the result.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["exponential", "hinge", "linear", "linear_on_grad", "none"]


def linear(sigma: Tensor, eps: Tensor, grad: Tensor, *, s: float = 0.05) -> Tensor:
    """``max(0, S - sigma) |eps|``: penalty ``sum 0.5 max(0, S - sigma)**2 |eps|`` (the paper's runs).

    >>> linear(torch.tensor([0.25, 1.0]), torch.tensor([-2.0, 2.0]), torch.zeros(2), s=0.5).tolist()
    [0.5, 0.0]
    """
    return (s - sigma).clamp_(min=0).mul_(eps).abs_()  # in place: a pass without a new tensor costs a third


def hinge(sigma: Tensor, eps: Tensor, grad: Tensor, *, s: float = 0.05) -> Tensor:
    """``1`` where sigma < S: penalty ``sum max(0, S - sigma)`` (the paper's formula).

    >>> hinge(torch.tensor([0.25, 1.0]), torch.tensor([-2.0, 2.0]), torch.zeros(2), s=0.5).tolist()
    [1.0, 0.0]
    """
    return (sigma < s).to(sigma.dtype)


def exponential(sigma: Tensor, eps: Tensor, grad: Tensor, *, s: float = 0.05) -> Tensor:
    """``exp(S - sigma)`` where sigma < S: penalty ``sum exp(max(0, S - sigma)) - 1``.

    >>> exponential(torch.tensor([0.0, 1.0]), torch.zeros(2), torch.zeros(2), s=1.0)  # e and 0
    tensor([2.7183, 0.0000])
    """
    return torch.where(sigma < s, (s - sigma).exp_(), 0.0)


def linear_on_grad(sigma: Tensor, eps: Tensor, grad: Tensor, *, s: float = 0.05, temperature: float = 0.1) -> Tensor:
    """Share one unit per tensor where the loss minds least.

    Softmin with ``temperature`` of ``(1 - |eps|) |dL/dsigma|`` over the weights with sigma < S, zero elsewhere.

    >>> linear_on_grad(torch.tensor([0.25, 0.25, 1.0]), torch.zeros(3), torch.ones(3), s=0.5).tolist()
    [0.5, 0.5, 0.0]
    """
    cost = (1 - eps.abs()).mul_(grad.abs())
    below = sigma < s
    share = torch.where(below, -cost / temperature, -torch.inf).flatten().softmax(0).view_as(sigma)
    return torch.where(below, share, 0.0)  # softmax over no weight at all is NaN


def none(sigma: Tensor, eps: Tensor, grad: Tensor) -> Tensor:
    """Pull nowhere: no regulariser.

    >>> none(torch.tensor([0.25, 1.0]), torch.tensor([-2.0, 2.0]), torch.zeros(2)).tolist()
    [0.0, 0.0]
    """
    return torch.zeros_like(sigma)

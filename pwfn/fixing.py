"""One fixing round over the weights of a network: gather them, assign values, write the values back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from pwfn import sigma_join
from pwfn.assignment import Assignment, merge
from pwfn.gaussian import Flat, flat_weights, gaussian_weights
from pwfn.kernels.intervals import SIGMA_FLOOR
from pwfn.prior import SIGMA_MIN

__all__ = ["Recluster", "SigmaJoin", "fix", "write"]

SigmaJoin = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``join(mu, sigma, group) -> sigma``, see :mod:`pwfn.sigma_join`."""

Recluster = Literal["all", "free"]
"""Which weights a round may give a value: all of them, or those that no earlier round fixed."""


@torch.no_grad()
def fix(
    model: nn.Module,
    fraction: float,
    assign: Callable[..., Assignment],
    join: SigmaJoin = sigma_join.std_mu,
    *,
    recluster: Recluster = "all",
    per_tensor: bool = False,
) -> Assignment:
    """Run one fixing round on a converted network, in place.

    Args:
        model: a network converted by :func:`pwfn.to_gaussian`.
        fraction: share of the weights in scope that are fixed afterwards.
        assign: ``assign(mu, sigma, fraction)``, for instance :func:`pwfn.clustering.assign`; with ``recluster`` free
            it is given ``fixed_before``, too.
        join: the sigma join of the weights taken together.
        recluster: ``all`` makes every weight a candidate again; one not taken this time is free again and goes
            on learning from its centroid. ``free`` keeps earlier fixed weights and clusters the rest.
        per_tensor: call ``assign`` on each weight tensor by itself, so that each has values of its own and
            ``fraction`` of its weights fixed, instead of once for the whole network.

    Returns:
        The assignment over all weights in scope; weights kept from earlier rounds have group -1.
    """
    flat = flat_weights(model)
    propose = _assign_all if recluster == "all" else _assign_free
    if per_tensor:
        lengths = [mu.numel() for _, mu, _ in gaussian_weights(model)]
        assignment = merge([propose(part, fraction, assign) for part in flat.split(lengths)])
    else:
        assignment = propose(flat, fraction, assign)
    write(model, flat, assignment, join)
    return assignment


@torch.no_grad()
def write(model: nn.Module, flat: Flat, assignment: Assignment, join: SigmaJoin = sigma_join.std_mu) -> None:
    """Put an assignment into a converted network: values, which weights are fixed, and their joined sigma.

    Args:
        model: a network converted by :func:`pwfn.to_gaussian`.
        flat: its weights before.
        assignment: over all its weights in scope.
        join: the sigma join of the weights taken together.
    """
    sigma = join(flat.mu, flat.sigma.clamp(min=SIGMA_FLOOR), assignment.group)
    sigma = torch.where(assignment.group >= 0, sigma, flat.sigma).clamp_(min=SIGMA_MIN)
    start = 0
    for _, mu, weight in gaussian_weights(model):
        part = slice(start, start := start + mu.numel())
        parts = (vector[part].view_as(mu) for vector in (assignment.values, assignment.fixed, sigma))
        weight.settle(mu, *parts)


def _assign_all(flat: Flat, fraction: float, assign: Callable[..., Assignment]) -> Assignment:
    return assign(flat.mu, flat.sigma, fraction)


def _assign_free(flat: Flat, fraction: float, assign: Callable[..., Assignment]) -> Assignment:
    """Cluster the free weights only, so that ``fraction`` of all are fixed together with the earlier ones."""
    free = ~flat.fixed
    found = assign(flat.mu[free], flat.sigma[free], fraction, fixed_before=int(flat.fixed.sum()))
    values, fixed = flat.mu.clone(), flat.fixed.clone()
    group = torch.full_like(values, -1, dtype=found.group.dtype)
    values[free], fixed[free], group[free] = found.values, found.fixed, found.group
    return replace(found, values=values, fixed=fixed, group=group)

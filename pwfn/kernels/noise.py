"""The arithmetic of a noisy step: standard normal draws for many tensors, and the weight that they make.

A training step of a network with Gaussian weights costs what a plain step costs and then some passes over all
the weights; here they are few, and use all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

__all__ = ["Draws", "Sample", "Table", "normals"]

Draws = Callable[[Sequence[Tensor]], list[Tensor]]
"""Gives a standard normal draw for each tensor, of its shape, dtype, device and memory format."""

ALIGNED = 16
"""Places in a table are so many numbers apart: vector instructions then read whole lines of memory."""

SMALL = 2**18
"""Numbers in all below which threads cost more than they save."""


class Sample(torch.autograd.Function):
    """``w = mean + deviation * eps`` where a weight is fixed or free, in three passes forward and two back.

    ``Sample.apply(mu, sigma, eps, free, centroid, joined)`` interpolates mean and deviation between
    ``(centroid, joined)`` where ``free`` is 0 and ``(mu, sigma)`` where it is 1; with ``joined`` None the
    deviation is sigma everywhere. All arguments are of one shape and dtype. The gradient of mu is that of w where
    free and 0 elsewhere, the gradient of sigma is eps times that of w, and 0 where ``joined`` is in force.
    """

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, sigma: Tensor, eps: Tensor, free: Tensor, centroid: Tensor, joined: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(eps, free)
        ctx.sigma_is_free = joined is None
        deviation = sigma if joined is None else torch.lerp(joined, sigma, free)
        return torch.lerp(centroid, mu, free).addcmul_(deviation, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        eps, free = ctx.saved_tensors
        of_mu = grad * free
        of_sigma = (grad if ctx.sigma_is_free else of_mu) * eps
        return of_mu, of_sigma, None, None, None, None


def normals(like: Sequence[Tensor]) -> list[Tensor]:
    """A standard normal draw for each tensor, of its shape, dtype, device and memory format.

    On a GPU one kernel draws for all. On a CPU each tensor has a generator of its own, seeded from the global
    one: threads share the work, and the numbers do not depend on how many threads there are.
    """
    if like[0].is_cuda:
        sizes = [tensor.numel() for tensor in like]
        flat = torch.randn(sum(sizes), device=like[0].device, dtype=like[0].dtype)
        return [
            part.as_strided(tensor.shape, tensor.stride()) for part, tensor in zip(flat.split(sizes), like, strict=True)
        ]
    seeds = torch.randint(2**62, (len(like),)).tolist()
    if sum(tensor.numel() for tensor in like) < SMALL or torch.get_num_threads() == 1:
        return [_normal(tensor, seed) for tensor, seed in zip(like, seeds, strict=True)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(_normal, like, seeds))


def _normal(like: Tensor, seed: int) -> Tensor:
    return torch.empty_like(like).detach_().normal_(generator=torch.Generator().manual_seed(seed))


class Table:
    """Draws from a table of normals made once: each tensor reads it from a random place on, with a random sign.

    A draw is a view; nothing is computed and no memory is passed over. The weights of one tensor have independent
    numbers in each step. Two tensors, or two steps, may share numbers in other places: each weight's sequence over
    the steps is as good as independent, and jointly with its neighbours it repeats a pattern once in as many steps
    as the table has places.

    Args:
        places: from so many places at least can the largest tensor read, 16 numbers apart.
    """

    def __init__(self, places: int = 2**17) -> None:
        self.places = places
        self.values: Tensor | None = None

    def __call__(self, like: Sequence[Tensor]) -> list[Tensor]:
        """A standard normal draw for each tensor, of its shape, dtype, device and memory format."""
        largest = max(tensor.numel() for tensor in like)
        half = ALIGNED * (self.places + -(-largest // ALIGNED))
        if self.values is None or self.values.numel() != 2 * half or not _alike(self.values, like[0]):
            # of the run's seed: a run that goes on after a kill has the same numbers
            generator = torch.Generator().manual_seed(torch.initial_seed())
            positive = torch.empty(half, dtype=like[0].dtype).normal_(generator=generator).to(like[0].device)
            self.values = torch.cat((positive, -positive))
        places = torch.randint(self.places, (len(like),)).tolist()
        signs = torch.randint(2, (len(like),)).tolist()
        return [
            self.values.as_strided(tensor.shape, tensor.stride(), ALIGNED * place + half * sign)
            for tensor, place, sign in zip(like, places, signs, strict=True)
        ]


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype

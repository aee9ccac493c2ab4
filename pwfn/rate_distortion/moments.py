"""Second moments of what the rows of a layer's weight are multiplied with.

A row of a linear layer sees its input, one of a convolution the patches of its group's channels. For small
errors E of the weight, the mean loss rises by ``0.5 sum_r g_r E_r H E_r^T``: H is the second moment of the
inputs, and g_r the mean square gradient of the loss at output r, labels drawn from the network (K-FAC without
the correlation of outputs, Martens and Grosse 2015). Where gradients and inputs depend on each other, the
moment weighted by the squared gradients of its position is the truer one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from pwfn.rate_distortion.fisher import draw
from pwfn.rate_distortion.rows import multiplies, patches

__all__ = ["Moment", "second_moments"]


@dataclass
class Moment:
    """Second moment of the inputs of one weight, of ``G`` groups with ``R`` rows of ``K`` columns each.

    Attributes:
        halves: float32 ``[2, G, K, K]``. ``E[sum_p q_p x_p x_p^T]`` over images, p counting the positions (pixels,
            tokens) of an image, ``q_p`` the mean over the group's rows of their squared gradient at p; the part
            of every other batch, and that of the rest. Their sum is the mean over all images.
        rows: float32 ``[G, R]``. Mean square gradient of each row divided by its group's mean; 1 on average.
    """

    halves: Tensor
    rows: Tensor

    @property
    def inputs(self) -> Tensor:
        """The second moment over all images, ``[G, K, K]``."""
        return self.halves.sum(0)


def second_moments(
    model: nn.Module,
    layers: Sequence[tuple[nn.Module, str]],
    images: Iterable[Tensor],
    *,
    generator: torch.Generator,
    positions: int = 256,
    temperature: float = 1.0,
    parameters: Sequence[nn.Parameter] = (),
    group: distributed.ProcessGroup | None = None,
) -> tuple[list[Moment | None], list[Tensor]]:
    """Observe layers over batches of images; the network is left as it was.

    Args:
        model: a classifier in evaluation mode; it maps a batch to logits.
        layers: modules and the names of their weights, see :func:`pwfn.rate_distortion.rows.has_rows`.
        images: batches.
        generator: draws gradients and positions, on the CPU.
        temperature: of the network's probabilities, see :func:`pwfn.rate_distortion.fisher.draw`.
        positions: about how many positions of an image are looked at, every few in each direction.
        parameters: those whose diagonal Fisher information is wanted, too, from the same backward passes.
        group: processes that were all given the same batches, one for each at least. Every process looks at its
            share of them, and all return the sums over the group.

    Returns:
        A moment for each layer; None for one that was not called, or does something else with its weight
        (weight standardisation, for instance) than multiply it with its input. And the undamped Fisher
        information of each parameter, float32, as :func:`pwfn.rate_distortion.fisher.diagonal` estimates it.
    """
    information = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
    watches = [_Watch(module, key, positions, generator) for module, key in layers]
    handles = [watch.module.register_forward_hook(watch.forward) for watch in watches]
    rank, ranks = (0, 1) if group is None else (distributed.get_rank(group), distributed.get_world_size(group))
    seen = 0
    try:
        for number, batch in enumerate(images):
            seen += len(batch)
            if number % ranks != rank:
                continue
            for watch in watches:
                watch.half = number % 2
            with torch.enable_grad():
                # the images require gradients so that no layer's output is without one
                logits = model(batch.detach().clone().requires_grad_(batch.is_floating_point()))
                wanted = [*parameters, *(watch.output for watch in watches if watch.output is not None)]
                if wanted:
                    found = torch.autograd.grad(logits, wanted, draw(logits, generator, temperature), allow_unused=True)
                    for total, gradient in zip(information, found, strict=False):
                        if gradient is not None:  # of the sum over B images, and of their mean B times its square
                            total.addcmul_(gradient, gradient)
            for watch in watches:
                watch.output = None  # it holds the whole graph
    finally:
        for handle in handles:
            handle.remove()
    if group is not None:
        _add_up(watches, information, group)
    return [watch.moment(max(1, seen)) for watch in watches], [total.div_(max(1, seen)) for total in information]


def _add_up(watches: Sequence[_Watch], information: Sequence[Tensor], group: distributed.ProcessGroup) -> None:
    """Replace what this process has gathered by the sums over the group, the same on all."""
    for watch in watches:
        if watch.halves is not None and isinstance(watch.squares, Tensor):
            distributed.all_reduce(watch.halves, group=group)
            distributed.all_reduce(watch.squares, group=group)
    for total in information:
        distributed.all_reduce(total, group=group)


class _Watch:
    """Forward hook that gathers one layer's moment when the gradient of its output comes by."""

    def __init__(self, module: nn.Module, key: str, positions: int, generator: torch.Generator) -> None:
        self.module, self.key, self.positions, self.generator = module, key, positions, generator
        self.rows_match: bool | None = None
        self.output: Tensor | None = None
        self.half = 0
        self.halves: Tensor | None = None
        self.squares: Tensor | float = 0.0

    def forward(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.MultiheadAttention):
            self._attention(module, args)
            return
        if self.rows_match is False:
            return
        x = args[0].detach()
        convolution = isinstance(module, nn.Conv1d | nn.Conv2d)
        shape = output.shape[2:] if convolution else output.shape[1:-1]
        thin = max(1, round((math.prod(shape) / self.positions) ** (1 / max(1, len(shape) if convolution else 1))))
        least = min([*shape, thin]) if len(shape) else 1
        draw = torch.randint(least, (2,), generator=self.generator).tolist()
        offset = (draw[0], draw[1])
        columns = patches(module, x, thin, offset)

        def at_positions(y: Tensor) -> Tensor:
            if not convolution:
                y = y if y.dim() > 2 else y[:, None]
                return y.flatten(1, -2)[:, offset[1] :: thin].transpose(1, 2)[:, None]
            y = y[:, :, None] if y.dim() == 3 else y
            thinned = y[:, :, (0 if len(shape) == 1 else offset[0]) :: thin, offset[1] :: thin]
            return thinned.flatten(2).unflatten(1, (columns.shape[1], -1))

        if self.rows_match is None:
            self.rows_match = multiplies(module, getattr(module, self.key), columns, at_positions(output.detach()))
            if not self.rows_match:
                return
        share = math.prod(shape) / columns.shape[-1]

        def backward(gradient: Tensor) -> None:
            squares = at_positions(gradient).square()
            heavy = columns * squares.mean(2, keepdim=True)
            self._add(share * torch.einsum("bgkp,bglp->gkl", heavy, columns))
            self.squares = self.squares + share * squares.sum((0, 3))

        if output.requires_grad:
            self.output = output
            output.register_hook(backward)

    def _attention(self, module: nn.MultiheadAttention, args: tuple[Tensor, ...]) -> None:
        """Queries, keys and values are rows of one weight; their gradients pass no hook, so that all weigh 1."""
        if len(args) == 3 and args[0] is args[1] is args[2]:
            tokens = args[0].detach().flatten(0, -2)
            self._add((tokens.mT @ tokens)[None])
            self.squares = tokens.new_ones(1, 3 * module.embed_dim)

    def _add(self, moment: Tensor) -> None:
        if self.halves is None:
            self.halves = moment.new_zeros(2, *moment.shape)
        self.halves[self.half] += moment

    def moment(self, images: int) -> Moment | None:
        self.output = None
        if self.halves is None or not isinstance(self.squares, Tensor):
            return None
        rows = self.squares / self.squares.mean(1, keepdim=True).clamp(min=1e-30)
        return Moment(self.halves / images, rows)

"""Statistics of norm layers after the weights have moved."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["correct", "reestimate"]


@torch.no_grad()
def correct(model: nn.Module, reference: nn.Module, images: Iterable[Tensor]) -> int:
    """Move running statistics by what the change of the weights does to them, measured on the same images.

    With ``m, v`` the mean and variance of a norm layer's input over the images in the changed network, and
    ``m0, v0`` in the reference, the running statistics become ``m + (mean0 - m0) sqrt(v / v0)`` and
    ``var0 v / v0``. What the images have of their own, few or not augmented as in training, is the same on both
    sides and falls out: a channel that was only scaled or shifted is made up for exactly, and an unchanged
    network keeps its statistics.

    Args:
        model: the changed network; its norm layers are changed in place.
        reference: the network before the change, of the same structure, in evaluation mode.
        images: batches; each is also corrected by its own statistics while it passes, so not below some 50 images.

    Returns:
        Number of norm layers corrected.
    """
    pairs = [
        (layer, other)
        for layer, other in zip(model.modules(), reference.modules(), strict=True)
        if isinstance(layer, _BatchNorm) and isinstance(other, _BatchNorm) and layer.running_mean is not None
    ]
    watches = [_Pair(layer, other) for layer, other in pairs]
    training = model.training
    model.eval()
    handles = [h for watch in watches for h in watch.register()]
    try:
        for batch in images:
            reference(batch)
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    for watch in watches:
        watch.finish()
    return len(watches)


class _Pair:
    def __init__(self, layer: _BatchNorm, other: _BatchNorm) -> None:
        self.layer, self.other = layer, other
        self.now: list[Tensor] = []
        self.sums = {True: [], False: []}  # type: dict[bool, list[Tensor]]

    def register(self) -> list[torch.utils.hooks.RemovableHandle]:
        return [
            self.other.register_forward_pre_hook(self._reference),
            self.layer.register_forward_pre_hook(self._model),
        ]

    def _reference(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.now = _first_two(args[0])
        self.sums[False].append(torch.stack(self.now))

    def _model(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        found = _first_two(args[0])
        self.sums[True].append(torch.stack(found))
        self._set(found, self.now)

    def _set(self, found: list[Tensor], reference: list[Tensor]) -> None:
        mean, var = self.other.running_mean, self.other.running_var
        assert mean is not None and var is not None
        spread = [(square - m.square()).clamp(min=0) for m, square in (found, reference)]
        ratio = (spread[0] + 1e-12) / (spread[1] + 1e-12)  # 1 where a channel is constant in both
        self.layer.running_mean = (found[0] + (mean.double() - reference[0]) * ratio.sqrt()).to(mean.dtype)
        self.layer.running_var = (var.double() * ratio).to(var.dtype)

    def finish(self) -> None:
        if self.sums[True]:
            found, reference = (list(torch.stack(self.sums[side]).mean(0)) for side in (True, False))
            self._set(found, reference)


def _first_two(x: Tensor) -> list[Tensor]:
    """Mean and mean square of each channel, float64 ``[channels]``."""
    axes = [k for k in range(x.dim()) if k != 1]
    return [x.mean(axes, dtype=torch.float64), x.square().mean(axes, dtype=torch.float64)]


@torch.no_grad()
def reestimate(model: nn.Module, images: Iterable[Tensor]) -> int:
    """Replace running statistics by their cumulative mean over batches in training mode.

    Use at least 10,000 augmented training images: with few, or clean ones, :func:`correct` loses far less.

    Returns:
        Number of images seen; with none, the statistics stay as they were.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    before = [(layer.momentum, layer.training) for layer in layers]
    training, seen = model.training, 0
    model.eval()
    try:
        for batch in images:
            if seen == 0:
                for layer in layers:
                    layer.reset_running_stats()
                    layer.momentum = None  # a cumulative mean
                    layer.train()
            with torch.compiler.set_stance("force_eager"):  # a changed momentum is another network to the compiler
                model(batch)
            seen += len(batch)
    finally:
        model.train(training)
        for layer, (momentum, mode) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.train(mode)
    return seen

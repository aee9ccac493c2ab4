"""Networks with a layer that some converters refuse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Odd", "odd"]


class Odd(nn.Module):
    """``matrix_exp``, which ONNX and Core ML do not know; ``det``, which ONNX does; or a branch on what it computes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "det":
            return torch.linalg.det(x)
        if self.kind == "branch":
            return x if x.sum() > 0 else -x
        return torch.linalg.matrix_exp(x)


def odd(kind: str = "matrix_exp", num_classes: int = 4, size: int = 4) -> nn.Sequential:
    """A network on square matrices, or images of one channel, whose ``middle.1`` is :class:`Odd`."""
    network = nn.Sequential()
    network.add_module("first", nn.Linear(size, size))
    network.add_module("middle", nn.Sequential(nn.ReLU(), Odd(kind)))
    if kind != "det":
        network.add_module("last", nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes)))
        network(torch.zeros(1, 1, size, size))
    with torch.no_grad():
        network.get_submodule("first").weight.mul_(8).round_().div_(64)
    return network.eval()

"""APoT over a network: after training or with straight-through training, first and last layer with more bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pwfn import scaled_apot
from pwfn.assignment import Assignment, merge
from pwfn.gaussian import GaussianWeight, gaussian_weights

__all__ = ["ApotLearning"]


class ApotLearning(L.Callback):
    """Train a converted network at the APoT values of its weights, and assign these in the end.

    In training the forward pass computes with the values, gradients go to the weights behind them. The scale of each
    tensor begins at :func:`pwfn.scaled_apot.fit` and takes one step of it before every batch. Called without training,
    this is APoT after training. Tensors of one dimension (biases, norm layers) and the weights of the first and of the
    last layer, in module order, are rounded uniformly up to their largest magnitude: the paper has 8 bits for these two
    layers.

    Args:
        bits: bits a weight, one of :data:`pwfn.scaled_apot.BITS`.
        edge_bits: bits of the tensors that are rounded uniformly.

    Raises:
        ValueError: if there is no such number of bits.
    """

    def __init__(self, bits: int = 4, *, edge_bits: int = 8) -> None:
        self.levels, self.uniform = scaled_apot.levels(bits), scaled_apot.uniform(edge_bits)
        self.scales: dict[int, Tensor] = {}  # of the tensors with levels, by their place in module order

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for _, _, weight in gaussian_weights(pl_module):
            weight.straight_through, weight.noisy = True, False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for mu, weight, levels, scale in self._scaled(pl_module):
            values = (scaled_apot.nearest(mu, levels, scale) * scale).to(mu.dtype)
            weight.centroid.copy_(torch.lerp(weight.centroid, values, weight.free))

    def __call__(self, model: nn.Module) -> Assignment:
        """Assign the weights in scope of a converted network, or a module around one, tensor after tensor."""
        parts = [
            scaled_apot.assign(mu.flatten().float(), levels, scale) for mu, _, levels, scale in self._scaled(model)
        ]
        return merge(parts)

    def state_dict(self) -> dict[str, Any]:
        return {"scales": self.scales}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scales = state_dict["scales"]

    def _scaled(self, model: nn.Module) -> Iterator[tuple[Tensor, GaussianWeight, Tensor, Tensor]]:
        """Each weight tensor as it learns, with its levels and its scale from now on."""
        weights = [(mu.detach(), weight) for _, mu, weight in gaussian_weights(model)]
        matrices = [i for i, (mu, _) in enumerate(weights) if mu.ndim > 1]
        for i, (mu, weight) in enumerate(weights):
            if i not in matrices[1:-1]:
                largest = mu.abs().max().double()
                scale = torch.where(largest > 0, largest / self.uniform[-1].to(mu.device), 1.0)
                yield mu, weight, self.uniform, scale
                continue
            if i in self.scales:
                self.scales[i] = scaled_apot.refit(mu, self.levels, self.scales[i].to(mu.device))
            else:
                self.scales[i] = scaled_apot.fit(mu, self.levels)
            yield mu, weight, self.levels, self.scales[i]

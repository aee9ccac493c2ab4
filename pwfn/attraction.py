"""WFN's regulariser in training: free weights are drawn to the centroids of the last round."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pwfn import softmin
from pwfn.fixing import WeightFixing
from pwfn.gaussian import gaussian_weights

__all__ = ["Attraction"]


class Attraction:
    """The penalty ``alpha * stop_gradient(CE / R) * R`` of WFN, R the mean soft distance to the centroids.

    Its value is a fixed share of the cross-entropy at every step; its gradient is that of R (relative distances
    of the free weights, softmin at temperature 0.05: :func:`pwfn.softmin.penalty`).

    Args:
        alpha: the share; 0 turns the penalty off.
        zero_distance: weights below it are at distance 0 from the centroid 0.
    """

    def __init__(self, alpha: float, zero_distance: float = 2**-7) -> None:
        if alpha < 0:
            raise ValueError(f"method.alpha must be 0 or more, got {alpha}")
        self.alpha, self.zero_distance = alpha, zero_distance
        self.fixing: WeightFixing | None = None
        self._round = 0
        self._curve: softmin.Curve | None = None
        self._free: list[Tensor] = []

    def __call__(self, model: nn.Module, loss: Tensor) -> Tensor:
        """The penalty at this step: 0 before the first round, and once nothing is free."""
        if self.alpha > 0:
            self._learn_of_round(model)
        if self._curve is None:
            return loss.new_zeros(())
        weights = zip(gaussian_weights(model), self._free, strict=True)
        parts = [mu.flatten().index_select(0, free) for (_, mu, _), free in weights if len(free)]
        if not parts:
            return loss.new_zeros(())
        distance = softmin.penalty(torch.cat(parts), self._curve, zero_distance=self.zero_distance)
        scale = loss.detach() / distance.detach().clamp(min=torch.finfo(distance.dtype).tiny)
        return self.alpha * scale * distance

    def _learn_of_round(self, model: nn.Module) -> None:
        """Table the soft distance to a new round's centroids, and list the weights that it left free.

        A step that looked for the free weights itself would spend more on that than on the penalty.
        """
        rounds = len(self.fixing.rows) if self.fixing is not None else 0
        if self.fixing is None or rounds == self._round:
            return
        last = self.fixing.rows[-1]["round"]
        values = [row["centroid"] for row in self.fixing.clusters if row["round"] == last]
        self._free = [w.free.flatten().nonzero().squeeze(1).int() for _, _, w in gaussian_weights(model)]
        centroids = torch.tensor(values, device=next(model.parameters()).device)
        self._curve = softmin.curve(centroids, zero_distance=self.zero_distance)
        self._round = rounds

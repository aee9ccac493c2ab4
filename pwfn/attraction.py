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
        self._round = -1
        self._curve: softmin.Curve | None = None

    def __call__(self, model: nn.Module, loss: Tensor) -> Tensor:
        """The penalty at this step: 0 before the first round, and once nothing is free."""
        free = [mu[weight.free > 0] for _, mu, weight in gaussian_weights(model)]
        w = torch.cat(free) if free else loss.new_zeros(0)
        curve = self._latest_curve(w.device)
        if self.alpha == 0 or curve is None or len(w) == 0:
            return loss.new_zeros(())
        distance = softmin.penalty(w, curve, zero_distance=self.zero_distance)
        scale = loss.detach() / distance.detach().clamp(min=torch.finfo(distance.dtype).tiny)
        return self.alpha * scale * distance

    def _latest_curve(self, device: torch.device) -> softmin.Curve | None:
        """The soft distance as a function of the weight, tabled once for each round's centroids."""
        rounds = len(self.fixing.rows) if self.fixing is not None else 0
        if self.fixing is not None and rounds > 0 and rounds != self._round:
            last = self.fixing.rows[-1]["round"]
            values = [row["centroid"] for row in self.fixing.clusters if row["round"] == last]
            self._curve = softmin.curve(torch.tensor(values, device=device), zero_distance=self.zero_distance)
            self._round = rounds
        return self._curve

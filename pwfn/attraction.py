"""WFN's penalty on the training loss: the free weights are attracted to the centroids of the last round."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pwfn.callback import WeightFixing
from pwfn.gaussian import gaussian_weights
from pwfn.kernels.curve import Curve, curve
from pwfn.kernels.softmin import penalty

__all__ = ["Attraction"]

R_MIN = 1e-12
"""WFN's mean distance R counts as 0 up to here: its table, in float32, holds no smaller one."""


class Attraction:
    """The penalty ``alpha * stop_gradient(CE / R) * R`` of WFN, R the mean soft distance to the centroids.

    Its value is a fixed share of the cross-entropy at every step, and 0 where R is 0; its gradient is that of R
    (softmin at temperature 0.05 of the free weights' distances: :func:`pwfn.kernels.softmin.penalty`).

    Args:
        fixing: the callback whose last round's centroids attract.
        alpha: the share; 0 turns the penalty off.
        zero_distance: up to this magnitude a weight's distance is ``|w - c|``, above it ``|w - c| / |w|``.
        distance: ``relative``, as described; ``euclidean``: ``|w - c|`` for all weights.
    """

    def __init__(
        self, fixing: WeightFixing, *, alpha: float, zero_distance: float = 2**-7, distance: str = "relative"
    ) -> None:
        if alpha < 0:
            raise ValueError(f"alpha must be 0 or more, got {alpha}")
        self.alpha, self.zero_distance, self.distance = alpha, zero_distance, distance
        self.fixing = fixing
        self._round = 0
        self._curve: Curve | None = None
        self._free: list[Tensor] = []

    def __call__(self, model: nn.Module, loss: Tensor) -> Tensor:
        """The penalty at this step: 0 before the first round, and once nothing is free."""
        if self.alpha > 0:
            self._learn_of_round(model)
        if self._curve is None:
            return loss.new_zeros(())
        weights = zip(gaussian_weights(model), self._free, strict=True)
        parts = [_free_of(mu, free) for (_, mu, _), free in weights if len(free)]
        if not parts:
            return loss.new_zeros(())
        distance = penalty(torch.cat(parts), self._curve)
        r = distance.detach()
        return self.alpha * torch.where(r > R_MIN, loss.detach() / r, 0.0) * distance

    def _learn_of_round(self, model: nn.Module) -> None:
        """Table the soft distance to a new round's centroids, and list the weights that it left free.

        A step that looked for the free weights itself would spend more on that than on the penalty.
        """
        rounds = len(self.fixing.rows)
        if rounds == self._round:
            return
        last = self.fixing.rows[-1]["round"]
        values = [row["centroid"] for row in self.fixing.clusters if row["round"] == last]
        self._free = [w.free.flatten().nonzero().squeeze(1).int() for _, _, w in gaussian_weights(model)]
        centroids = torch.tensor(values, device=next(model.parameters()).device)
        self._curve = curve(centroids, zero_distance=self.zero_distance, distance=self.distance)
        self._round = rounds


def _free_of(mu: Tensor, free: Tensor) -> Tensor:
    """The free weights of a tensor, by their places; selecting all would cost what the penalty does."""
    flat = mu.flatten()
    return flat if len(free) == len(flat) else flat.index_select(0, free)

"""How weights learn between two rounds: PWFN's schedule and pull on sigma, WFN's attraction to the centroids."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from pwfn.callback import WeightFixing
from pwfn.gaussian import GaussianWeight, gaussian_weights
from pwfn.kernels.curve import Curve, curve
from pwfn.kernels.softmin import penalty
from pwfn.pull import LAMBDA, Regulariser, pull_sigmas, regularised
from pwfn.regulariser import linear
from pwfn.rounds import Rounds

__all__ = ["Attraction", "GaussianLearning", "Schedule"]

Schedule = Literal["joint", "alternate", "halves", "sigma_only"]
Phase = Literal["joint", "mu", "sigma"]

R_MIN = 1e-12
"""WFN's mean distance R counts as 0 up to here: its table, in float32, holds no smaller one."""


class GaussianLearning(L.Callback):
    """Regulariser and schedule for a converted network, in any Lightning training.

    Args:
        rounds: the timetable; schedules other than ``joint`` follow it.
        regulariser: the regulariser.
        weight: lambda.
        biases: regularise the sigma of biases (tensors with fewer than two dimensions), too.
        schedule: ``joint`` trains mu and sigma together. ``halves`` first trains mu without noise, then sigma
            with mu held, each for half of the way between two rounds. ``alternate`` does so by whole epochs, mu
            for the longer half, and is ``joint`` before round 0 (the released code's). ``sigma_only`` holds mu.
        first_schedule: the schedule before round 0; the same as later if None.

    Raises:
        ValueError: if ``alternate`` has a single epoch between two rounds.
    """

    def __init__(
        self,
        rounds: Rounds | None = None,
        *,
        regulariser: Regulariser = linear,
        weight: float = LAMBDA,
        biases: bool = False,
        schedule: Schedule = "joint",
        first_schedule: Schedule | None = None,
    ) -> None:
        self.rounds = rounds or Rounds()
        if schedule == "alternate" and self.rounds.rest_epochs == 1:
            raise ValueError("schedule alternate needs 2 epochs or more between rounds, got rest_epochs 1: take halves")
        self.regulariser = regulariser
        self.weight = weight
        self.biases = biases
        self.schedules = (first_schedule or schedule, schedule)
        self.phase: Phase | None = None
        self._sizes: dict[GaussianWeight, Tensor] = {}  # |eps|, summed over so many micro-batches of a step
        self._micro_batches = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        phase = self._phase(trainer.current_epoch, batch_idx / trainer.num_training_batches)
        if phase != self.phase:
            self.phase = phase
            for _, _, weight in gaussian_weights(pl_module):
                weight.noisy = phase != "mu"

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.accumulate_grad_batches == 1 or self.phase == "mu":
            return
        self._micro_batches += 1
        for tensor in regularised(pl_module, self.biases):
            if tensor.eps is not None:
                size = tensor.eps.abs()
                self._sizes[tensor] = self._sizes[tensor].add_(size) if tensor in self._sizes else size

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        average = trainer.strategy.reduce if trainer.world_size > 1 else None
        if self.phase != "mu":
            sizes = {tensor: size.div_(self._micro_batches) for tensor, size in self._sizes.items()}
            self._pull(pl_module, trainer.current_epoch, average=average, sizes=sizes or None)
            self._sizes, self._micro_batches = {}, 0
        if self.phase == "joint":
            return
        for _, mu, weight in gaussian_weights(pl_module):
            # without a gradient the optimizer leaves a parameter alone: no momentum, no decay
            if self.phase == "sigma":
                mu.grad = None
            elif self.phase == "mu" and weight.sigma is not None:
                weight.sigma.grad = None

    def _pull(self, model: nn.Module, epoch: int, **arguments: Any) -> None:
        pull_sigmas(model, self.regulariser, self.weight, biases=self.biases, **arguments)

    def _phase(self, epoch: int, within: float) -> Phase:
        """What learns at this share of an epoch."""
        first = epoch < self.rounds.first_epochs
        schedule = self.schedules[0 if first else 1]
        if schedule == "joint" or (schedule == "alternate" and first):
            return "joint"
        if schedule == "sigma_only":
            return "sigma"
        way = self.rounds.progress(epoch, 0.0 if schedule == "alternate" else within)
        return "mu" if way < 0.5 else "sigma"


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
        count = sum(len(part) for part in parts)
        # tensor by tensor: to join them would be a copy of all weights
        distance = torch.stack([len(part) / count * penalty(part, self._curve) for part in parts]).sum()
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
    """The free weights of a tensor, by their places; to select all would cost a pass for nothing."""
    flat = mu.flatten()
    return flat if len(free) == len(flat) else flat.index_select(0, free)

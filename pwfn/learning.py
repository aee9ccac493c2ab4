"""How mu and sigma learn between two rounds: the regulariser's pull on sigma, and the training schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from pwfn.fixing import WeightFixing
from pwfn.gaussian import GaussianWeight, gaussian_weights
from pwfn.kernels import softmin
from pwfn.regulariser import linear
from pwfn.rounds import Rounds

__all__ = ["LAMBDA", "Attraction", "GaussianLearning", "Schedule", "pull_sigmas"]

Regulariser = Callable[[Tensor, Tensor, Tensor], Tensor]
Schedule = Literal["joint", "alternate", "sigma_only"]
Phase = Literal["joint", "mu", "sigma"]

LAMBDA = 2.0**-11
"""The paper's weight of the regulariser."""

R_MIN = 1e-12
"""WFN's mean distance R counts as 0 up to here: its table, in float32, holds no smaller one."""


@torch.no_grad()
def pull_sigmas(
    model: nn.Module,
    regulariser: Regulariser,
    weight: float = LAMBDA,
    *,
    biases: bool = False,
    average: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Apply a regulariser to the gradients of sigma, after the backward pass and before the optimizer's step.

    Only the sigma of free weights is pulled; of fixed ones too where sigma goes on learning.

    Args:
        model: a converted network with gradients.
        regulariser: ``regulariser(sigma, eps, grad)``, see :mod:`pwfn.regulariser`.
        weight: lambda.
        biases: pull the sigma of tensors with fewer than two dimensions, too.
        average: mean over the ranks of data-parallel training, whose draws differ; None on a single process.
    """
    for tensor in _pulled(model, biases):
        sigma, eps = tensor.sigma, tensor.eps
        if sigma is None or sigma.grad is None or eps is None:
            continue
        pull = regulariser(sigma.detach(), eps, sigma.grad)
        if average is not None:
            pull = average(pull)
        if tensor.retrain_sigma:
            sigma.grad.sub_(pull, alpha=weight)
        else:
            sigma.grad.addcmul_(pull, tensor.free, value=-weight)


class GaussianLearning(L.Callback):
    """Regulariser and schedule for a converted network, in any Lightning training.

    Args:
        rounds: the timetable; schedules other than ``joint`` follow it.
        regulariser: the regulariser.
        weight: lambda.
        biases: regularise the sigma of biases (tensors with fewer than two dimensions), too.
        schedule: ``joint`` trains mu and sigma together. ``alternate`` first trains mu without noise, then sigma
            with mu held, each for half of the way between two rounds. ``sigma_only`` holds mu throughout.
        first_schedule: the schedule before round 0; the same as later if None.
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
        self.regulariser = regulariser
        self.weight = weight
        self.biases = biases
        self.schedules = (first_schedule or schedule, schedule)
        self.phase: Phase | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        epoch = trainer.current_epoch
        schedule = self.schedules[epoch >= self.rounds.first_epochs]
        if schedule == "alternate":
            way = self.rounds.progress(epoch, batch_idx / trainer.num_training_batches)
            phase: Phase = "mu" if way < 0.5 else "sigma"
        else:
            phase = "sigma" if schedule == "sigma_only" else "joint"
        if phase != self.phase:
            self.phase = phase
            for _, _, weight in gaussian_weights(pl_module):
                weight.noisy = phase != "mu"

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        average = trainer.strategy.reduce if trainer.world_size > 1 else None
        if self.phase != "mu":
            pull_sigmas(pl_module, self.regulariser, self.weight, biases=self.biases, average=average)
        if self.phase == "joint":
            return
        for _, mu, weight in gaussian_weights(pl_module):
            # without a gradient the optimizer leaves a parameter alone: no momentum, no decay
            if self.phase == "sigma":
                mu.grad = None
            elif self.phase == "mu" and weight.sigma is not None:
                weight.sigma.grad = None


class Attraction:
    """The penalty ``alpha * stop_gradient(CE / R) * R`` of WFN, R the mean soft distance to the centroids.

    Its value is a fixed share of the cross-entropy at every step, and 0 where R is 0; its gradient is that of R
    (softmin at temperature 0.05 of the free weights' distances: :func:`pwfn.kernels.softmin.penalty`).

    Args:
        alpha: the share; 0 turns the penalty off.
        zero_distance: up to this magnitude a weight's distance is ``|w - c|``, above it ``|w - c| / |w|``.
        distance: ``relative``, as described; ``euclidean``: ``|w - c|`` for all weights.
    """

    def __init__(self, alpha: float, zero_distance: float = 2**-7, distance: str = "relative") -> None:
        if alpha < 0:
            raise ValueError(f"method.alpha must be 0 or more, got {alpha}")
        self.alpha, self.zero_distance, self.distance = alpha, zero_distance, distance
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
        distance = softmin.penalty(torch.cat(parts), self._curve)
        r = distance.detach()
        return self.alpha * torch.where(r > R_MIN, loss.detach() / r, 0.0) * distance

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
        self._curve = softmin.curve(centroids, zero_distance=self.zero_distance, distance=self.distance)
        self._round = rounds


def _pulled(model: nn.Module, biases: bool) -> Iterator[GaussianWeight]:
    return (weight for _, mu, weight in gaussian_weights(model) if biases or mu.ndim > 1)

"""How mu and sigma learn between two rounds: the regulariser's pull on sigma, and the training schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from pwfn.gaussian import GaussianWeight, gaussian_weights
from pwfn.regulariser import linear
from pwfn.rounds import Rounds

__all__ = ["LAMBDA", "GaussianLearning", "Schedule", "pull_sigmas"]

Regulariser = Callable[[Tensor, Tensor, Tensor], Tensor]
Schedule = Literal["joint", "alternate", "sigma_only"]
Phase = Literal["joint", "mu", "sigma"]

LAMBDA = 2.0**-11
"""The paper's weight of the regulariser."""


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


def _pulled(model: nn.Module, biases: bool) -> Iterator[GaussianWeight]:
    return (weight for _, mu, weight in gaussian_weights(model) if biases or mu.ndim > 1)

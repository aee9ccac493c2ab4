"""How mu and sigma learn between two rounds: the regulariser's pull on sigma, and the training schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from pwfn.attraction import Attraction
from pwfn.gaussian import GaussianWeight, gaussian_weights
from pwfn.regulariser import linear
from pwfn.rounds import Rounds

__all__ = [
    "LAMBDA",
    "Attraction",
    "GaussianLearning",
    "Schedule",
    "pull_sigmas",
    "regularised",
]
# Attraction: configurations name it here

Regulariser = Callable[[Tensor, Tensor, Tensor], Tensor]
Schedule = Literal["joint", "alternate", "halves", "sigma_only"]
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
    sizes: Mapping[GaussianWeight, Tensor] | None = None,
) -> None:
    """Apply a regulariser to the gradients of sigma, after the backward pass and before the optimizer's step.

    Sigma is pulled where :meth:`pwfn.gaussian.GaussianWeight.pulled` says so: of free weights, by default.

    Args:
        model: a converted network with gradients.
        regulariser: ``regulariser(sigma, eps, grad)``, see :mod:`pwfn.regulariser`.
        weight: lambda.
        biases: pull the sigma of tensors with fewer than two dimensions, too.
        average: mean over the ranks of data-parallel training, whose draws differ; None on a single process.
        sizes: mean ``|eps|`` of each tensor over the micro-batches of a step; of the last draw if None. A pull
            knows eps by its size alone and is linear in it or free of it, so that this averages the pulls
            (``linear_on_grad``, which is not linear, weighs the mean size against the gradient of the whole step).
    """
    for tensor in regularised(model, biases):
        sigma, eps = tensor.sigma, tensor.eps if sizes is None else sizes.get(tensor)
        if sigma is None or sigma.grad is None or eps is None:
            continue
        pull = regulariser(sigma.detach(), eps, sigma.grad)
        if average is not None:
            pull = average(pull)
        where = tensor.pulled()
        if where is None:
            sigma.grad.sub_(pull, alpha=weight)
        else:
            sigma.grad.addcmul_(pull, where, value=-weight)


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


def regularised(model: nn.Module, biases: bool) -> Iterator[GaussianWeight]:
    """The tensors whose sigma the regulariser pulls: those of two dimensions and more, or all with ``biases``."""
    return (weight for _, mu, weight in gaussian_weights(model) if biases or mu.ndim > 1)

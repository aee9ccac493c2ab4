"""Training between rounds as the released code does it, where that departs from the method.

In each step, eps being its draw, ``free`` 1 or 0, S, lambda and the pull those of :mod:`pwfn.regulariser`:

- ``g_mu = free dL/dw``;
- ``g_sigma = free [sigma >= 2**-30] eps dL/dw - lambda pull(sigma, eps)``, the pull on fixed weights too;
- the joint norm of all gradients, the pull among them, is clipped;
- ``v = momentum v + g + decay p`` and ``p = p - lr v`` for every p, sigma and fixed mu included, v = 0 after a round.

The pull ``linear_on_grad`` does nothing before round 0. Afterwards the gradients that sigma has from the loss are made
positive first (of weight tensors, and of biases where they are pulled).

So a fixed weight drifts off its centroid c: n steps later it is ``c exp(-lr decay S_n)``,
``S_n = sum_k (1 - momentum**k) / (1 - momentum)``. The next round clusters what it has become. By default none of
this happens: a fixed weight is its centroid.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pwfn.gaussian import GaussianWeight
from pwfn.kernels.noise import Sample
from pwfn.learning import GaussianLearning
from pwfn.prior import SIGMA_MIN
from pwfn.pull import regularised
from pwfn.regulariser import linear_on_grad

__all__ = ["ReleasedLearning", "ReleasedWeight"]


class ReleasedWeight(GaussianWeight):
    """A Gaussian weight that has no gradient where it is fixed, and is moved by momentum and decay nevertheless.

    Sigma is used at 2**-30 where it fell below, and has no gradient from the loss there. Give it to
    :func:`pwfn.to_gaussian` as ``weight``.
    """

    raise_sigma = False
    decay_sigma = True

    def mean(self, mu: Tensor) -> Tensor:
        """The mean in force: mu, fixed or not."""
        return torch.lerp(mu.detach(), mu, self.free)  # its gradient is 0 where the weight is fixed

    def deviation(self) -> Tensor | None:
        """The sigma in force, at least 2**-30; None without sigma."""
        return None if self.sigma is None else self.sigma.clamp(min=SIGMA_MIN)

    def pulled(self) -> Tensor | None:
        """Everywhere."""
        return None

    def settle(self, mu: Tensor, values: Tensor, fixed: Tensor, sigma: Tensor) -> None:
        """Take over a round's outcome; the sigma of a weight that stays free is left as it was, even below 2**-30."""
        super().settle(mu, values, fixed, sigma if self.sigma is None else torch.where(fixed, sigma, self.sigma))

    def forward(self, mu: Tensor) -> Tensor:
        sigma = self.deviation()
        if sigma is None or not (self.training and self.noisy):
            return super().forward(mu)
        if self.eps is None:
            self.eps = torch.randn_like(mu)
        held = None if self.retrain_sigma else sigma.detach()
        weight: Tensor = Sample.apply(mu, sigma, self.eps, self.free, mu.detach(), held)
        return weight


class ReleasedLearning(GaussianLearning):
    """Regulariser and schedule as of :class:`pwfn.learning.GaussianLearning`, and a new optimizer after each round.

    Only ``linear_on_grad`` is treated otherwise than there, as described above.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if batch_idx == 0 and self.rounds.due(trainer.current_epoch):
            for optimizer in trainer.optimizers:
                optimizer.state.clear()

    def _pull(self, model: nn.Module, epoch: int, **arguments: Any) -> None:
        if getattr(self.regulariser, "func", self.regulariser) is linear_on_grad:
            if epoch < self.rounds.first_epochs:
                return
            for tensor in regularised(model, self.biases):
                if tensor.sigma is not None and tensor.sigma.grad is not None:
                    tensor.sigma.grad.abs_()
        super()._pull(model, epoch, **arguments)

"""Straight-through learning: the network computes with shared values while it learns.

Each weight is the shared value c(w) in the forward pass, and its gradient goes to the hidden w behind it. Every
few steps all weights are assigned anew, at the least ``0.5 D (c - w)**2 + lambda bits(c)``, with the counts of
the assignment before; lambda follows the entropy, so that its target can fall from many bits to few.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pwfn.gaussian import gaussian_weights
from pwfn.rate_distortion.assignment import Code, candidates, code_of
from pwfn.rate_distortion.reassignment import Sharing, falling, reassign, settle

__all__ = ["StraightThrough", "hidden_weights"]


def hidden_weights(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Gather the hidden weights of a converted network and their sensitivity up to a factor, in module order.

    Returns:
        w, float32 ``[N]``; D, float32 ``[N]`` with mean 1: ``1 / sigma**2``, and the same for every weight of a
        tensor without sigma.
    """
    w, sensitivity = [], []
    for _, mu, weight in gaussian_weights(model):
        w.append(mu.detach().flatten().float())
        sigma = weight.deviation()
        flat = torch.ones_like(w[-1]) if sigma is None else sigma.detach().flatten().float().square().reciprocal()
        sensitivity.append(flat)
    d = torch.cat(sensitivity)
    return torch.cat(w), d / d.mean()


class StraightThrough(L.Callback):
    """Train a converted network at its shared values, in any Lightning training.

    The network comes from :func:`pwfn.to_gaussian`; its weights train without noise, and a prior only says how
    sensitive each is. At the end every free weight has its shared value in the forward pass; the last round of
    :class:`pwfn.WeightFixing` with :func:`pwfn.method.straight_through` makes it the weight itself. All ranks of
    data-parallel training have the same weights and compute the same assignments.

    Args:
        bits: entropy of all weights in the end, in bits a weight; the last assignment is at most 0.02 below.
        start: target in bits at the first step.
        ramp: share of the training after which the target has fallen to ``bits``; the number of values falls to
            ``max_unique`` alongside.
        freeze: share of the training, at its end, in which no weight changes its value: weights that go back and
            forth between two values leave the norm layers with statistics of neither.
        every: optimizer steps between two assignments.
        max_unique: most values in the end.
        max_order: most powers of two that a value is a sum of.
        min_exponent: smallest power; None is 12 below the power that no weight exceeds.

    Raises:
        ValueError: naming the setting to change.
    """

    def __init__(
        self,
        bits: float = 3.0,
        *,
        start: float = 5.0,
        ramp: float = 0.5,
        freeze: float = 0.15,
        every: int = 8,
        max_unique: int = 64,
        max_order: int = 2,
        min_exponent: int | None = None,
    ) -> None:
        if not 0 < bits <= start:
            raise ValueError(f"straight_through.bits must be positive and at most start, got {bits} and {start}")
        if ramp < 0 or freeze < 0 or ramp + freeze > 1:
            raise ValueError(f"straight_through.ramp and freeze must not exceed 1 together, got {ramp} and {freeze}")
        if every < 1 or max_unique < 1:
            raise ValueError(f"straight_through.every and max_unique start at 1, got {every} and {max_unique}")
        self.bits, self.start, self.ramp, self.freeze, self.every = bits, start, ramp, freeze, every
        self.max_unique, self.max_order, self.min_exponent = max_unique, max_order, min_exponent
        self.sharing: Sharing | None = None
        self.values = 0  # the number of candidates
        self.step = -1  # that of the last assignment

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for _, _, weight in gaussian_weights(pl_module):
            weight.straight_through, weight.noisy = True, False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        steps, step = int(trainer.estimated_stepping_batches), trainer.global_step
        last = max(0, math.ceil((1 - self.freeze) * steps) - 1)
        # a step may take several batches
        if step == self.step or step > last or (step % self.every and step != last):
            return
        self.step = step
        self._assign(pl_module, step / steps, last=step == last)
        assert self.sharing is not None
        code = self.sharing.code
        shown = {"straight_through/bits": code.entropy, "straight_through/unique": float(len(code.values))}
        pl_module.log_dict({name: torch.tensor(value) for name, value in shown.items()})

    def state_dict(self) -> dict[str, Any]:
        sharing = None if self.sharing is None else (*self.sharing.code[:2], self.sharing.scale)
        return {"sharing": sharing, "values": self.values, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values, self.step = state_dict["values"], state_dict["step"]
        if state_dict["sharing"] is not None:
            values, counts, scale = state_dict["sharing"]
            self.sharing = Sharing(code_of(values, counts), scale)

    @torch.no_grad()
    def _assign(self, model: nn.Module, progress: float, *, last: bool) -> None:
        w, sensitivity = hidden_weights(model)
        step: Callable[..., tuple[Tensor, Sharing]]
        if self.sharing is None:
            grid = candidates(w, max_order=self.max_order, min_exponent=self.min_exponent)
            self.values = len(grid)
            code = Code(grid, torch.ones_like(grid, dtype=torch.int64), torch.zeros_like(grid))
            self.sharing = Sharing(code, float(w.double().var(correction=0)) * 4.0**-self.start + 1e-30)
            step = partial(settle, rest=True)
        else:
            step = partial(settle, rest=False) if last else reassign
        target = falling(progress, self.start, self.bits, self.ramp)
        most = round(falling(progress, max(self.values, self.max_unique), self.max_unique, self.ramp))
        values, self.sharing = step(w, sensitivity, self.sharing, self.bits if last else target, most)
        start = 0
        for _, mu, weight in gaussian_weights(model):
            end = start + mu.numel()
            weight.centroid.copy_(torch.lerp(weight.centroid, values[start:end].view_as(mu).to(mu.dtype), weight.free))
            start = end

"""Straight-through learning: the network computes with shared values while it learns.

Each weight is the shared value c(w) in the forward pass, and its gradient goes to the hidden w behind it. Every
few steps all weights are assigned anew, at the least ``0.5 D (c - w)**2 + lambda bits(c)``, with the counts of
the assignment before; lambda follows the entropy, whose target falls from many bits to few.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pwfn.assignment import Assignment
from pwfn.gaussian import gaussian_weights
from pwfn.method import straight_through
from pwfn.ranks import broadcast_from_rank_0, from_rank_0
from pwfn.rate_distortion.codes import candidates, code_of
from pwfn.rate_distortion.reassignment import Sharing, begin, counted, falling, reassign, settle
from pwfn.rounds import Round

__all__ = ["StraightThrough", "normalised"]


class StraightThrough(L.Callback):
    """Train a converted network at its shared values, in any Lightning training.

    The network comes from :func:`pwfn.to_gaussian`; its weights train without noise. At the end every free weight has
    its shared value in the forward pass; the last round of :class:`pwfn.WeightFixing` with
    :func:`pwfn.method.straight_through` makes it the weight itself. All ranks of data-parallel training have the same
    weights and compute the same assignments.

    Args:
        bits: entropy of all weights in the end, in bits a weight; the last assignment is at most 0.02 below.
        start: target in bits at the first step.
        ramp: share of the training after which the target has fallen to ``bits``, and the number of values to
            ``max_unique``.
        freeze: share of the training, at its end, in which no weight changes its value: weights that go back and
            forth between two values leave the norm layers with statistics of neither.
        every: optimizer steps between two assignments.
        max_unique: most values in the end.
        max_order: most powers of two that a value is a sum of.
        floor: least share of the weights that a value may have in the end, in [0, 1); it rises from 0 over the ramp.
        min_exponent: smallest power; None is 12 below the power that no weight exceeds.
        sensitivity: measures D of every weight in scope of a converted network, ``[N]`` in module order, positive,
            up to a factor, which lambda takes up; called before the first assignment. The same for all if None.
        initial: assigns the values that learning starts from, to a converted network (a
            :class:`pwfn.post_training.PostTraining`, for instance); its weights learn from where they are if None.
        feedback: makes the last assignment of a converted network instead of the search for lambda, the one with
            error feedback for instance. That one keeps what the hidden weights compute, and these alone are a bad
            network once they have moved far.
        steps: optimizer steps in all; as many as Lightning estimates if None, which needs epochs of one length.
        power: exponent of D. 1 is right for weights that learn no more. While they make up for each other, 0.5
            spares the insensitive ones the longest ways.

    Raises:
        ValueError: naming the setting to change.
    """

    def __init__(
        self,
        bits: float = 3.0,
        *,
        start: float = 5.0,
        ramp: float = 0.6,
        freeze: float = 0.15,
        every: int = 8,
        max_unique: int = 64,
        max_order: int = 2,
        min_exponent: int | None = None,
        floor: float = 0.0,
        sensitivity: Callable[[nn.Module], Tensor] | None = None,
        power: float = 0.5,
        initial: Callable[[nn.Module], Assignment] | None = None,
        feedback: Callable[[nn.Module], Assignment] | None = None,
        steps: int | None = None,
    ) -> None:
        if not 0 < bits <= start:
            raise ValueError(f"bits must be positive and at most start, got {bits} and {start}")
        if ramp < 0 or freeze < 0 or ramp + freeze > 1:
            raise ValueError(f"ramp and freeze must not exceed 1 together, got {ramp} and {freeze}")
        if every < 1 or max_unique < 1:
            raise ValueError(f"every and max_unique start at 1, got {every} and {max_unique}")
        if not 0 <= floor < 1:
            raise ValueError(f"floor must lie in [0, 1), got {floor}")
        self.bits, self.start, self.ramp, self.freeze, self.every = bits, start, ramp, freeze, every
        self.max_unique, self.max_order, self.min_exponent = max_unique, max_order, min_exponent
        self.floor = floor
        self.measure, self.power, self.steps = sensitivity, power, steps
        self.initial, self.feedback = initial, feedback
        self.sensitivity: Tensor | None = None
        self.sharing: Sharing | None = None
        self.candidates = 0  # their number
        self.step = -1  # that of the last assignment
        self.distortion = 0.0  # mean of 0.5 D (c - w)**2
        self.shares: dict[str, float] = {}  # of the distortion, by parameter

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for _, _, weight in gaussian_weights(pl_module):
            weight.straight_through, weight.noisy = True, False

    @torch.no_grad()
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.initial is None or self.sharing is not None:  # a checkpoint holds what has become of it
            return
        values, start = self.initial(pl_module).values, 0
        for _, mu, weight in gaussian_weights(pl_module):
            mu.copy_(values[start : start + mu.numel()].view_as(mu))
            weight.centroid.copy_(mu)
            start += mu.numel()
        broadcast_from_rank_0(pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        steps, step = self.steps or int(trainer.estimated_stepping_batches), trainer.global_step
        last = max(0, math.ceil((1 - self.freeze) * steps) - 1)
        # a step may take several batches
        if step == self.step or step > last or (step % self.every and step != last):
            return
        self.step = step
        if self.sharing is None and self.measure is not None:
            self.sensitivity = normalised(self.measure(pl_module), self.power)
        self._assign(pl_module, 1.0 if step == last else step / steps, last=step == last)
        assert self.sharing is not None
        code = self.sharing.code
        shown = {"straight_through/bits": code.entropy, "straight_through/unique": float(len(code.values))}
        pl_module.log_dict({name: torch.tensor(value) for name, value in shown.items()})

    def assign(self, mu: Tensor, sigma: Tensor, round: Round) -> Assignment:
        """Assign as :func:`pwfn.method.straight_through`, with lambda, bits and distortion among the figures."""
        found = straight_through(mu, sigma, round)
        if self.sharing is None:
            return found
        figures = {"lambda": self.sharing.scale, "expected_bits": self.sharing.code.entropy}
        return replace(found, figures={**figures, "distortion": self.distortion}, shares=self.shares)

    def state_dict(self) -> dict[str, Any]:
        sharing = None if self.sharing is None else (*self.sharing.code[:2], self.sharing.scale)
        return {
            "sharing": sharing,
            "candidates": self.candidates,
            "step": self.step,
            "sensitivity": self.sensitivity,
            "distortion": self.distortion,
            "shares": self.shares,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.candidates, self.step = state_dict["candidates"], state_dict["step"]
        self.distortion, self.shares = state_dict["distortion"], state_dict["shares"]
        self.sensitivity = state_dict["sensitivity"]  # measured anew it might differ in its last bits
        if state_dict["sharing"] is not None:
            values, counts, scale = state_dict["sharing"]
            self.sharing = Sharing(code_of(values, counts), scale)

    @torch.no_grad()
    def _assign(self, model: nn.Module, progress: float, *, last: bool) -> None:
        w = torch.cat([mu.detach().flatten().float() for _, mu, _ in gaussian_weights(model)])
        sensitivity = torch.ones_like(w) if self.sensitivity is None else self.sensitivity.to(w.device)
        if len(sensitivity) != len(w):
            raise ValueError(f"{len(w)} weights are in scope, but sensitivity has {len(sensitivity)} entries")
        target = falling(progress, self.start, self.bits, self.ramp)
        if self.sharing is None:
            values = candidates(w, max_order=self.max_order, min_exponent=self.min_exponent)
            self.candidates = len(values)
            shared, self.sharing = begin(w, sensitivity, values, target, *self._limits(progress))
        elif last and self.feedback is not None:
            shared = from_rank_0(self.feedback(model).values)
            self.sharing = counted(shared, self.sharing.scale)
        else:
            step = settle if last else reassign
            shared, self.sharing = step(w, sensitivity, self.sharing, target, *self._limits(progress))
        losses = (0.5 * sensitivity * (shared.to(w) - w).square()).double()
        total = float(losses.sum())
        self.distortion, self.shares = total / len(w), {}
        start = 0
        for name, mu, weight in gaussian_weights(model):
            end = start + mu.numel()
            self.shares[name] = float(losses[start:end].sum()) / max(total, 1e-30)
            weight.centroid.copy_(torch.lerp(weight.centroid, shared[start:end].view_as(mu).to(mu.dtype), weight.free))
            start = end

    def _limits(self, progress: float) -> tuple[int, float]:
        """The most values at this point of the training, and the least share of the weights of each."""
        most = falling(progress, max(self.candidates, self.max_unique), self.max_unique, self.ramp)
        return round(most), falling(progress, 0.0, self.floor, self.ramp)


def normalised(sensitivity: Tensor, power: float) -> Tensor:
    """The power of the sensitivity, float32 of mean 1."""
    if not (sensitivity.min() > 0 and sensitivity.max() < math.inf):
        raise ValueError("straight_through.sensitivity must be finite and positive")
    d = sensitivity.detach().double() ** power
    return (d / d.mean()).float()

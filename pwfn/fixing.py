"""Fixing: cluster the weights of a network in a round, and the Lightning callback that does it on schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Literal, Protocol

import lightning as L
import torch
from torch import Tensor, nn

from pwfn import clustering, sigma_join
from pwfn.assignment import Assignment, merge
from pwfn.gaussian import Flat, flat_weights, gaussian_weights
from pwfn.prior import SIGMA_MIN
from pwfn.ranks import broadcast_from_rank_0, ignore_in_ddp_broadcast, is_clustering_rank, seed_rank
from pwfn.record import Fixing, figures, picks
from pwfn.rounds import Rounds

__all__ = ["WeightFixing", "fix"]

SigmaJoin = Callable[[Tensor, Tensor, Tensor], Tensor]
Recluster = Literal["all", "free"]


class Assign(Protocol):
    """Proposes shared values for flat float32 weights: ``assign(mu, sigma, fraction, round=t, rounds=T)``."""

    def __call__(self, mu: Tensor, sigma: Tensor, fraction: float, *, round: int, rounds: int) -> Assignment: ...


@torch.no_grad()
def fix(
    model: nn.Module,
    fraction: float,
    assign: Callable[[Tensor, Tensor, float], Assignment],
    join: SigmaJoin = sigma_join.std_mu,
    *,
    recluster: Recluster = "all",
    per_tensor: bool = False,
) -> Assignment:
    """Run one fixing round on a converted network, in place.

    Args:
        model: a network converted by :func:`pwfn.to_gaussian`.
        fraction: share of the weights in scope that are fixed afterwards.
        assign: ``assign(mu, sigma, fraction)``, for instance :func:`pwfn.clustering.assign`.
        join: the sigma join of the weights taken together.
        recluster: ``all`` makes every weight a candidate again; one not taken this time is free again and goes
            on learning from its centroid. ``free`` keeps earlier fixed weights and clusters the rest.
        per_tensor: call ``assign`` on each weight tensor by itself, so that each has values of its own and
            ``fraction`` of its weights fixed, instead of once for the whole network.

    Returns:
        The assignment over all weights in scope; weights kept from earlier rounds have group -1.
    """
    flat = flat_weights(model)
    propose = _assign_all if recluster == "all" else _assign_free
    if per_tensor:
        lengths = [mu.numel() for _, mu, _ in gaussian_weights(model)]
        assignment = merge([propose(part, fraction, assign) for part in flat.split(lengths)])
    else:
        assignment = propose(flat, fraction, assign)
    sigma = join(flat.mu, flat.sigma.clamp(min=clustering.SIGMA_FLOOR), assignment.group)
    sigma = torch.where(assignment.group >= 0, sigma, flat.sigma).clamp_(min=SIGMA_MIN)
    start = 0
    for _, mu, weight in gaussian_weights(model):
        part = slice(start, start := start + mu.numel())
        parts = (vector[part].view_as(mu) for vector in (assignment.values, assignment.fixed, sigma))
        weight.settle(mu, *parts)
    return assignment


def _assign_all(flat: Flat, fraction: float, assign: Callable[[Tensor, Tensor, float], Assignment]) -> Assignment:
    return assign(flat.mu, flat.sigma, fraction)


def _assign_free(flat: Flat, fraction: float, assign: Callable[[Tensor, Tensor, float], Assignment]) -> Assignment:
    """Cluster the free weights only, so that ``fraction`` of all are fixed together with the earlier ones."""
    free = ~flat.fixed
    count = int(free.sum())
    left = max(0, math.ceil(Decimal(str(float(fraction))) * len(free)) - (len(free) - count))
    # half a weight less than the count wanted: ceil(fraction * count) is then exact
    part = assign(flat.mu[free], flat.sigma[free], 1.0 if left == count else max(0.0, left - 0.5) / count)
    values, fixed = flat.mu.clone(), flat.fixed.clone()
    group = torch.full_like(values, -1, dtype=part.group.dtype)
    values[free], fixed[free], group[free] = part.values, part.fixed, part.group
    return replace(part, values=values, fixed=fixed, group=group)


class WeightFixing(L.Callback):
    """Fix a growing share of a network's weights at the end of training epochs, inside one ``Trainer.fit``.

    The round runs after the last batch of its epoch, before Lightning validates: validation sees what ships.
    Train for ``rounds.epochs`` epochs. Where epochs are cut (``first_fraction``), the Trainer must have
    ``reload_dataloaders_every_n_epochs=1``. Everything the callback knows is in the checkpoint.

    Args:
        rounds: the timetable.
        assign: proposes the shared values; :func:`pwfn.clustering.assign` with the paper's settings if None.
        join: the sigma join.
        recluster, per_tensor: see :func:`fix`.
        evaluate: optional; gives ``acc1``, ``acc5`` and ``loss`` of a network in evaluation mode, measured
            before and after each round.
        listener: optional; called with the trainer and the :class:`Fixing` after each round.
    """

    def __init__(
        self,
        rounds: Rounds | None = None,
        *,
        assign: Assign | None = None,
        join: SigmaJoin = sigma_join.std_mu,
        recluster: Recluster = "all",
        per_tensor: bool = False,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        listener: Callable[[L.Trainer, Fixing], None] | None = None,
    ) -> None:
        self.rounds = rounds or Rounds()
        self.assign: Assign = assign or _paper
        self.join = join
        self.recluster = recluster
        self.per_tensor = per_tensor
        self.evaluate = evaluate
        self.listener = listener
        self.rows: list[dict[str, float]] = []
        self.clusters: list[dict[str, float]] = []
        self.seconds = 0.0
        self._started = time.monotonic()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for _, _, weight in gaussian_weights(pl_module):
            weight.retrain_sigma = self.join is sigma_join.allow_retraining
        ignore_in_ddp_broadcast(pl_module)
        if stage == "fit" and not self.rows:
            trainer.limit_train_batches = self.rounds.batches(0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1:
            seed_rank(trainer.global_rank)
        self._started = time.monotonic()
        if not self.rows and self.rounds.due(0):
            self.run(trainer, pl_module, self.rounds.due(0))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        epochs = trainer.current_epoch + 1
        # tensors on the CPU: Lightning puts numbers on the device and reads them back, waiting for it at every step
        shown = {"round": torch.tensor(float(self.rounds.coming(epochs - 1))), "fixed": torch.tensor(self._fixed)}
        pl_module.log_dict(shown, prog_bar=True, logger=False)
        if not trainer.is_last_batch:
            return
        due = self.rounds.due(epochs)
        if due:
            self.run(trainer, pl_module, due)
        trainer.limit_train_batches = self.rounds.batches(epochs)

    def run(self, trainer: L.Trainer, model: nn.Module, due: range) -> None:
        """Run the rounds in ``due`` one after the other, with no training between them.

        Under data-parallel training rank 0 clusters; all ranks go on with its weights and its record.
        """
        self._tick()
        trained, self.seconds = self.seconds, 0.0
        broadcast_from_rank_0(model)
        score = self._score(model)
        for t in due:
            before, start = flat_weights(model), time.monotonic()
            assignment = self._fix(model, t) if is_clustering_rank() else None
            broadcast_from_rank_0(model)
            seconds = time.monotonic() - start
            previous, score = score, self._score(model)
            event = None
            if assignment is not None:
                after = flat_weights(model)
                row = {
                    "round": t,
                    "fraction": self.rounds.fractions[t],
                    **figures(before, after, assignment),
                    **{f"{name}_before": value for name, value in previous.items()},
                    **{f"{name}_after": value for name, value in score.items()},
                    "train_seconds": trained if t == due[0] else 0.0,
                    "cluster_seconds": seconds,
                }
                event = Fixing(row, assignment, before, after)
            record: Any = None if event is None else (event.row, picks(t, event.assignment))
            row, picked = trainer.strategy.broadcast(record)  # WFN's regulariser reads it on every rank
            self.rows.append(row)
            self.clusters += picked
            if event is not None and self.listener is not None:
                self.listener(trainer, event)
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        self._tick()
        return {"rows": self.rows, "clusters": self.clusters, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.clusters = list(state_dict["rows"]), list(state_dict["clusters"])
        self.seconds = state_dict["seconds"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["limit_train_batches"] = trainer.limit_train_batches

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        trainer.limit_train_batches = checkpoint["limit_train_batches"]

    @property
    def _fixed(self) -> float:
        """Share of the weights fixed so far."""
        return self.rows[-1]["fraction"] if self.rows else 0.0

    def _tick(self) -> None:
        """Add the time since the last look to the seconds trained towards the coming round."""
        now = time.monotonic()
        self.seconds, self._started = self.seconds + now - self._started, now

    def _fix(self, model: nn.Module, t: int) -> Assignment:
        assign = partial(self.assign, round=t, rounds=len(self.rounds))
        fraction = self.rounds.fractions[t]
        return fix(model, fraction, assign, self.join, recluster=self.recluster, per_tensor=self.per_tensor)

    def _score(self, model: nn.Module) -> dict[str, float]:
        return {} if self.evaluate is None else self.evaluate(model)


def _paper(mu: Tensor, sigma: Tensor, fraction: float, *, round: int, rounds: int) -> Assignment:
    return clustering.assign(mu, sigma, fraction)

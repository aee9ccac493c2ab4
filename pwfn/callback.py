"""The Lightning callback that fixes weights on schedule."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pwfn import method, sigma_join
from pwfn.assignment import Assignment
from pwfn.fixing import Recluster, SigmaJoin, fix, write
from pwfn.gaussian import flat_weights, gaussian_weights
from pwfn.method import Method
from pwfn.ranks import broadcast_from_rank_0, ignore_in_ddp_broadcast, is_clustering_rank, seed_rank
from pwfn.record import Fixing, figures, picks
from pwfn.refusal import require_batches, require_fit
from pwfn.rounds import Rounds

__all__ = ["WeightFixing"]


class WeightFixing(L.Callback):
    """Fix a growing share of a network's weights at the end of training epochs, inside one ``Trainer.fit``.

    The round runs after the last batch of its epoch, before Lightning validates: validation sees what ships.
    Train for ``rounds.epochs`` epochs. Where epochs are cut (``first_fraction``), the Trainer must have
    ``reload_dataloaders_every_n_epochs=1``; others are refused. Everything the callback knows is in the checkpoint.

    Args:
        rounds: the timetable.
        assign: proposes the shared values, see :mod:`pwfn.method`.
        join: the sigma join.
        recluster, per_tensor: see :func:`pwfn.fixing.fix`.
        propose: assigns from the network itself, instead of from its weights as vectors; called on every rank.
        refresh: called with the network after each round, to estimate the statistics of its norm layers again; the
            accuracy in between gets columns of its own, ``acc1_kept`` and so on.
        evaluate: gives ``acc1``, ``acc5`` and ``loss`` of a network in evaluation mode, before and after each round.
        listener: called with the trainer and the :class:`Fixing` after each round.
    """

    def __init__(
        self,
        rounds: Rounds | None = None,
        *,
        assign: Method = method.pwfn,
        join: SigmaJoin = sigma_join.std_mu,
        recluster: Recluster = "all",
        per_tensor: bool = False,
        propose: Callable[[nn.Module], Assignment] | None = None,
        refresh: Callable[[nn.Module], None] | None = None,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        listener: Callable[[L.Trainer, Fixing], None] | None = None,
    ) -> None:
        self.rounds = rounds or Rounds()
        self.assign = assign
        self.join = join
        self.recluster = recluster
        self.per_tensor = per_tensor
        self.propose = propose
        self.refresh = refresh
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
        if stage == "fit":
            if not self.rows:
                trainer.limit_train_batches = self.rounds.batches(0)
            require_fit(self.rounds, trainer, pl_module)

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
        fixed = self.rows[-1]["fraction"] if self.rows else 0.0
        shown = {"round": torch.tensor(float(self.rounds.coming(epochs - 1))), "fixed": torch.tensor(fixed)}
        pl_module.log_dict(shown, prog_bar=True, logger=False)
        if not trainer.is_last_batch:
            return
        if due := self.rounds.due(epochs):
            self.run(trainer, pl_module, due)
        trainer.limit_train_batches = self.rounds.batches(epochs)

    def run(self, trainer: L.Trainer, model: nn.Module, due: range) -> None:
        """Run the rounds in ``due`` one after the other, with no training between them.

        Under data-parallel training rank 0 clusters; all ranks go on with its weights and its figures.
        """
        self._tick()
        trained, self.seconds = self.seconds, 0.0
        broadcast_from_rank_0(model)
        score = self._score(model)
        for t in due:
            score = self._run_round(trainer, model, t, score, trained if t == due[0] else 0.0)
        self._started = time.monotonic()

    def _run_round(
        self, trainer: L.Trainer, model: nn.Module, t: int, previous: dict[str, float], trained: float
    ) -> dict[str, float]:
        """Fix the weights of round ``t``, keep its figures and tell the listener; the accuracy afterwards."""
        before, start = flat_weights(model), time.monotonic()
        leading = is_clustering_rank()
        assignment = self._fix(model, t) if leading or self.propose is not None else None
        broadcast_from_rank_0(model)
        seconds = time.monotonic() - start
        score, kept = self._score_anew(model)
        found: Any = None
        if assignment is not None and leading:
            after = flat_weights(model)
            row = {
                "round": t,
                "fraction": self.rounds.fractions[t],
                **figures(before, after, assignment),
                **{f"{name}_before": value for name, value in previous.items()},
                **kept,
                **{f"{name}_after": value for name, value in score.items()},
                "train_seconds": trained,
                "cluster_seconds": seconds,
            }
            found = row, picks(t, assignment)
        row, picked = trainer.strategy.broadcast(found)  # WFN's regulariser reads it on every rank
        self.rows.append(row)
        self.clusters += picked
        if assignment is not None and leading and self.listener is not None:
            self.listener(trainer, Fixing(row, self.rows, self.clusters, assignment, before, after))
        return score

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        require_batches(trainer, exception)

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

    def _tick(self) -> None:
        """Add the time since the last look to the seconds trained towards the coming round."""
        now = time.monotonic()
        self.seconds, self._started = self.seconds + now - self._started, now

    def _fix(self, model: nn.Module, t: int) -> Assignment:
        if self.propose is not None:
            flat = flat_weights(model)
            assignment = self.propose(model)
            write(model, flat, assignment, self.join)
            return assignment
        now = self.rounds[t]

        def assign(mu: Tensor, sigma: Tensor, fraction: float, fixed_before: int = 0) -> Assignment:
            return self.assign(mu, sigma, replace(now, fixed_before=fixed_before))

        return fix(model, now.fraction, assign, self.join, recluster=self.recluster, per_tensor=self.per_tensor)

    def _score_anew(self, model: nn.Module) -> tuple[dict[str, float], dict[str, float]]:
        """The accuracy after a round, and that before the statistics of norm layers were estimated again."""
        score = self._score(model)
        if self.refresh is None:
            return score, {}
        kept = {f"{name}_kept": value for name, value in score.items()}
        if is_clustering_rank():
            self.refresh(model)
        broadcast_from_rank_0(model)
        return self._score(model), kept

    def _score(self, model: nn.Module) -> dict[str, float]:
        return {} if self.evaluate is None else self.evaluate(model)

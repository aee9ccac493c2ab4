"""The answer to a cluster's signals: the batch is finished, a checkpoint written, then the process ends.

The signals are kept from programs that the run starts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment

__all__ = ["Interruption", "environments", "shielded"]

Handler = Callable[[int, FrameType | None], Any]


class Interruption(Checkpoint):
    """Writes a checkpoint before SIGUSR2 (time-out, preemption) or SIGTERM ends the process.

    SIGUSR2 matters only where somebody handles it already (submitit: requeue and exit): that handler is put off
    to the end of the running batch, or for ``patience`` seconds, whichever comes first. On SIGTERM Lightning
    itself stops after the batch.

    Args:
        path: the checkpoint.
        patience: seconds; less than the notice that the cluster gives.
    """

    def __init__(self, path: Path, patience: int = 45) -> None:
        self.path = path
        self.patience = patience
        self._handler: Handler | None = None
        self._noticed = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning has noted all handlers by now, and puts them back in the end: not ours
        handler = signal.getsignal(signal.SIGUSR2)
        if callable(handler) and threading.current_thread() is threading.main_thread():
            self._handler = handler
            signal.signal(signal.SIGUSR2, self._notice)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:  # the last one belongs to the end of the epoch
            self._leave(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        handler = self._restore()
        if self._noticed and handler is not None:
            handler(signal.SIGUSR2, None)

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        self._noticed = True
        assert self._handler is not None
        signal.signal(signal.SIGALRM, self._handler)
        signal.alarm(self.patience)

    def _leave(self, trainer: L.Trainer) -> None:
        asked = self._noticed or trainer.received_sigterm
        if trainer.world_size > 1:  # all ranks write the checkpoint together
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if not asked:
            return
        trainer.save_checkpoint(self.path)
        if self._noticed:
            handler = self._restore()
            self._noticed = False
            if handler is not None:
                handler(signal.SIGUSR2, None)

    def _restore(self) -> Handler | None:
        """Restore the handler of SIGUSR2 that was in force before, and return it."""
        handler, self._handler = self._handler, None
        if handler is not None:
            signal.signal(signal.SIGUSR2, handler)
            signal.alarm(0)
        return handler


@contextmanager
def shielded() -> Iterator[None]:
    """Keep the signals that a cluster sends to all processes of a job from programs started inside the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environments() -> list[SLURMEnvironment]:
    """Return Lightning's plugin for the cluster, with its own requeueing off, since submitit requeues."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []

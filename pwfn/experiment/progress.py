"""The progress bar of training, short enough for one line of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

__all__ = ["Progress", "progress"]


class Progress(RichProgressBar):
    """Shows epoch, batches, the time left and the metrics of the last batch."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        return [
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        ]

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)  # the logger's version: the end of W&B's run id
        return dict(metrics)


def progress(arguments: Mapping[str, Any]) -> list[L.Callback]:
    """The progress bar for ``lightning.Trainer``, where its other ``arguments`` do not turn it off."""
    return [Progress()] if arguments.get("enable_progress_bar", True) else []

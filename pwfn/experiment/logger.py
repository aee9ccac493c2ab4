"""Loggers, and what a fixing round logs to them. The only module that knows wandb."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from pwfn.experiment.interruption import shielded
from pwfn.record import Fixing

__all__ = ["csv_logger", "finish", "log_files", "log_round", "wandb_logger"]


@shielded()  # wandb's service process starts in here
def wandb_logger(
    folder: Path, resolved: Mapping[str, Any], *, name: str, job_type: str, **settings: Any
) -> WandbLogger:
    """One W&B run per run directory: its id follows from the directory, so a resumed run keeps it.

    Offline unless the user is logged in; WANDB_MODE decides where it is set.
    """
    # by default a killed process loses the last 15 seconds of what it logged
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    parts = [resolved[part]["name"] for part in ("model", "dataset") if part in resolved]
    settings["tags"] = [*parts, *(settings.get("tags") or [])]
    logger = WandbLogger(
        name=name,
        id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12],
        save_dir=folder,
        offline=mode == "offline",
        mode=mode,
        resume="allow",
        job_type=job_type,
        config=dict(resolved),
        settings=wandb.Settings(quiet=True),
        **settings,
    )
    run = logger.experiment
    if isinstance(run, wandb.Run):
        run.define_metric("round")
        run.define_metric("fixing/*", step_metric="round")
    return logger


def csv_logger(folder: Path, resolved: Mapping[str, Any], **settings: Any) -> CSVLogger:
    """Metrics in ``csv/metrics.csv`` of the run directory."""
    return CSVLogger(folder, name="", version="csv")


def log_round(trainer: L.Trainer, fixing: Fixing) -> None:
    """Log a round's figures as ``fixing/<column>`` on the axis ``round``; to W&B histograms and the picked
    centroids, too."""
    row, after = fixing.row, fixing.after
    figures = {f"fixing/{name}": value for name, value in row.items() if name != "round"}
    for logger in trainer.loggers:
        logger.log_metrics({"round": row["round"], **figures}, step=trainer.global_step)
        if isinstance(logger, WandbLogger):
            _log_to_wandb(logger, fixing, row["round"], after.mu, after.sigma, after.fixed)


def _log_to_wandb(logger: WandbLogger, fixing: Fixing, round: float, mu: Tensor, sigma: Tensor, fixed: Tensor) -> None:
    assignment = fixing.assignment
    rows = zip(
        assignment.centroids.tolist(),
        assignment.counts.tolist(),
        assignment.orders.tolist(),
        assignment.reaches.tolist(),
        strict=True,
    )
    table = wandb.Table(
        columns=["round", "pick", "centroid", "count", "order", "reach"],
        data=[[round, i, *values] for i, values in enumerate(rows)],
    )
    logger.experiment.log(
        {
            "round": round,
            "fixing/weights": _histogram(mu),
            "fixing/log2_sigma_free": _histogram(sigma[~fixed].log2()),
            "fixing/log2_sigma_fixed": _histogram(sigma[fixed].log2()),
            "fixing/centroids": table,
        }
    )


@rank_zero_only
def finish(logger: Logger | None, summary: Mapping[str, Any]) -> None:
    """Log the final figures as W&B's summary of the run, and close it."""
    if isinstance(logger, WandbLogger):
        logger.experiment.summary.update(dict(summary))
        logger.experiment.finish()


def log_files(logger: Logger | None, images: Mapping[str, Path], tables: Mapping[str, Path]) -> None:
    """Plots as W&B images ``plots/<name>``, CSV files as W&B tables ``<name>``."""
    if not isinstance(logger, WandbLogger):
        return
    content: dict[str, Any] = {f"plots/{name}": wandb.Image(str(path)) for name, path in images.items()}
    for name, path in tables.items():
        with path.open(newline="") as file:
            head, *rows = csv.reader(file)
        content[name] = wandb.Table(columns=[*head], data=[list(map(_number, row)) for row in rows])
    logger.experiment.log(content)


def _number(text: str) -> float | str | None:
    """What a cell of a CSV file says; W&B's columns hold one type each, but for missing values."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _histogram(x: Tensor, bins: int = 64) -> wandb.Histogram:
    """A histogram counted where the tensor is; without weights that have none (log2 of sigma 0)."""
    x = x[torch.isfinite(x)].float()
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    place = (x - low).mul_(bins / (high - low)).int().clamp_(max=bins - 1)  # histc may be refused on a GPU
    counts = place.bincount(minlength=bins).cpu().numpy()
    return wandb.Histogram(np_histogram=(counts, np.linspace(low, high, bins + 1)))

"""Loggers, and what a fixing round logs to them. No other module of a run imports wandb."""

from __future__ import annotations

import csv
import os
import re
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
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
from pwfn.experiment.wandb_mode import asked_mode, wandb_mode
from pwfn.record import Fixing
from pwfn.rundir.files import atomic, write_json

__all__ = ["csv_logger", "finish", "log_files", "log_model", "log_round", "wandb_logger"]


def wandb_logger(
    folder: Path, resolved: Mapping[str, Any], *, name: str, job_type: str, **settings: Any
) -> Callable[[], WandbLogger]:
    """Check W&B's settings and return what opens the logger: one W&B run per run directory.

    Its id is kept in the directory, so that a resumed run keeps it, also where the directory has been moved.
    How it is reached is told by :func:`pwfn.experiment.wandb_mode.wandb_mode`.

    Raises:
        ValueError: if WANDB_MODE is none of W&B's, or a setting is none of its.
    """
    known = signature(wandb.init).parameters.keys() - {"mode"}
    for unknown in sorted(settings.keys() - known):
        raise ValueError(f"logger.{unknown} is no argument of wandb.init")
    mode = asked_mode()
    parts = [resolved[group]["name"] for group in ("model", "dataset") if group in resolved]
    settings["tags"] = [*parts, *(settings.get("tags") or [])]
    return partial(_open_wandb, folder, mode, config=dict(resolved), name=name, job_type=job_type, **settings)


@shielded()  # wandb's service process starts in here
def _open_wandb(folder: Path, mode: str | None, **settings: Any) -> WandbLogger:
    # A service of the process that started this one outlives a kill of this one, and keeps its run "in use".
    os.environ.pop("WANDB_SERVICE", None)
    # by default a killed process loses the last 15 seconds of what it logged
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    mode = rank_zero_only(wandb_mode, default="disabled")(mode)
    run = rank_zero_only(_start)(folder, mode=mode, **settings)
    return WandbLogger(save_dir=folder, experiment=run, mode=mode)


def _start(folder: Path, **settings: Any) -> wandb.Run:
    try:
        run = wandb.init(
            id=_run_id(folder),
            dir=folder,
            resume="allow",
            reinit="finish_previous",  # where an earlier run in this process failed
            settings=wandb.Settings(quiet=True),
            **settings,
        )
    except wandb.Error as error:
        raise ValueError(f"W&B takes no run ({error}): see wandb login, or set WANDB_MODE=offline") from error
    for metric, axis in (("*", "trainer/global_step"), ("fixing/*", "round")):
        run.define_metric(axis)
        run.define_metric(metric, step_metric=axis, step_sync=axis != "round")
    return run


def _run_id(folder: Path) -> str:
    """Return the id of the W&B run of a folder: drawn once, then read from its file ``wandb_id``."""
    path = folder / "wandb_id"
    if not path.exists():
        with atomic(path) as temporary:
            temporary.write_text(secrets.token_hex(6))
    return path.read_text()


def csv_logger(folder: Path, resolved: Mapping[str, Any], **settings: Any) -> Callable[[], CSVLogger]:
    """Return what opens a logger of metrics to ``csv/metrics.csv`` of the run directory."""
    return partial(CSVLogger, folder, name="", version="csv")


def log_round(trainer: L.Trainer, fixing: Fixing) -> None:
    """Log a round's figures as ``fixing/<column>`` on the axis ``round``.

    W&B gets histograms and the picked centroids, too.
    """
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
    shares = [[round, name, share] for name, share in assignment.shares.items()]
    logger.experiment.log(
        {
            "round": round,
            **({"fixing/distortion_by_layer": wandb.Table(["round", "layer", "share"], shares)} if shares else {}),
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
    """Log plots as W&B images ``plots/<name>`` and CSV files as W&B tables ``<name>``."""
    if not isinstance(logger, WandbLogger):
        return
    content: dict[str, Any] = {f"plots/{name}": wandb.Image(str(path)) for name, path in images.items()}
    for name, path in tables.items():
        with path.open(newline="") as file:
            head, *rows = csv.reader(file)
        content[name] = wandb.Table(columns=[*head], data=[list(map(_number, row)) for row in rows])
    logger.experiment.log(content)


@rank_zero_only
def log_model(logger: Logger | None, folder: Path, summary: Mapping[str, Any]) -> None:
    """The fixed network as a W&B artifact of type ``model``: ``model.pwfn``, ``codebook.csv``, ``summary.json``.

    It is named by model and dataset, its aliases are the method and the bits a weight, such as ``3.0bits``, and its
    metadata are the figures. Files are named where they lie and not copied, so that an offline run can be synced
    for as long as its folder exists.

    Args:
        logger: of the run; others than W&B's log nothing.
        folder: the run directory.
        summary: the content of ``summary.json``.
    """
    if not isinstance(logger, WandbLogger) or not isinstance(logger.experiment, wandb.Run):
        return
    name = re.sub(r"[^\w.-]+", "-", f"{summary['model']}-{summary['dataset']}")
    scalars = {key: value for key, value in summary.items() if isinstance(value, int | float | str)}
    artifact = wandb.Artifact(name, type="model", metadata=scalars)
    written = Path(logger.experiment.dir, "summary.json")
    write_json(written, summary)
    for path in (folder / "model.pwfn", folder / "codebook.csv", written):
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
    logger.experiment.log_artifact(artifact, aliases=[str(summary["method"]), f"{summary['entropy']:.1f}bits"])


def _number(text: str) -> float | str | None:
    """Read a cell of a CSV file as a number or text; one of W&B's columns holds one type, and None where empty."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _histogram(x: Tensor, bins: int = 64) -> wandb.Histogram:
    """Count a histogram on the tensor's device, without values that are not finite (log2 of sigma 0)."""
    x = x[torch.isfinite(x)].float()
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    place = (x - low).mul_(bins / (high - low)).int().clamp_(max=bins - 1)  # histc may be refused on a GPU
    counts = place.bincount(minlength=bins).cpu().numpy()
    return wandb.Histogram(np_histogram=(counts, np.linspace(low, high, bins + 1)))

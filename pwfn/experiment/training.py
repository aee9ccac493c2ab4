"""The parts of a run that train and measure, each built from its groups of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pwfn.callback import WeightFixing
from pwfn.classifier import Classifier
from pwfn.experiment.baseline import Baseline
from pwfn.experiment.build import blaming, mixing, network_and_data
from pwfn.experiment.evaluation import Settings, accuracy
from pwfn.experiment.results import Measurement
from pwfn.experiment.round_files import write_round
from pwfn.rounds import Rounds
from pwfn.rundir.naming import content_hash, to_dict

__all__ = ["baseline_of", "classifier_of", "fixing_of", "measurement_of", "rounds_of"]


def measurement_of(cfg: DictConfig, folder: Path, *, weights: bool) -> Measurement:
    """Build the network, its data and how both are measured; with its starting weights if ``weights``."""
    model, architecture, data = network_and_data(cfg, weights=weights)
    with blaming(cfg, "prior"):
        prior = instantiate(cfg.prior) if cfg.method.gaussian else None
        if prior is not None:  # a setting out of range shows on a small tensor
            prior(torch.tensor([0.3, -0.01, 0.0]))
    return Measurement(
        folder,
        model,
        architecture,
        data,
        scope=instantiate(cfg.scope),
        prior=prior,
        settings=Settings(**to_dict(cfg.get("evaluation") or OmegaConf.create())),
        exports=to_dict(cfg.get("export") or OmegaConf.create()),
    )


def rounds_of(cfg: DictConfig, batches: int) -> Rounds:
    """Build the timetable, of whose epochs each keeps at least one of its ``batches``."""
    with blaming(cfg, "fixing"):
        rounds: Rounds = instantiate(cfg.method.rounds)
    devices = cfg.trainer.devices
    if not isinstance(devices, int):  # a list, "auto", "0,2"
        devices = torch.cuda.device_count() if devices == "auto" else len(str(devices).split(","))
    ranks = cfg.trainer.num_nodes * max(1, devices if devices > 0 else torch.cuda.device_count())
    one_batch = min(1.0, 1.001 / max(1, batches // ranks))  # Lightning rounds a share of the batches down
    return replace(
        rounds,
        first_fraction=max(one_batch, rounds.first_fraction),
        rest_fraction=max(one_batch, rounds.rest_fraction),
    )


def fixing_of(cfg: DictConfig, folder: Path, measurement: Measurement, rounds: Rounds) -> WeightFixing:
    """Build the callback of the rounds around the configured method and sigma join.

    Raises:
        ValueError: if a setting of the method is out of range.
    """
    data = measurement.data
    with blaming(cfg, "fixing"):
        assign = instantiate(cfg.method.assign)
        for t in range(len(rounds)):  # settings out of range show on a small clustering, now and not hours later
            assign(torch.tensor([0.3, 0.5, 0.0]), torch.full((3,), 0.01), 1.0, round=t, rounds=len(rounds))
    return WeightFixing(
        rounds,
        assign=assign,
        join=instantiate(cfg.sigma_join),
        recluster=cfg.fixing.recluster,
        per_tensor=cfg.method.get("per_tensor", False),
        evaluate=lambda model: accuracy(model, data.val_dataloader(), data.num_classes),
        listener=partial(write_round, folder),
    )


def classifier_of(cfg: DictConfig, measurement: Measurement, fixing: WeightFixing) -> Classifier:
    """Build the network in training: loss, mixing, optimizer and the method's penalty, which reads the rounds done."""
    data = measurement.data
    mixup, criterion = mixing(cfg, data.num_classes)
    with blaming(cfg, "method"):
        penalty = instantiate(cfg.method.penalty)
    optimizer = instantiate(cfg.optimizer)
    with blaming(cfg, "optimizer"):
        optimizer([nn.Parameter(torch.zeros(1))])  # momentum, betas, ... out of range show here
    return Classifier(
        measurement.model,
        optimizer,
        data.num_classes,
        criterion=criterion,
        mixup=mixup,
        penalty=None if penalty is None else penalty(fixing),
    )


def baseline_of(cfg: DictConfig, arguments: Mapping[str, Any]) -> Baseline | None:
    """Say how the starting network is trained, and where it is kept for runs like this one; None if it has weights."""
    if cfg.model.checkpoint or cfg.model.pretrained:
        return None
    recipe = {
        "model": to_dict(cfg.model),
        "dataset": {k: v for k, v in to_dict(cfg.dataset).items() if k != "workers"},
        "baseline": {k: v for k, v in to_dict(cfg.baseline).items() if k != "folder"},
        "seed": cfg.seed,
        "precision": cfg.trainer.precision,
    }
    name = f"{cfg.model.name}-{cfg.dataset.name}-{content_hash(recipe)}".replace("/", "_")
    optimizer = instantiate(cfg.baseline.optimizer)
    with blaming(cfg, "baseline.optimizer"):
        optimizer([nn.Parameter(torch.zeros(1))])
    return Baseline(
        Path(cfg.baseline.folder) / name,
        epochs=cfg.baseline.epochs,
        optimizer=optimizer,
        scheduler=instantiate(cfg.baseline.scheduler),
        seed=cfg.seed,
        trainer=arguments,
    )

"""From a configuration to an experiment: every part is built and checked before anything starts.

This module and the builders that it calls are all that read the configuration. Bad input raises here, in one
sentence that names the setting, before anything is trained or written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from pwfn.distillation import Distillation
from pwfn.experiment import validation
from pwfn.experiment.build import blaming
from pwfn.experiment.experiment import Experiment
from pwfn.experiment.exports import require_packages
from pwfn.experiment.fit import rounds_trainer, trainer_arguments, try_trainer
from pwfn.experiment.results import Measurement
from pwfn.experiment.start import baseline_of, gaussian_baseline_of
from pwfn.experiment.training import batches_of, classifier_of, fixing_of, learning_of, measurement_of, rounds_of
from pwfn.gaussian_weight import GaussianWeight
from pwfn.model import architecture
from pwfn.post_training import PostTraining
from pwfn.released import ReleasedWeight
from pwfn.rundir.files import file_digest, read_json, text_digest
from pwfn.rundir.moved import current
from pwfn.rundir.naming import config_hash, to_dict

__all__ = ["evaluated", "prepare"]

log = logging.getLogger(__name__)


def prepare(cfg: DictConfig, folder: Path) -> Experiment:
    """Build and check everything that a run needs. Nothing is written.

    Raises:
        ValueError: one sentence that names the setting to change.
    """
    asked = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    assert isinstance(asked, dict)
    validation.require({str(key): value for key, value in asked.items() if key != "hydra"})
    settings = to_dict(cfg)
    validation.check(settings)
    facts = _facts(cfg)
    _require_same(folder, facts)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    measurement = measurement_of(cfg, folder, weights=True)
    require_packages(measurement.exports)
    batches = batches_of(cfg, measurement.data)
    rounds = rounds_of(cfg, batches)
    ends = rounds.ends(batches, cfg.trainer.accumulate_grad_batches)
    learning = learning_of(cfg, measurement, rounds, ends)
    fixing = fixing_of(cfg, folder, measurement, rounds, learning)
    classifier = classifier_of(cfg, measurement, fixing, ends)
    with blaming(cfg, "logger"):
        log = instantiate(cfg.logger)
        make_logger = log(folder, settings, name=cfg.name, job_type=cfg.method.name)
    assigning = (getattr(learning, name, None) for name in ("initial", "feedback"))
    parts = (classifier.distillation, fixing.propose, *assigning)
    with blaming(cfg, "noise"):
        noise = instantiate(cfg.noise)
    arguments = trainer_arguments(settings["trainer"])
    with blaming(cfg, "trainer"):
        try_trainer(arguments)
    _warn(cfg, measurement)
    configuration = _configuration(cfg)
    return Experiment(
        folder=folder,
        facts={**facts, "config_digest": text_digest(configuration["config.yaml"])},
        configuration=configuration,
        seed=cfg.seed,
        measurement=measurement,
        baseline=baseline_of(cfg, arguments),
        classifier=classifier,
        learning=learning,
        fixing=fixing,
        make_logger=make_logger,
        make_trainer=partial(
            rounds_trainer,
            folder,
            arguments,
            callbacks=[learning, fixing],
            epochs=rounds.epochs,
            minutes=cfg.checkpoint.minutes,
        ),
        before_conversion=[part.keep for part in parts if isinstance(part, Distillation | PostTraining)],
        noise=noise,
        weight=ReleasedWeight if cfg.fixing.get("released") else GaussianWeight,
        train_gaussian=gaussian_baseline_of(cfg, classifier, arguments),
        compile=bool(cfg.trainer.compile),
    )


def evaluated(folder: Path, overrides: Sequence[str]) -> tuple[Measurement, dict[str, Any], bool]:
    """Build what is needed to measure a finished run anew, from its folder alone.

    Args:
        folder: the run directory.
        overrides: ``KEY=VALUE`` of settings to change.

    Returns:
        The measurement; the content of ``summary.json``; and whether the result is still the run's own: it is not
        where a setting was changed on which the figures depend.

    Raises:
        ValueError: if there is no finished run, or a setting does not exist.
    """
    done = read_json(folder / "summary.json")
    if done is None or done.get("status") != "finished":
        raise ValueError(f"{folder} holds no finished run to evaluate")
    missing = [name for name in Measurement.WEIGHTS if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: the run was made by an earlier version")
    cfg = OmegaConf.create(current(OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"))))
    assert isinstance(cfg, DictConfig)
    if "baseline" in cfg:
        cfg.baseline.folder = str(folder)  # what stands there only launch.py can resolve, and nothing is trained
    _require_unchanged(folder, done)
    before = _depends(cfg)
    for override in overrides:
        key, sign, _ = override.partition("=")
        if not sign or OmegaConf.select(cfg, key, default=cfg) is cfg:
            raise ValueError(f"the run has no setting {key!r}: only KEY=VALUE of its settings goes with evaluate")
        cfg.merge_with_dotlist([override])
    validation.check(to_dict(cfg))
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    measurement = measurement_of(cfg, folder, weights=False)
    measurement.model.to("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
    return measurement, done, before == _depends(cfg)


def _facts(cfg: DictConfig) -> dict[str, Any]:
    """Return what ``summary.json`` says of a run from its start."""
    names = {key: cfg[key].name for key in ("method", "model", "dataset")}
    return {"config_hash": config_hash(cfg), "seed": cfg.seed, **names}


def _require_same(folder: Path, facts: dict[str, Any]) -> None:
    """Refuse a folder that holds another run.

    Raises:
        ValueError: naming the setting to change.
    """
    previous = read_json(folder / "summary.json")
    if previous is not None and previous.get("config_hash", facts["config_hash"]) != facts["config_hash"]:
        raise ValueError(f"{folder} holds a run with another configuration: choose another hydra.run.dir, or delete it")


def _require_unchanged(folder: Path, summary: Mapping[str, Any]) -> None:
    """Refuse a run whose configuration is no longer the one that it was made with.

    Raises:
        ValueError: naming the file.
    """
    path = folder / ".hydra" / "config.yaml"
    if summary.get("config_digest", digest := file_digest(path)) != digest:
        raise ValueError(f"{path} has been changed since the run: restore it, or make a run of its own with it")


def _warn(cfg: DictConfig, measurement: Measurement) -> None:
    """Say what is not wrong and yet not what one would expect."""
    if HydraConfig.initialized():
        method = str(OmegaConf.to_container(cfg.method, resolve=False))
        overrides = HydraConfig.get().overrides.task
        unused = validation.without_effect(method, overrides, gaussian=cfg.method.gaussian)
        if unused:
            log.warning("%s plays no part in a run of method=%s", ", ".join(unused), cfg.method.name)
    reason = architecture.refusal(measurement.architecture)
    if reason is not None:
        log.warning("%s: pwfn.load(path, architecture=...) will read model.pwfn, with the network given", reason)


def _configuration(cfg: DictConfig) -> dict[str, str]:
    """Return the files that Hydra would write; the run writes them once it has been accepted."""
    files = {"config.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]))}
    if HydraConfig.initialized():
        hydra = HydraConfig.instance().cfg
        files["hydra.yaml"] = OmegaConf.to_yaml(hydra)
        files["overrides.yaml"] = OmegaConf.to_yaml(HydraConfig.get().overrides.task)
    return files


def _depends(cfg: DictConfig) -> tuple[str, Any]:
    """Return what the figures of a run depend on."""
    return config_hash(cfg), OmegaConf.to_container(cfg.get("evaluation") or OmegaConf.create())

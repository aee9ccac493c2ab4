"""One experiment, from its configuration to the files of its run directory.

The order of things: prepare (everything that bad input can break), baseline, rounds, evaluation, files.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pwfn import __version__
from pwfn.classifier import Classifier
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment import baseline, movement, results
from pwfn.experiment import logger as tracking
from pwfn.experiment.checkpoints import last_checkpoint
from pwfn.experiment.evaluation import Settings, accuracy
from pwfn.experiment.prepare import (
    Experiment,
    architecture,
    make_criterion,
    make_trainer,
    network_and_data,
    prepare,
    trainer_settings,
)
from pwfn.fixing import WeightFixing
from pwfn.gaussian import flat_weights, gaussian_weights, to_deterministic, to_gaussian
from pwfn.model.network import save_weights
from pwfn.record import Fixing
from pwfn.report import plots
from pwfn.report.console import HEADER, round_line
from pwfn.rundir import provenance
from pwfn.rundir.files import read_json, write_csv, write_json
from pwfn.rundir.moved import current
from pwfn.rundir.naming import config_hash, content_hash, to_dict

__all__ = ["Experiment", "config_hash", "evaluate", "execute", "prepare"]

PACKAGES = ("torch", "timm", "lightning", "hydra-core", "wandb")


def execute(experiment: Experiment) -> dict[str, Any]:
    """Carry a prepared run out, from where an earlier try left it.

    Returns:
        The content of ``summary.json``; of a run that is finished already, as it stands there.

    Raises:
        FloatingPointError: if training diverges; the last checkpoint stays usable.
    """
    cfg, folder = experiment.cfg, experiment.folder
    done = read_json(folder / "summary.json")
    if done is not None and done["status"] == "finished":
        return done
    facts = {"config_hash": config_hash(cfg), "seed": cfg.seed, "versions": _versions()}
    facts |= {"method": cfg.method.name, "model": cfg.model.name, "dataset": cfg.dataset.name}
    write = rank_zero_only(partial(write_json, folder / "summary.json"))
    write({"status": "running", **facts})
    rank_zero_only(provenance.record)(folder)
    try:
        summary = {"status": "finished", **facts, **_rounds(experiment)}
    except Exception as error:
        write_json(
            folder / "summary.json",
            {"status": "failed", **facts, "error": f"{type(error).__name__}: {error}"},
        )
        raise
    write(summary)
    return summary


def _rounds(experiment: Experiment) -> dict[str, Any]:
    """Baseline, rounds, evaluation, files; the figures of the summary."""
    started = time.monotonic()
    cfg, folder, model, data = experiment.cfg, experiment.folder, experiment.model, experiment.data
    _start_from_baseline(experiment)
    logger = instantiate(cfg.logger)(folder, to_dict(cfg), name=cfg.name, job_type=cfg.method.name)
    trainer = make_trainer(experiment, logger)
    model.to(trainer.strategy.root_device)
    baseline_val = accuracy(model, data.val_dataloader(), data.num_classes)
    if trainer.is_global_zero:
        save_weights(folder / "baseline.safetensors", model.state_dict(), model=cfg.model.name)
    _train_and_fix(experiment, trainer)
    final = flat_weights(model)
    sigmas = {name: sigma for name, _, w in gaussian_weights(model) if (sigma := w.deviation()) is not None}
    to_deterministic(model.eval())
    if trainer.is_global_zero:
        save_weights(folder / "model.safetensors", model.state_dict(), model=cfg.model.name)
        save_weights(folder / "sigma.safetensors", sigmas)
    trainer.strategy.barrier()
    model.to(trainer.strategy.root_device)  # fitting leaves it on the CPU
    summary = {
        "params": sum(p.numel() for p in model.parameters()),
        "params_in_scope": final.mu.numel(),
        "baseline_val_acc1": baseline_val["acc1"],
        "fixed_fraction": float(final.fixed.float().mean()),
        **_conclude(cfg, folder, model, data, write=trainer.is_global_zero),
        "wall_seconds": time.monotonic() - started,
    }
    if trainer.is_global_zero:
        tables = {name: folder / f"{name}.csv" for name in ("codebook", "layers")}
        tracking.log_files(logger, plots.draw(folder, summary), tables)
    tracking.finish(logger, summary)
    return summary


def _train_and_fix(experiment: Experiment, trainer: L.Trainer) -> None:
    """Make the network Gaussian and go through all rounds, from the last checkpoint if there is one."""
    cfg, folder, model, data = experiment.cfg, experiment.folder, experiment.model, experiment.data
    fixing = experiment.fixing
    prior = instantiate(cfg.prior) if cfg.method.gaussian else None
    to_gaussian(model, prior=prior, scope=instantiate(cfg.scope))
    penalty = instantiate(cfg.method.penalty)
    if penalty is not None:
        penalty.fixing = fixing
    classifier = Classifier(
        model,
        instantiate(cfg.optimizer),
        data.num_classes,
        criterion=make_criterion(cfg, experiment.mixup),
        mixup=experiment.mixup,
        penalty=penalty,
    )
    if cfg.trainer.compile:
        model.compile()
    fixing.evaluate = lambda net: accuracy(net, data.val_dataloader(), data.num_classes)
    fixing.listener = partial(_record, fixing=fixing, folder=folder)
    L.seed_everything(cfg.seed, workers=True, verbose=False)  # the same whether the baseline was trained or read
    trainer.print(HEADER)
    for row in fixing.rows:
        trainer.print(round_line(row))
    if fixing.rounds.epochs == 0:
        fixing.run(trainer, classifier, fixing.rounds.due(0))
        return
    try:
        trainer.fit(classifier, data, ckpt_path=last_checkpoint(folder))
    except FloatingPointError as error:
        raise FloatingPointError(f"on the way to round {len(fixing.rows)}, {error}") from error


def evaluate(folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Measure a finished run anew from its directory alone, and write its figures and plots again.

    Args:
        folder: the run directory.
        overrides: ``KEY=VALUE`` of settings to change, such as ``dataset.workers=8`` or ``evaluation.draws=[100]``.

    Returns:
        The content of ``summary.json``.

    Raises:
        ValueError: if there is no finished run, or a setting does not exist.
    """
    done = read_json(folder / "summary.json")
    if done is None or done["status"] != "finished":
        raise ValueError(f"{folder} holds no finished run to evaluate")
    missing = [name for name in results.WEIGHTS if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: the run was made by an earlier version")
    cfg = OmegaConf.create(current(OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"))))
    assert isinstance(cfg, DictConfig)
    for override in overrides:
        key, _, _ = override.partition("=")
        if OmegaConf.select(cfg, key, default=cfg) is cfg:
            raise ValueError(f"the run has no setting {key!r}: only KEY=VALUE of its settings goes with evaluate=")
        cfg.merge_with_dotlist([override])
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model, data = network_and_data(cfg, weights=False)
    model.to("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
    summary = {**done, **_conclude(cfg, folder, model, data)}
    write_json(folder / "summary.json", summary)
    plots.draw(folder)
    return summary


def _conclude(
    cfg: DictConfig, folder: Path, model: nn.Module, data: DataModule | StreamModule, *, write: bool = True
) -> dict[str, Any]:
    """Evaluation and files of the weights in ``folder``; the figures of the summary."""
    scope = instantiate(cfg.scope)
    figures = results.conclude(
        folder,
        model,
        data.test_dataloader(),
        data.num_classes,
        scope=scope,
        architecture=architecture(cfg, data.num_classes),
        prior=instantiate(cfg.prior) if cfg.method.gaussian else None,
        settings=Settings(**to_dict(cfg.get("evaluation") or OmegaConf.create())),
        write=write,
    )
    wanted = to_dict(cfg.get("export") or OmegaConf.create())
    if write and any(wanted.values()):
        example = next(iter(data.test_dataloader()))[0][:1]
        results.export(folder, model.cpu(), example, scope=scope, **wanted)
    return figures


def _record(trainer: L.Trainer, event: Fixing, *, fixing: WeightFixing, folder: Path) -> None:
    """Write, log and print a finished round."""
    if trainer.is_global_zero:
        write_csv(folder / "rounds.csv", fixing.rows)
        write_csv(folder / "clusters.csv", fixing.clusters)
        movement.record(folder / "movement.csv", int(event.row["round"]), event.before, event.after)
        tracking.log_round(trainer, event)
    trainer.print(round_line(event.row))


def _start_from_baseline(experiment: Experiment) -> None:
    cfg, model = experiment.cfg, experiment.model
    if cfg.model.checkpoint or cfg.model.pretrained:
        return
    recipe = {
        "model": to_dict(cfg.model),
        "dataset": {k: v for k, v in to_dict(cfg.dataset).items() if k != "workers"},
        "baseline": {k: v for k, v in to_dict(cfg.baseline).items() if k != "folder"},
        "seed": cfg.seed,
        "precision": cfg.trainer.precision,
    }
    name = f"{cfg.model.name}-{cfg.dataset.name}-{content_hash(recipe)}".replace("/", "_")
    baseline.train_once(
        model,
        experiment.data,
        Path(cfg.baseline.folder) / name,
        epochs=cfg.baseline.epochs,
        optimizer=instantiate(cfg.baseline.optimizer),
        scheduler=instantiate(cfg.baseline.scheduler),
        seed=cfg.seed,
        trainer=trainer_settings(cfg),
    )


def _versions() -> Mapping[str, str]:
    return {"pwfn": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}

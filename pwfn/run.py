"""One experiment, from its configuration to the files of its run directory.

The order of things: prepare (everything that bad input can break), baseline, rounds, evaluation, files.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import timm.data
import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pwfn import __version__, baseline, movement, plots, provenance, results, tracking, validation
from pwfn.checkpoints import AtomicCheckpoints, checkpointing, last_checkpoint
from pwfn.classifier import Classifier
from pwfn.console import HEADER, round_line
from pwfn.evaluation import accuracy
from pwfn.files import read_json, write_csv, write_json
from pwfn.fixing import WeightFixing
from pwfn.gaussian import gaussian_weights, to_deterministic, to_gaussian
from pwfn.interruption import environments
from pwfn.learning import GaussianLearning
from pwfn.loading import DataModule
from pwfn.naming import config_hash, content_hash, plain
from pwfn.network import create_timm, load_weights, require_head, require_logits
from pwfn.record import Fixing, flat_weights
from pwfn.streaming import Stream, StreamModule

__all__ = ["Experiment", "config_hash", "evaluate", "execute", "prepare"]

PACKAGES = ("torch", "timm", "lightning", "hydra-core", "wandb")


@dataclass
class Experiment:
    """A run that is ready to start: its input has been found and checked."""

    cfg: DictConfig
    folder: Path
    model: nn.Module
    data: DataModule | StreamModule
    fixing: WeightFixing
    learning: GaussianLearning


def prepare(cfg: DictConfig, folder: Path) -> Experiment:
    """Build and check everything that a run needs before anything is written or trained.

    Raises:
        ValueError: one sentence that names the setting to change.
    """
    validation.check(cfg)
    previous = read_json(folder / "summary.json")
    if previous is not None and previous.get("config_hash") != config_hash(cfg):
        raise ValueError(f"{folder} holds a run with another configuration: choose another hydra.run.dir, or delete it")
    rounds = instantiate(cfg.method.rounds)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model, data = _network_and_data(cfg)
    batches = max(1, len(data.train_dataloader()) // _ranks(cfg))
    one_batch = min(1.0, 1.001 / batches)  # Lightning rounds a share of the batches down
    rounds = replace(
        rounds,
        first_fraction=max(one_batch, rounds.first_fraction),
        rest_fraction=max(one_batch, rounds.rest_fraction),
    )
    assign = instantiate(cfg.method.assign)
    for t in range(len(rounds)):  # settings out of range show on a small clustering, now and not hours later
        assign(torch.tensor([0.3, 0.5, 0.0]), torch.full((3,), 0.01), 1.0, round=t, rounds=len(rounds))
    fixing = WeightFixing(
        rounds,
        assign=assign,
        join=instantiate(cfg.sigma_join),
        recluster=cfg.fixing.recluster,
    )
    learning = GaussianLearning(
        rounds,
        regulariser=instantiate(cfg.regulariser.pull),
        weight=cfg.regulariser.weight,
        biases=cfg.regulariser.biases,
        schedule=cfg.fixing.schedule,
        first_schedule=cfg.fixing.first_schedule,
    )
    return Experiment(cfg, folder, model, data, fixing, learning)


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
    cfg, folder, model, data, fixing = (
        experiment.cfg,
        experiment.folder,
        experiment.model,
        experiment.data,
        experiment.fixing,
    )
    _start_from_baseline(experiment)
    measure = partial(accuracy, num_classes=data.num_classes)
    logger = instantiate(cfg.logger)(folder, plain(cfg), name=cfg.name, job_type=cfg.method.name)
    trainer = _trainer(cfg, folder, fixing, experiment.learning, logger)
    model.to(trainer.strategy.root_device)
    baseline_val = measure(model, data.val_dataloader())
    if trainer.is_global_zero:
        results.save_weights(folder / "baseline.safetensors", model.state_dict(), model=cfg.model.name)
    prior = instantiate(cfg.prior) if cfg.method.gaussian else None
    to_gaussian(model, prior=prior, scope=instantiate(cfg.scope))
    mixup = _mixup(cfg, data.num_classes)
    penalty = instantiate(cfg.method.penalty)
    if penalty is not None:
        penalty.fixing = fixing
    classifier = Classifier(model, instantiate(cfg.optimizer), data.num_classes, mixup=mixup, penalty=penalty)
    if cfg.trainer.compile:
        model.compile()
    fixing.evaluate = lambda net: measure(net, data.val_dataloader())
    fixing.listener = partial(_record, fixing=fixing, folder=folder)
    L.seed_everything(cfg.seed, workers=True, verbose=False)  # the same whether the baseline was trained or read
    trainer.print(HEADER)
    for row in fixing.rows:
        trainer.print(round_line(row))
    if fixing.rounds.epochs > 0:
        trainer.fit(classifier, data, ckpt_path=last_checkpoint(folder))
    else:
        fixing.run(trainer, classifier, fixing.rounds.due(0))
    final = flat_weights(model)
    sigmas = {name: sigma for name, _, w in gaussian_weights(model) if (sigma := w.deviation()) is not None}
    to_deterministic(model.eval())
    if trainer.is_global_zero:
        results.save_weights(folder / "model.safetensors", model.state_dict(), model=cfg.model.name)
        results.save_weights(folder / "sigma.safetensors", sigmas)
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
    cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
    assert isinstance(cfg, DictConfig)
    for override in overrides:
        key, _, _ = override.partition("=")
        if OmegaConf.select(cfg, key, default=cfg) is cfg:
            raise ValueError(f"the run has no setting {key!r}: only KEY=VALUE of its settings goes with evaluate=")
        cfg.merge_with_dotlist([override])
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model, data = _network_and_data(cfg, weights=False)
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
        architecture=_architecture(cfg, data.num_classes),
        prior=instantiate(cfg.prior) if cfg.method.gaussian else None,
        settings=results.Settings(**plain(cfg.get("evaluation") or OmegaConf.create())),
        write=write,
    )
    wanted = plain(cfg.get("export") or OmegaConf.create())
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
        "model": plain(cfg.model),
        "dataset": {k: v for k, v in plain(cfg.dataset).items() if k != "workers"},
        "baseline": {k: v for k, v in plain(cfg.baseline).items() if k != "folder"},
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
        trainer=_trainer_settings(cfg),
    )


def _network_and_data(cfg: DictConfig, *, weights: bool = True) -> tuple[nn.Module, DataModule | StreamModule]:
    images = instantiate(cfg.dataset.source)()
    first = images if isinstance(images, Stream) else images[0]
    num_classes = cfg.dataset.num_classes or first.num_classes
    model = _network(cfg, num_classes) if weights else _build(cfg, num_classes)
    config = {
        **timm.data.resolve_model_data_config(model),
        **plain(cfg.dataset.get("data_config") or OmegaConf.create()),
    }
    require_logits(model, config["input_size"], num_classes)
    return model, _data(cfg, images, num_classes, config)


def _architecture(cfg: DictConfig, num_classes: int) -> dict[str, Any]:
    """The network of ``cfg.model`` without weights, as :mod:`pwfn.architecture` describes it."""
    settings = cfg.model
    kwargs = {"num_classes": num_classes, **plain(settings.kwargs)}
    if settings._target_ != "timm.create_model":
        return {"_target_": settings._target_, "kwargs": kwargs}
    channels = cfg.dataset.data_config.get("input_size", [3])[0]
    return {"name": settings.name, "kwargs": {"in_chans": channels, **kwargs}}


def _build(cfg: DictConfig, num_classes: int, *, pretrained: bool = False) -> nn.Module:
    description = _architecture(cfg, num_classes)
    if "name" in description:
        return create_timm(description["name"], pretrained=pretrained, **description["kwargs"])
    return instantiate({"_target_": description["_target_"], **description["kwargs"]})


def _network(cfg: DictConfig, num_classes: int) -> nn.Module:
    """The network of ``cfg.model``, with the weights that it names."""
    settings = cfg.model
    model = _build(cfg, num_classes, pretrained=settings.pretrained and not settings.checkpoint)
    if settings.checkpoint:
        load_weights(model, settings.checkpoint)
    elif settings.pretrained:
        require_head(model, num_classes)
    elif cfg.baseline.epochs < 1:
        raise ValueError(
            "the network has no trained weights: set model.pretrained=true, model.checkpoint or baseline.epochs"
        )
    return model


def _data(cfg: DictConfig, images: Any, num_classes: int, data_config: dict[str, Any]) -> DataModule | StreamModule:
    settings = cfg.dataset
    streamed = isinstance(images, Stream)
    if streamed and (settings.limit or settings.randomise):
        raise ValueError("a stream has no subsets and no randomisation: leave dataset.limit, dataset.randomise null")
    own = ("batch_size", "eval_batch_size", "workers", *(() if streamed else ("val_fraction", "limit", "randomise")))
    return (StreamModule if streamed else DataModule)(
        images,
        num_classes,
        data_config,
        seed=cfg.seed,
        augmentation=plain(settings.augmentation),
        train_transform=instantiate(settings.train_transform),
        **{name: settings[name] for name in own},
    )


def _mixup(cfg: DictConfig, num_classes: int) -> Any:
    """timm's Mixup and CutMix for training batches, where ``dataset.mixup`` gives one of them an alpha."""
    settings = cfg.dataset.get("mixup")
    if settings is None or not (settings.mixup_alpha or settings.cutmix_alpha):
        return None
    return instantiate(settings, num_classes=num_classes)


def _trainer(cfg: DictConfig, folder: Path, fixing: WeightFixing, learning: L.Callback, logger: Any) -> L.Trainer:
    return L.Trainer(
        **_trainer_settings(cfg),
        max_epochs=fixing.rounds.epochs,
        limit_val_batches=0,  # the fixing callback measures, before and after each round
        reload_dataloaders_every_n_epochs=1,  # epochs differ in length
        callbacks=[learning, fixing, *checkpointing(folder, cfg.checkpoint.minutes)],
        plugins=[AtomicCheckpoints(), *environments()],
        logger=logger,
    )


def _trainer_settings(cfg: DictConfig) -> dict[str, Any]:
    settings = {name: value for name, value in plain(cfg.trainer).items() if name != "compile"}
    return {**settings, "default_root_dir": None, "use_distributed_sampler": False, "num_sanity_val_steps": 0}


def _ranks(cfg: DictConfig) -> int:
    """Processes of a data-parallel run, as far as the configuration tells."""
    devices = cfg.trainer.devices
    if not isinstance(devices, int):  # a list, "auto", "0,2"
        devices = torch.cuda.device_count() if devices == "auto" else len(str(devices).split(","))
    return cfg.trainer.num_nodes * max(1, devices if devices > 0 else torch.cuda.device_count())


def _versions() -> Mapping[str, str]:
    return {"pwfn": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}

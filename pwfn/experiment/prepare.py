"""An experiment from its configuration: network, data, callbacks, trainer; built and checked, nothing trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import timm.data
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import Stream, StreamModule
from pwfn.experiment import validation
from pwfn.experiment.checkpoints import AtomicCheckpoints, checkpointing
from pwfn.experiment.interruption import environments
from pwfn.fixing import WeightFixing
from pwfn.learning import GaussianLearning
from pwfn.model.network import create_timm, load_weights, require_head, require_logits
from pwfn.rundir.files import read_json
from pwfn.rundir.naming import config_hash, to_dict

__all__ = [
    "Experiment",
    "architecture",
    "make_criterion",
    "make_mixup",
    "make_trainer",
    "network_and_data",
    "prepare",
    "trainer_settings",
]

OURS = ("compile", "channels_last")
"""Settings of the group ``trainer`` that are no arguments of ``lightning.Trainer``."""


@dataclass
class Experiment:
    """A run that is ready to start: its input has been found and checked."""

    cfg: DictConfig
    folder: Path
    model: nn.Module
    data: DataModule | StreamModule
    mixup: Any
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
    model, data = network_and_data(cfg)
    mixup = make_mixup(cfg, data.num_classes)
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
        per_tensor=cfg.method.get("per_tensor", False),
    )
    learning = GaussianLearning(
        rounds,
        regulariser=instantiate(cfg.regulariser.pull),
        weight=cfg.regulariser.weight,
        biases=cfg.regulariser.biases,
        schedule=cfg.fixing.schedule,
        first_schedule=cfg.fixing.first_schedule,
    )
    return Experiment(cfg, folder, model, data, mixup, fixing, learning)


def network_and_data(cfg: DictConfig, *, weights: bool = True) -> tuple[nn.Module, DataModule | StreamModule]:
    """The configured network, with its starting weights if ``weights``, and the data that fits it."""
    images = instantiate(cfg.dataset.source)()
    first = images if isinstance(images, Stream) else images[0]
    num_classes = cfg.dataset.num_classes or first.num_classes
    model = _network(cfg, num_classes) if weights else _build(cfg, num_classes)
    config = {
        **timm.data.resolve_model_data_config(model),
        **to_dict(cfg.dataset.get("data_config") or OmegaConf.create()),
    }
    require_logits(model, config["input_size"], num_classes)
    if cfg.trainer.get("channels_last"):
        model.to(memory_format=torch.channels_last)
    return model, _data(cfg, images, num_classes, config)


def architecture(cfg: DictConfig, num_classes: int) -> dict[str, Any]:
    """The network of ``cfg.model`` without weights, as :mod:`pwfn.model.architecture` describes it."""
    settings = cfg.model
    kwargs = {"num_classes": num_classes, **to_dict(settings.kwargs)}
    if settings._target_ != "timm.create_model":
        return {"_target_": settings._target_, "kwargs": kwargs}
    channels = cfg.dataset.data_config.get("input_size", [3])[0]
    return {"name": settings.name, "kwargs": {"in_chans": channels, **kwargs}}


def _build(cfg: DictConfig, num_classes: int, *, pretrained: bool = False) -> nn.Module:
    description = architecture(cfg, num_classes)
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
        augmentation=to_dict(settings.augmentation),
        train_transform=instantiate(settings.train_transform),
        **{name: settings[name] for name in own},
    )


def make_mixup(cfg: DictConfig, num_classes: int) -> Any:
    """timm's Mixup and CutMix for training batches, where ``dataset.mixup`` gives one of them an alpha.

    Raises:
        ValueError: if a batch cannot be mixed with itself reversed.
    """
    settings = to_dict(cfg.dataset.get("mixup") or OmegaConf.create())
    if not any(settings.get(name) for name in ("mixup_alpha", "cutmix_alpha", "cutmix_minmax")):
        return None
    if cfg.dataset.batch_size % 2:
        raise ValueError(f"dataset.batch_size must be even for dataset.mixup, got {cfg.dataset.batch_size}")
    return instantiate({"_target_": "timm.data.Mixup", **settings}, num_classes=num_classes)


def make_criterion(cfg: DictConfig, mixup: Any) -> nn.Module:
    """Cross-entropy; smooths labels as ``dataset.mixup.label_smoothing`` says where ``mixup`` has not done so."""
    smoothing = 0.0 if mixup is not None else (cfg.dataset.get("mixup") or {}).get("label_smoothing") or 0.0
    return nn.CrossEntropyLoss(label_smoothing=smoothing)


def make_trainer(experiment: Experiment, logger: Any) -> L.Trainer:
    """The trainer of the rounds: resumable, one fit for all of them."""
    cfg, fixing = experiment.cfg, experiment.fixing
    keep = checkpointing(experiment.folder, cfg.checkpoint.minutes)
    return L.Trainer(
        **trainer_settings(cfg),
        max_epochs=fixing.rounds.epochs,
        limit_val_batches=0,  # the fixing callback measures, before and after each round
        reload_dataloaders_every_n_epochs=1,  # epochs differ in length
        callbacks=[experiment.learning, fixing, *keep],
        plugins=[AtomicCheckpoints(), *environments()],
        logger=logger,
    )


def trainer_settings(cfg: DictConfig) -> dict[str, Any]:
    """The arguments of ``lightning.Trainer`` that every training of the run shares."""
    settings = {name: value for name, value in to_dict(cfg.trainer).items() if name not in OURS}
    return {**settings, "default_root_dir": None, "use_distributed_sampler": False, "num_sanity_val_steps": 0}


def _ranks(cfg: DictConfig) -> int:
    """Processes of a data-parallel run, as far as the configuration tells."""
    devices = cfg.trainer.devices
    if not isinstance(devices, int):  # a list, "auto", "0,2"
        devices = torch.cuda.device_count() if devices == "auto" else len(str(devices).split(","))
    return cfg.trainer.num_nodes * max(1, devices if devices > 0 else torch.cuda.device_count())

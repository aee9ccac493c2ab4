"""The network and the data of a configuration, and the message when a part cannot be built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm.data
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import Stream, StreamModule
from pwfn.model import arguments
from pwfn.model.network import create_timm, load_weights, require_head, require_logits
from pwfn.rundir.naming import to_dict

__all__ = ["blaming", "data_config_of", "mixing", "network_and_data", "network_of", "sentence"]

UNFIT: tuple[type[Exception], ...] = (
    *(AssertionError, ImportError, InstantiationException, LookupError, MisconfigurationException),
    *(RuntimeError, TypeError, ValueError),
)
"""What libraries raise at an argument that does not fit."""


def network_and_data(
    cfg: DictConfig, *, weights: bool = True
) -> tuple[nn.Module, dict[str, Any], DataModule | StreamModule]:
    """Build the configured network, with its starting weights if ``weights``, and the data that fits it.

    Returns:
        The network; its description for ``model.pwfn``, see :mod:`pwfn.model.architecture`; the data.

    Raises:
        ValueError: one sentence that names the setting to change.
    """
    with blaming(cfg, "dataset"):
        images = instantiate(cfg.dataset.source)()
    first = images if isinstance(images, Stream) else images[0]
    num_classes = cfg.dataset.num_classes or first.num_classes
    model, architecture = network_of(cfg, cfg.model, num_classes, weights=weights)
    config = data_config_of(cfg, model)
    require_logits(model, config["input_size"], num_classes)
    if cfg.trainer.get("channels_last"):
        model.to(memory_format=torch.channels_last)
    with blaming(cfg, "dataset"):
        data = _data(cfg, images, num_classes, config)
    return model, architecture, data


def mixing(cfg: DictConfig, num_classes: int) -> tuple[Any, nn.Module]:
    """Build timm's Mixup and CutMix for training batches, or None, and the training loss that goes with it.

    The loss is the cross-entropy. It smooths labels as ``dataset.mixup.label_smoothing`` says, unless the mixing
    has done so.

    Raises:
        ValueError: if a batch cannot be mixed with itself reversed.
    """
    settings = to_dict(cfg.dataset.get("mixup") or OmegaConf.create())
    if not any(settings.get(name) for name in ("mixup_alpha", "cutmix_alpha", "cutmix_minmax")):
        return None, nn.CrossEntropyLoss(label_smoothing=settings.get("label_smoothing") or 0.0)
    if cfg.dataset.batch_size % 2:
        raise ValueError(f"dataset.batch_size must be even for dataset.mixup, got {cfg.dataset.batch_size}")
    return instantiate({"_target_": "timm.data.Mixup", **settings}, num_classes=num_classes), nn.CrossEntropyLoss()


def data_config_of(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Return what the images of a network are like: as in its training, but for what ``dataset.data_config`` says.

    Returns:
        ``input_size``, ``mean``, ``std`` and so on, see ``timm.data.resolve_model_data_config``.
    """
    own = timm.data.resolve_model_data_config(model)
    return {**own, **to_dict(cfg.dataset.get("data_config") or OmegaConf.create())}


def network_of(
    cfg: DictConfig, settings: DictConfig, num_classes: int, *, weights: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """Build one network, with the weights that its settings name if ``weights``.

    Args:
        cfg: the configuration.
        settings: an option of the group ``model``.
        num_classes: width of the logits.
        weights: whether the network starts with the weights named there.

    Returns:
        The network, and its description for ``model.pwfn``.

    Raises:
        ValueError: one sentence that names the setting to change, as one of ``model``.
    """
    kwargs = {"num_classes": num_classes, **to_dict(settings.kwargs)}
    wrong = [name for name in arguments.refused(kwargs) if name in arguments.RULES]
    if wrong:
        raise ValueError(f"model.kwargs.{wrong[0]}={kwargs[wrong[0]]} is no value that networks take")
    if settings._target_ == "timm.create_model":
        kwargs = {"in_chans": cfg.dataset.data_config.get("input_size", [3])[0], **kwargs}
        model = create_timm(
            settings.name, pretrained=weights and settings.pretrained and not settings.checkpoint, **kwargs
        )
        architecture = {"name": settings.name, "kwargs": kwargs}
    else:
        if weights and settings.pretrained and not settings.checkpoint:
            raise ValueError(
                f"model.pretrained=true gives {settings._target_} no weights: set model.checkpoint, or "
                "model.pretrained=false to train the starting network first"
            )
        with blaming(cfg, "model"):
            model = instantiate({"_target_": settings._target_, **kwargs})
        architecture = {"_target_": settings._target_, "kwargs": kwargs}
    if not weights:
        return model, architecture
    if settings.checkpoint:
        load_weights(model, settings.checkpoint)
    elif settings.pretrained:
        require_head(model, num_classes)
    elif cfg.baseline.epochs < 1:
        raise ValueError(
            "the network has no trained weights: set model.pretrained=true, model.checkpoint or baseline.epochs"
        )
    return model, architecture


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


@contextmanager
def blaming(cfg: DictConfig, group: str) -> Iterator[None]:
    """Name the configuration group in what a library says of one of its arguments.

    Raises:
        ValueError: ``group.argument must ...`` where the block raised ``argument must ...`` and the group has such
            a setting; the message as it is where it names the group already; else ``group: message``.
    """
    try:
        yield
    except UNFIT as error:
        message, known = sentence(error), OmegaConf.select(cfg, group) or {}
        if message.split(" ")[0] in known:
            message = f"{group}.{message}"
        raise ValueError(message if f"{group}." in message else f"{group}: {message}") from error


def sentence(error: BaseException) -> str:
    """Say what was wrong, in at most three lines: without what lies around it, and what a loader worker adds."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].startswith("Caught "):  # torch hands a worker's error on as text, its traceback included
        lines = [lines[-1].partition(": ")[2] or lines[-1]]
    if isinstance(error, KeyError):
        lines[0] = f"there is no {lines[0]}"
    return "\n".join(lines[:3])

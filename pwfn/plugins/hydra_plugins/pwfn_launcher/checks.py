"""What the launching machine finds wrong with a run before it is started: its settings, and what it will read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

__all__ = ["check", "missing_input", "require"]

FETCHED = ("hfds", "hfids", "tfds")
"""Prefixes of timm's datasets that are downloaded where they are missing."""


def require(cfg: DictConfig) -> None:
    """Refuse a configuration, its interpolations not resolved, in which mandatory settings have no value.

    Raises:
        ValueError: naming all of them as they are to be typed.
    """
    from pwfn.experiment import validation

    validation.require(_settings(cfg))


def check(cfg: DictConfig) -> None:
    """Refuse a run that would end at once in its job, by its settings or for want of what it reads.

    Args:
        cfg: its configuration, interpolations resolved.

    Raises:
        ValueError: one sentence that names the setting to change.
    """
    from pwfn.experiment import validation

    validation.check(_settings(cfg))
    if (sentence := missing_input(cfg)) is not None:
        raise ValueError(sentence)


def _settings(cfg: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key != "hydra"}


def missing_input(cfg: DictConfig) -> str | None:
    """A sentence on the first file or folder that a run will read and that is not there; None if all are."""
    from pwfn.rundir.unset import ask_for

    source = OmegaConf.select(cfg, "dataset.source") or {}
    for below in _read(source):
        if source.get("root") is None:
            return ask_for(["dataset.root"])
        if "://" not in str(source["root"]) and not Path(source["root"], below).expanduser().exists():
            return f"dataset.root={source['root']}: there is no {Path(source['root'], below)} on this machine"
    for key in ("model.checkpoint", "distillation.teacher.checkpoint"):
        weights = OmegaConf.select(cfg, key)
        if weights and not Path(weights).expanduser().is_file():
            return f"{key}={weights}: there is no such file on this machine"
    return None


def _read(source: Mapping[str, Any]) -> Iterator[str]:
    """What a source of :mod:`pwfn.dataset` reads below its root and does not download."""
    match str(source.get("_target_")).removeprefix("pwfn.dataset."):
        case "sources.folder":
            yield from (source.get("train", "train"), source.get("test", "val"))
        case "sources.mnist_10k":
            yield from ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
        case "sources.torchvision_dataset":
            yield from () if source.get("download", True) else ("",)
        case "sources.timm_dataset" | "streaming.stream":
            fetched = source["name"].partition("/")[0].lower() in FETCHED or source.get("download", False)
            yield from () if fetched else ("",)

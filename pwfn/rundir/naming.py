"""Names that follow from a configuration: its hash, and the folders of runs and sweeps."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from pwfn.rundir.files import read_json, write_json

__all__ = [
    "COSMETIC",
    "config_hash",
    "content_hash",
    "interpolated",
    "label",
    "run_name",
    "sweep_name",
    "swept_keys",
    "to_dict",
]

COSMETIC = (
    "logger",
    "checkpoint",
    "evaluation",
    "export",
    "name",
    "objective",
    "baseline.folder",
    "dataset.workers",
    "trainer.enable_progress_bar",
)
"""Settings that do not change a run's result; they are no part of its hash."""

LONGEST = 80


def to_dict(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as dictionaries and lists, interpolations resolved, Hydra's own part left out."""
    content = {}
    for key in cfg:
        if key != "hydra":
            value = "???" if OmegaConf.is_missing(cfg, key) else cfg[key]
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True, enum_to_str=True)
            content[str(key)] = value
    return content


def interpolated(settings: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Resolve the interpolations at some dotted keys; None for those that need the process that ran."""
    values: dict[str, Any] = dict.fromkeys(keys)
    config = OmegaConf.create(settings)
    for key in values:
        with suppress(OmegaConfBaseException):
            values[key] = OmegaConf.select(config, key)
    return values


def config_hash(cfg: DictConfig) -> str:
    """Return twelve hex digits that name a resolved configuration, cosmetic settings left out."""
    content = to_dict(cfg)
    for key in COSMETIC:
        *parents, name = key.split(".")
        node: Any = content
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(name, None)
    return content_hash(content)


def content_hash(content: Any) -> str:
    """Return twelve hex digits that name a value that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def run_name(cfg: DictConfig, keys: Collection[str] = ()) -> str:
    """Name the folder of a run in its sweep by what was asked for and the configuration's hash.

    At most 80 letters, digits, ``.``, ``-`` and ``_``; the same whenever the same configuration is run.

    Args:
        cfg: the composed configuration with Hydra's part.
        keys: what to tell; all that was asked for if empty.
    """
    asked = [(key, value) for key, value in map(_split, _task(cfg)) if not keys or key in keys]
    words = [f"{key.rpartition('.')[2]}-{value}" for key, value in asked]
    return _slug(words, config_hash(cfg))


def swept_keys(cfg: DictConfig) -> list[str]:
    """Return the keys that a sweep varies, from its composed configuration before it is taken apart into runs."""
    params = OmegaConf.select(cfg, "hydra.sweeper.params") or {}
    values = {key: re.sub(r"\[.*?\]|{.*?}", "", value) for key, value in map(_split, _task(cfg))}
    return [*params, *(key for key, value in values.items() if re.search(r"[,(]", value) and key not in params)]


def sweep_name(cfg: DictConfig) -> str:
    """Name the folder of a sweep: the name of its file, or for one typed by hand the swept keys and a hash of all.

    Args:
        cfg: as of :func:`swept_keys`.
    """
    chosen = cfg.hydra.runtime.choices.get("sweeps")
    if chosen not in (None, "null"):
        return str(chosen).replace("/", "-")
    return _slug((key.rpartition(".")[2] for key in swept_keys(cfg)), content_hash(sorted(_task(cfg))))


def label(folder: Path, sweep: DictConfig, runs: Sequence[DictConfig]) -> None:
    """Group a sweep's runs in W&B by its name and its first day, and tag each with what tells it from the others.

    Args:
        folder: of the sweep; it remembers the day.
        sweep: the sweep's composed configuration, with Hydra's part.
        runs: those of its runs, changed in place.
    """
    born = read_json(folder / "sweep.json")
    if born is None:
        born = {"name": sweep_name(sweep), "date": date.today().isoformat()}
        write_json(folder / "sweep.json", born)
    varied = swept_keys(sweep)
    for run in runs:
        if "group" in run.logger:
            with read_write(run):
                run.logger.group = run.logger.group or f"{born['name']} {born['date']}"
                own = [o for o in run.hydra.overrides.task if _split(o.lstrip("+~"))[0] in varied]
                run.logger.tags = [*run.logger.tags, *own]


def _task(cfg: DictConfig) -> list[str]:
    """Return the overrides that a run was asked for, without those that do not change its result."""
    overrides = [str(override).lstrip("+~") for override in cfg.hydra.overrides.task]
    return [o for o in overrides if not any(_sets(o, key) for key in ("sweeps", *COSMETIC))]


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value


def _sets(override: str, key: str) -> bool:
    return override.startswith((f"{key}=", f"{key}.", f"{key}@"))


def _slug(words: Iterable[str], digits: str) -> str:
    """Join words by ``_`` with all but letters, digits and dots replaced, cut to leave room for ``digits``."""
    clean = [re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-.") for word in words]
    text = "_".join(word for word in clean if word)[: LONGEST - len(digits) - 1].rstrip("-_.")
    return f"{text}_{digits}" if text else digits

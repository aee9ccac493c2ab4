"""Composing the runs of a sweep in a tenth of Hydra's time, with the same configurations.

Hydra composes each run twice, once to check it and once to start it, from the files up each time.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

__all__ = ["Compositions", "freeze"]

PLAIN = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)=")
"""Overrides that set one value, unless the key is a config group."""


class Compositions:
    """Stands in for a loader's ``load_sweep_config``.

    A run that was composed already, for the sweeper's check, is handed out without composing it again. A run that
    differs from one before it in plain values alone is a copy of that one's configuration with these values.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self.loader = loader
        self.checked: dict[tuple[str, ...], DictConfig] = {}
        self.models: dict[tuple[str, ...], tuple[list[str], DictConfig]] = {}

    def __call__(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of a run; as of Hydra's ``load_sweep_config``."""
        point = tuple(sweep_overrides)
        if point in self.checked:
            return self.checked.pop(point)
        kind = tuple(text if self._key(text) is None else str(self._key(text)) for text in point)
        if kind in self.models and self._independent(kind):
            cfg = self._changed(*self.models[kind], point)
        else:
            cfg = type(self.loader).load_sweep_config(self.loader, master_config, list(point))
            self.models[kind] = list(point), copy.deepcopy(cfg)
        self.checked[point] = cfg
        return cfg

    def _key(self, text: str) -> str | None:
        """The key that an override gives a plain value; None for other overrides."""
        match = PLAIN.match(text)
        if match is None or match[1].split(".")[0] == "hydra" or _is_group(self.loader, match[1]):
            return None
        return match[1]

    def _independent(self, kind: Sequence[str]) -> bool:
        """Whether the order in which values are set does not matter: no key is set twice, or inside another."""
        keys = [re.split(r"[=@]", text.lstrip("+~"))[0] for text in kind]
        return not any(
            a == b or b.startswith(f"{a}.") for i, a in enumerate(keys) for j, b in enumerate(keys) if i != j
        )

    def _changed(self, before: Sequence[str], model: DictConfig, point: Sequence[str]) -> DictConfig:
        cfg = copy.deepcopy(model)
        new = [_parsed(text) for old, text in zip(before, point, strict=True) if text != old]
        self.loader._apply_overrides_to_config(new, cfg)
        task = [override for override in map(_parsed, point) if not override.is_hydra_override()]
        with open_dict(cfg.hydra):
            names = cfg.hydra.job.config.override_dirname
            cfg.hydra.overrides.task = [override.input_line for override in task]
            cfg.hydra.job.override_dirname = get_overrides_dirname(
                task,
                kv_sep=names.kv_sep,
                item_sep=names.item_sep,
                exclude_keys=[str(key) for key in names.exclude_keys],
            )
        return cfg


def freeze(cfg: DictConfig, sweep: Path, number: int, keys: Sequence[str]) -> None:
    """Resolve a run's composed configuration, and enter its folder: nothing is looked up when the job starts.

    Args:
        cfg: changed in place.
        sweep: the folder of its sweep.
        number: of the run in the sweep.
        keys: what the folder's name tells.
    """
    from pwfn.rundir.naming import run_name

    with read_write(cfg), open_dict(cfg):
        for key in [str(key) for key in cfg if key != "hydra"]:
            if OmegaConf.is_interpolation(cfg, key):
                cfg[key] = cfg[key]
            if OmegaConf.is_config(cfg._get_node(key)):
                OmegaConf.resolve(cfg[key])
        cfg.hydra.sweep.subdir = run_name(cfg, keys)
        cfg.hydra.sweep.dir = str(sweep)
        cfg.hydra.job.num = number


@cache
def _parsed(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


@cache
def _is_group(loader: ConfigLoaderImpl, key: str) -> bool:
    return bool(loader.repository.group_exists(key))

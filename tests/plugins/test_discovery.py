"""What Hydra sees when it looks for plugins, before every run."""

from __future__ import annotations

import importlib
import pkgutil
from types import GenericAlias

import hydra_plugins.pwfn_launcher
import hydra_plugins.pwfn_optuna


def test_no_name_is_a_generic_type() -> None:
    """Python 3.10 calls ``list[int]`` a class, of which Hydra then asks in vain whether it is a plugin."""
    packages = (hydra_plugins.pwfn_launcher, hydra_plugins.pwfn_optuna)
    names = [f"{p.__name__}.{m.name}" for p in packages for m in pkgutil.iter_modules(p.__path__)]
    assert len(names) > 8
    found = [(n, key) for n in names for key, v in vars(importlib.import_module(n)).items() if type(v) is GenericAlias]
    assert found == []

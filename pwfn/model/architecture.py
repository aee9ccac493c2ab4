"""How to rebuild a network from a few words in a file, without ever running code that the file brings."""

from __future__ import annotations

import importlib
import inspect
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import timm
from torch import nn

from pwfn.rundir.moved import current_path

__all__ = ["ALLOW", "build", "check"]

ALLOW = ("timm", "torchvision", "pwfn")

# Keywords by which a constructor fetches or unpickles weights; a file has its own weights.
_WEIGHT_SOURCES = ("pretrained", "checkpoint", "weights", "cache_dir", "state_dict")
# Functions that return a module but read it from a file or a hub that their arguments name.
_LOADERS = ("timm.models._factory.create_model", "pwfn.artifact.file.load")


def check(architecture: Mapping[str, Any]) -> None:
    """Accept ``{"name": timm name, "kwargs": {...}}`` or ``{"_target_": "package.Class", "kwargs": {...}}``.

    Raises:
        ValueError: for any other form, arguments that are not JSON, or arguments that fetch weights.
    """
    if not isinstance(architecture, Mapping):
        raise ValueError(f"an architecture is a dict, not {type(architecture).__name__}")
    keys = set(architecture)
    if keys - {"kwargs"} not in ({"name"}, {"_target_"}):
        raise ValueError(f"an architecture has 'name' or '_target_', and 'kwargs'; not {sorted(keys)}")
    name, kwargs = architecture.get("name", architecture.get("_target_")), architecture.get("kwargs", {})
    if not isinstance(name, str) or not isinstance(kwargs, Mapping):
        raise ValueError(f"an architecture is a string and a dict of arguments, not {dict(architecture)}")
    fetching = [key for key, value in kwargs.items() if value and key.startswith(_WEIGHT_SOURCES)]
    if fetching:
        raise ValueError(f"an architecture must not fetch weights: {name} asks for {fetching}")
    try:
        json.dumps(dict(architecture))
    except TypeError as error:
        raise ValueError(f"the arguments of {name} cannot be written as JSON: {error}") from error


def build(architecture: Mapping[str, Any], allow: Sequence[str] = ALLOW) -> nn.Module:
    """Build the network that ``architecture`` describes, with fresh weights.

    Args:
        architecture: see :func:`check`. A ``name`` must be one of timm's own (no hub, no folder). A
            ``_target_`` must be an attribute of an importable module, defined in an allowed package, and a
            subclass of ``nn.Module`` or a function annotated as returning one.
        allow: import-path prefixes (whole components) that a ``_target_`` may have.

    Raises:
        ValueError: if the description is refused, or the network cannot be built from it.
    """
    check(architecture)
    kwargs = dict(architecture.get("kwargs", {}))
    if "_target_" in architecture:
        factory = _resolve(current_path(architecture["_target_"]), allow)
    else:
        name = architecture["name"]
        if not timm.is_model(name):
            raise ValueError(f"this timm ({timm.__version__}) has no model {name!r}")
        factory, kwargs = timm.create_model, {"model_name": name, "pretrained": False, **kwargs}
    try:
        network = factory(**kwargs)
    except Exception as error:  # a constructor may raise anything on arguments that it does not know
        raise ValueError(f"the network cannot be built from {dict(architecture)}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{dict(architecture)} does not describe a torch module")
    return network


def _allowed(path: str, allow: Sequence[str]) -> bool:
    return any(path == prefix or path.startswith(prefix + ".") for prefix in allow)


def _resolve(target: str, allow: Sequence[str]) -> typing.Callable[..., nn.Module]:
    """Import ``target``; refuse it unless it is defined in an allowed package and makes modules."""
    if not _allowed(target, allow):
        raise ValueError(f"refused to import {target!r}: only {', '.join(allow)} are allowed")
    module, _, attribute = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {target!r}: {error}") from error
    # A module of an allowed package also shows the names that it imported itself (os, pickle, ...).
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if not _allowed(home, allow) or home in _LOADERS or not _makes_modules(found):
        raise ValueError(f"refused to call {target!r}: it is no network defined in {', '.join(allow)}")
    return found


def _makes_modules(found: Any) -> bool:
    """Whether ``found`` is a module class, or a function whose annotation promises a module."""
    if not inspect.isfunction(found):
        return inspect.isclass(found) and issubclass(found, nn.Module)
    try:
        made = typing.get_type_hints(found).get("return")
    except NameError:  # an annotation that names something unknown promises nothing
        return False
    return inspect.isclass(made) and issubclass(made, nn.Module)

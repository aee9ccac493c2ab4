"""How to rebuild a network from a few words in a file: the words are data and choose from closed lists.

A file names a network of timm's registry, or one of the table below, with arguments of
:mod:`pwfn.model.arguments`. Nothing is imported because a file says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pwfn.model import cifar_resnet
from pwfn.model.arguments import refused
from pwfn.rundir.moved import current_path

__all__ = ["TABLE", "build", "check", "refusal"]

TABLE: dict[str, tuple[Callable[..., nn.Module], dict[str, int]]] = {
    **{name: (getattr(cifar_resnet, name), {}) for name in cifar_resnet.__all__ if name != "CifarResNet"},
    "CifarResNet": (cifar_resnet.CifarResNet, {"blocks": 2**8}),
}
"""Networks of ours: how each is made, and the most that each argument of its own may be."""

OUR_ARGUMENTS = {"num_classes": 2**20, "in_chans": 2**12}
"""The most that the arguments of all networks of ours may be."""


def check(architecture: Mapping[str, Any]) -> None:
    """Accept ``{"name": name, "kwargs": {...}}`` or ``{"_target_": "package.make_network", "kwargs": {...}}``.

    A ``_target_`` outside :data:`TABLE` is information for the reader of the file and is never imported.

    Raises:
        ValueError: for any other form, or arguments that are not JSON.
    """
    if not isinstance(architecture, Mapping):
        raise ValueError(f"an architecture is a dict, not {type(architecture).__name__}")
    keys = set(architecture)
    if keys - {"kwargs"} not in ({"name"}, {"_target_"}):
        raise ValueError(f"an architecture has 'name' or '_target_', and 'kwargs'; not {sorted(map(str, keys))}")
    name, kwargs = architecture.get("name", architecture.get("_target_")), architecture.get("kwargs", {})
    if not isinstance(name, str) or not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise ValueError("an architecture is a string and a dict of arguments by name")
    try:
        json.dumps(dict(kwargs), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the arguments of {name!r} cannot be written as JSON: {error}") from error


def refusal(architecture: Mapping[str, Any]) -> str | None:
    """Why a file may not have this network built, None if it may; a clause that goes on a sentence.

    Raises:
        ValueError: as :func:`check`.
    """
    check(architecture)
    kwargs = architecture.get("kwargs", {})
    ours = _ours(architecture)
    if ours is not None:
        limits = {**OUR_ARGUMENTS, **TABLE[ours][1]}
        wrong = [key for key, v in kwargs.items() if type(v) is not int or not 1 <= v <= limits.get(key, 0)]
        return f"{ours} takes no such argument as {_shown(wrong[0])} from a file" if wrong else None
    if "_target_" in architecture:
        return f"{_shown(architecture['_target_'])} is no network of timm's or of pwfn's, and is not imported"
    name = architecture["name"]
    if not re.fullmatch(r"\w+(\.\w+)?", name, re.ASCII) or not timm.is_model(name):
        return f"this timm ({timm.__version__}) has no model {_shown(name)}"
    wrong = refused(kwargs)
    return f"{name} takes no such argument as {_shown(wrong[0])} from a file" if wrong else None


def build(architecture: Mapping[str, Any], *, meta: bool = False) -> nn.Module:
    """Build the network that ``architecture`` describes, with fresh weights.

    Args:
        architecture: see :func:`check`.
        meta: whether to build it of shapes alone, on torch's meta device, which takes no memory.

    Raises:
        ValueError: if a file may not have this network built, or it cannot be built with these arguments.
    """
    reason = refusal(architecture)
    if reason is not None:
        raise ValueError(reason)
    kwargs, ours = dict(architecture.get("kwargs", {})), _ours(architecture)
    with ExitStack() as modes:
        for mode in (torch.device("meta"), _DropPathRates()) if meta else ():
            modes.enter_context(mode)
        try:
            if ours is not None:
                return TABLE[ours][0](**kwargs)
            return timm.create_model(architecture["name"], **{**kwargs, "pretrained": False})
        except Exception as error:  # a constructor may raise anything on arguments that it does not know
            raise ValueError(f"the network cannot be built from {dict(architecture)}: {error}") from error


class _DropPathRates(TorchFunctionMode):
    """Leaves ``linspace`` on the CPU: older timm reads drop path rates from it as numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**place, **(kwargs or {})})


def _ours(architecture: Mapping[str, Any]) -> str | None:
    """The name of a network in our table, whether by itself or as the path that older files call it by."""
    if "name" in architecture:
        return architecture["name"] if architecture["name"] in TABLE else None
    module, _, name = current_path(architecture["_target_"]).rpartition(".")
    return name if module == cifar_resnet.__name__ and name in TABLE else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")

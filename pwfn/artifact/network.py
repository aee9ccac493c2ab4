"""A network whose weights are shared, written as a compressed file: the counterpart of ``pwfn.load``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from pwfn.artifact import file
from pwfn.artifact.sizes import Sizes
from pwfn.model import architecture as networks
from pwfn.scope import Scope, conv_linear, names_in_scope

__all__ = ["save"]


def save(
    model: nn.Module,
    path: str | Path,
    *,
    scope: Scope = conv_linear,
    architecture: Mapping[str, Any] | None = None,
) -> Sizes:
    """Write a network whose weights share values to ``path``, replacing what is there in one step.

    Args:
        model: a plain network: fixed and made deterministic, or quantised by other means.
        path: the file.
        scope: which parameters share values; the others are stored plainly.
        architecture: how ``pwfn.load`` rebuilds the network, see :func:`pwfn.artifact.file.save`. Without it the
            arguments that timm keeps of a network it made; else the class is named for information, and
            ``pwfn.load`` asks for ``architecture=``.

    Returns:
        What the network weighs, ``entropy_coded`` being the size of the file.

    Raises:
        ValueError: if the weights are parametrized, or share too little to be fixed.
    """
    computed = [name for name, module in model.named_modules() if parametrize.is_parametrized(module)]
    if computed:
        raise ValueError(f"{computed[0] or 'the network'} is parametrized: call pwfn.to_deterministic before saving")
    shared, state = names_in_scope(model, scope), model.state_dict()
    unique = file.sizes(state, shared).unique
    if unique > file.MAX_UNIQUE:
        raise ValueError(f"the weights in scope have {unique} values, which is not shared: fix the network first")
    return file.save(path, state, shared, architecture=_described(model) if architecture is None else architecture)


def _described(model: nn.Module) -> dict[str, Any]:
    """What timm keeps of how it made a network, if the same layers follow from it; else its class."""
    kind = type(model)
    own = {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
    config, kwargs = getattr(model, "pretrained_cfg", {}), getattr(model, "_model_args", None)
    if (
        not isinstance(config, Mapping)
        or not isinstance(kwargs, Mapping)
        or not isinstance(config.get("architecture"), str)
    ):
        return own
    made = {key: list(value) if isinstance(value, tuple) else value for key, value in kwargs.items()}
    found = {"name": config["architecture"], "kwargs": made}
    try:
        rebuilt = networks.build(found, meta=True)
    except ValueError:  # timm made it with arguments that no file may give
        return own
    same = {k: v.shape for k, v in rebuilt.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    return found if same and repr(rebuilt) == repr(model) else own

"""The network a run starts from: built by timm or by any other callable, weights loaded safely."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pwfn.model.checkpoint import matched, read_tensors
from pwfn.model.reachable import offline_if_unreachable
from pwfn.model.ties import untie
from pwfn.rundir.files import atomic

__all__ = ["create_timm", "load_weights", "read_weights", "require_head", "require_logits", "save_weights"]

ADVICE = "change model.checkpoint"
"""What errors about starting weights tell to do, unless they are other weights."""


def create_timm(name: str, *, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """``timm.create_model`` with a message that helps.

    Raises:
        ValueError: if timm knows no such network, with the nearest names; or its weights cannot be had.
    """
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], 5, 0.5)
        hint = f"; near to it: {', '.join(near)}" if near else ""
        raise ValueError(f"timm has no network {name!r}{hint}: change model.name")
    try:
        with offline_if_unreachable() if pretrained else nullcontext():
            return timm.create_model(name, pretrained=pretrained, **kwargs)
    except (OSError, RuntimeError, TypeError) as error:
        what = "download its weights, or set model.pretrained=false or model.checkpoint" if pretrained else "change it"
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"model.name={name} cannot be built ({reason}): {what}") from error


def read_weights(path: str | Path, *, advice: str = ADVICE) -> dict[str, Tensor]:
    """Read a state dict from safetensors or a ``.pt``/``.pth``/``.ckpt`` file, without unpickling code.

    The weights of a training checkpoint are taken out of it (:mod:`pwfn.model.checkpoint`), and tied ones come
    under each of their names.

    Args:
        path: the file.
        advice: what an error tells to do.

    Raises:
        ValueError: if the file is missing, damaged or holds no state dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"no file {path}: {advice}")
    try:
        return read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}: {advice}") from error


def save_weights(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write tensors as a safetensors file, in one step; tied ones once, as :mod:`pwfn.model.ties` tells."""
    kept, tied = untie(tensors)
    content = {name: value.detach().cpu().clone().contiguous() for name, value in kept.items()}
    with atomic(path) as temporary:
        save_file(content, temporary, metadata={**metadata, **tied})


def load_weights(model: nn.Module, path: str | Path, *, advice: str = ADVICE) -> None:
    """Load a state dict strictly into a network; names may have the prefixes of known wrappers.

    Args:
        model: the network.
        path: the file, see :func:`read_weights`.
        advice: what an error tells to do.

    Raises:
        ValueError: naming the keys and shapes that do not match; the network is then unchanged.
    """
    wanted = model.state_dict()
    weights = matched(read_weights(path, advice=advice), wanted)
    problems = [f"missing {key}" for key in wanted if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in wanted]
    problems += [
        f"{key} is {tuple(weights[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in weights and weights[key].shape != wanted[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(f"{path} does not fit the network ({'; '.join(problems[:4])}{more}): {advice}")
    model.load_state_dict(weights)


def require_head(model: nn.Module, num_classes: int) -> None:
    """Refuse pretrained weights whose head was made for another number of classes: timm would start it anew.

    Raises:
        ValueError: naming both numbers.
    """
    trained = getattr(model, "pretrained_cfg", {}).get("num_classes", num_classes)
    if trained != num_classes:
        raise ValueError(
            f"the pretrained head has {trained} classes, the data {num_classes}: set model.pretrained=false to train "
            "from scratch, or model.checkpoint to weights for these classes"
        )


@torch.no_grad()
def require_logits(model: nn.Module, input_size: Sequence[int], num_classes: int) -> None:
    """Let a network see one blank image, and check the shape of what comes out.

    Raises:
        ValueError: if it cannot take images of ``input_size`` (C, H, W) or does not give ``num_classes`` logits.
    """
    training = model.training
    try:
        logits = model.eval()(torch.zeros(1, *input_size))
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise ValueError(
            f"the network takes no images of {tuple(input_size)} ({error}): "
            "change model.kwargs or dataset.data_config.input_size"
        ) from error
    finally:
        model.train(training)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (1, num_classes):
        raise ValueError(
            f"the network gives {shape} where logits of (1, {num_classes}) are needed: "
            "change dataset.num_classes or model.kwargs"
        )

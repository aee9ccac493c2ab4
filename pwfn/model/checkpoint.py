"""Weight files of any origin: safetensors and checkpoints of timm, Lightning, DDP and ``torch.compile``."""

from __future__ import annotations

import pickle  # for the error that torch's safe loader raises
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pwfn.model.ties import owners, tie

__all__ = ["ENTRIES", "matched", "read_tensors"]

ENTRIES = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
"""Entries of a checkpoint that hold weights, in order of preference: averaged ones first, as in timm."""

PREFIXES = ("module.", "model.")
"""What DDP and averaged models, and Lightning modules, put before the names of the network that they wrap."""

COMPILED = "_orig_mod."
"""What ``torch.compile`` puts before the names of each module that it wraps."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a file without unpickling code; of a checkpoint, the first of :data:`ENTRIES`.

    Raises:
        ValueError: if the file cannot be read or holds no state dict; the message begins with its path.
    """
    try:
        content: Any = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, or is damaged, and is not loaded: "
            "write it anew with torch.save(model.state_dict(), path)"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as weights ({error})") from error
    while isinstance(content, Mapping):
        entry = next((name for name in ENTRIES if isinstance(content.get(name), Mapping)), None)
        if entry is None:
            break
        content = content[entry]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict of tensors")
    return dict(content)


def matched(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names that a network calls them by, where these are known wrappers' names without prefix.

    Names outside of the prefix belong to what wrapped the network, such as a loss, and are left out. A name that
    is missing because the network ties its tensor to another comes from that one.

    Args:
        weights: a state dict as it was read.
        wanted: the network's state dict.
    """
    found = {name.replace(COMPILED, ""): tensor for name, tensor in weights.items()}
    while not _covers(found, wanted):
        inner = [_below(found, prefix) for prefix in PREFIXES]
        found = next((names for names in inner if names), {})
        if not found:
            return {**weights, **_tied(weights, wanted)}
    return {**found, **_tied(found, wanted)}


def _covers(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return wanted.keys() <= {**found, **_tied(found, wanted)}.keys()


def _below(names: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in names.items() if name.startswith(prefix)}


def _tied(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors for missing names of a network, each found under another name to which the network ties it."""
    owner = owners(wanted)
    known = {owner[name]: found[name] for name in _present(found, wanted)}
    return {name: known[owner[name]] for name in wanted if name not in found and owner[name] in known}


def _present(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterable[str]:
    return (name for name in wanted if name in found)


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return tie({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118


def _pickled(path: Path) -> Any:
    # timm's trainer stores its command line as a Namespace, which is a bag of values and runs nothing
    if not hasattr(torch.serialization, "safe_globals"):  # torch 2.4
        return torch.load(path, map_location="cpu", weights_only=True)
    with torch.serialization.safe_globals([Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)

"""A fixed network as integer codes into one codebook, in a safetensors file for plain torch: ``codes.safetensors``.

The file holds ``pwfn.codebook`` (float32 ``[U]``); under the name of every tensor in scope its codes, uint8 where
256 values suffice, else uint16, in the tensor's shape; and every other tensor as it is. The metadata say, as JSON,
the ``architecture`` and the names in ``scope``. A weight is ``codebook[code]``, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pwfn.artifact import codebook
from pwfn.model.network import save_weights

__all__ = ["CODEBOOK", "FORMAT", "encode", "read", "write"]

CODEBOOK = "pwfn.codebook"
"""Name of the tensor of shared values."""

FORMAT = "pwfn.codes/1"
"""What the metadata call this format."""


def encode(tensors: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The distinct values of float32 ``tensors``, float32 ``[U]``, and every tensor as codes into them.

    Values are told apart by their bits and come in falling order of count, so that a tensor needs the wider codes
    only where it holds one of the rarer values: uint8 for codes below 256, uint16 below 65536, else int32.
    """
    values, counts = codebook.counted(tensors)
    order = counts.argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    coded = {name: place[codebook.indices(tensor, values).long()] for name, tensor in tensors.items()}
    return values[order], {name: code.to(_dtype(code)) for name, code in coded.items()}


def write(
    path: str | Path, state_dict: Mapping[str, Tensor], shared: Iterable[str], *, architecture: Mapping[str, Any]
) -> None:
    """Write a fixed network to ``path``, replacing what is there in one step.

    Args:
        path: the file.
        state_dict: a plain state dict; a tied tensor is written under each of its names.
        shared: the float32 tensors that are written as codes.
        architecture: how to rebuild the network, as in ``model.pwfn``.

    Raises:
        ValueError: if a shared tensor is missing or not float32, or a tensor has the codebook's name.
    """
    names = [*dict.fromkeys(shared)]
    wrong = [name for name in names if name not in state_dict or state_dict[name].dtype != torch.float32]
    if wrong:
        raise ValueError(f"shared tensors must be float32 tensors of the state dict, unlike {wrong}")
    if CODEBOOK in state_dict:
        raise ValueError(f"the state dict has a tensor named {CODEBOOK!r}: rename it")
    values, coded = encode({name: state_dict[name] for name in names})
    metadata = {"format": FORMAT, "architecture": json.dumps(dict(architecture)), "scope": json.dumps(names)}
    save_weights(Path(path), {**state_dict, **coded, CODEBOOK: values}, **metadata)


def read(path: str | Path) -> tuple[dict[str, Any], list[str], dict[str, Tensor]]:
    """The architecture, the names in scope and the state dict of a file that :func:`write` wrote.

    Raises:
        ValueError: if the file is no such file, or its codes do not fit its codebook.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
        values, names = state.pop(CODEBOOK), json.loads(metadata["scope"])
        return json.loads(metadata["architecture"]), names, state | {name: values[state[name].long()] for name in names}
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of codes: {error}") from error


def _dtype(codes: Tensor) -> torch.dtype:
    largest = int(codes.max()) if codes.numel() else 0
    return torch.uint8 if largest < 2**8 else torch.uint16 if largest < 2**16 else torch.int32

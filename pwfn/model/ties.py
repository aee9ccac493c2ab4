"""Tied tensors, which a state dict holds under several names: found, written once, and tied again when read.

Files follow the convention of ``safetensors.torch.save_model``: a tied tensor is stored under one name, and the
metadata maps each of its other names to that one. ``safetensors.torch.load_model`` reads them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["owners", "tie", "untie"]


def owners(state: Mapping[str, Tensor]) -> dict[str, str]:
    """For every name the first name that holds the same memory: itself, unless the tensor is tied."""
    first: dict[Any, str] = {}
    return {
        name: first.setdefault((t.device, t.data_ptr(), t.dtype, t.shape, t.stride()), name) if t.numel() else name
        for name, t in state.items()
    }


def untie(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors under their first names, and for each other name the name under which its tensor is."""
    owner = owners(state)
    kept = {name: tensor for name, tensor in state.items() if owner[name] == name}
    return kept, {name: kept_name for name, kept_name in owner.items() if kept_name != name}


def tie(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors under all their names: those of ``state``, and those that ``metadata`` maps to one of them."""
    again = {name: state[kept] for name, kept in metadata.items() if kept in state and name not in state}
    return {**state, **again}

"""The bytes of a compressed file, made from a state dict; :mod:`pwfn.artifact.file` describes its sections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import zstandard
from torch import Tensor

from pwfn.artifact import codebook, container
from pwfn.artifact.codebook import Histogram
from pwfn.artifact.reader import DTYPES, MAX_HEADER, MAX_TABLE, most_weights
from pwfn.artifact.sizes import Sizes, measure, raw
from pwfn.model.ties import owners

__all__ = ["pack"]


def pack(state: Mapping[str, Tensor], shared: Sequence[str], architecture: Mapping[str, Any]) -> tuple[bytes, Sizes]:
    """The bytes of the file, and what the network weighs.

    Tensors of more values than a codebook holds, or of so few that the file would be too short for a reader to
    believe how many weights it announces, are stored plainly.
    """
    owner = owners(state)
    coded, rest = _divide(state, owner, shared)
    whole = codebook.counted(coded)
    layers = [codebook.counted({name: tensor}) for name, tensor in coded.items()]
    indexed = _smaller([*coded.values()], whole, layers) if len(whole.values) <= codebook.MAX_UNIQUE else None
    data = _join(state, owner, coded if indexed else {}, indexed, architecture)
    if indexed is not None and sum(tensor.numel() for tensor in coded.values()) > most_weights(len(data)):
        indexed = None
        data = _join(state, owner, {}, None, architecture)
    indexed = indexed or _smaller([], codebook.counted({}), [])
    counts = [layer.counts for layer in layers]
    file, table = len(data), len(indexed.codebook)
    return data, measure(coded, rest, whole.counts, counts, file=file, codebook=table, layered=indexed.layered)


class _Indexed(NamedTuple):
    """Codebook and indices of a file, coded by the counts in each tensor or else in the whole network."""

    codebook: bytes
    stream: bytes
    layered: bool


def _join(
    state: Mapping[str, Tensor],
    owner: Mapping[str, str],
    coded: Mapping[str, Tensor],
    indexed: _Indexed | None,
    architecture: Mapping[str, Any],
) -> bytes:
    """The file in which the tensors of ``coded`` are ``indexed`` and all others plain."""
    indexed = indexed or _smaller([], codebook.counted({}), [])
    tensors = [_entry(name, tensor, owner[name], name in coded) for name, tensor in state.items()]
    header = json.dumps({"architecture": architecture, "tensors": tensors}, separators=(",", ":"), allow_nan=False)
    if len(header.encode()) > MAX_HEADER:
        raise ValueError(f"the names and shapes of {len(tensors)} tensors take more than {MAX_HEADER} bytes")
    plain = b"".join(raw(t) for name, t in state.items() if owner[name] == name and name not in coded)
    return container.join([_compress(header), indexed.codebook, indexed.stream, plain])


def _smaller(tensors: Sequence[Tensor], whole: Histogram, layers: Sequence[Histogram]) -> _Indexed:
    """The smaller coding of float32 tensors whose values ``whole`` counts together and ``layers`` one by one."""
    flat = [tensor.detach().cpu().flatten() for tensor in tensors]
    network = codebook.to_json(whole.values, [whole])
    found = [_indexed([torch.cat([torch.empty(0), *flat])], [whole], network, layered=False)]
    if len(flat) > 1:
        table = codebook.to_json(whole.values, layers)
        found += [_indexed(flat, layers, table, layered=True)] if len(table) <= MAX_TABLE else []
    return min(found, key=lambda coding: len(coding.codebook) + len(coding.stream))


def _indexed(weights: Sequence[Tensor], models: Sequence[Histogram], table: str, *, layered: bool) -> _Indexed:
    symbols = [codebook.indices(part, model.values) for part, model in zip(weights, models, strict=True)]
    return _Indexed(_compress(table), codebook.encode(symbols, [model.counts for model in models]), layered)


def _divide(
    state: Mapping[str, Tensor], owner: Mapping[str, str], shared: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors that share values and the others, both without ties and in state-dict order."""
    wrong = sorted(name for name in set(shared) if name not in state or state[name].dtype != torch.float32)
    if wrong:
        raise ValueError(f"shared tensors must be float32 tensors of the state dict, unlike {wrong}")
    unknown = sorted(name for name, tensor in state.items() if tensor.dtype not in DTYPES.values())
    if unknown:
        raise ValueError(f"tensors of the dtype {state[unknown[0]].dtype} cannot be stored: {unknown}")
    chosen = {owner[name] for name in shared}
    coded = {name: tensor for name, tensor in state.items() if name in chosen}
    rest = {name: t for name, t in state.items() if owner[name] == name and name not in chosen}
    return coded, rest


def _entry(name: str, tensor: Tensor, owner: str, shared: bool) -> dict[str, Any]:
    if owner != name:
        return {"name": name, "tie": owner}
    kind = "shared" if shared else str(tensor.dtype).removeprefix("torch.")
    return {"name": name, "kind": kind, "shape": list(tensor.shape)}


def _compress(text: str) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(text.encode())

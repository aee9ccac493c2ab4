"""The compressed file of a fixed network, ``model.pwfn``: written, read, and rebuilt bit for bit.

Four sections of a :mod:`pwfn.artifact.container`::

    header     JSON (zstd): the architecture; name, dtype and shape of every tensor; ties
    codebook   JSON (zstd): the shared values as sums of powers of two (else float32 bits), and their counts in
               the whole network or in each tensor, whichever makes the smaller file
    indices    one entropy-coded stream over all shared tensors, in state-dict order, by these counts
               (:mod:`pwfn.artifact.codebook`)
    plain      the bytes of every other tensor as they are; zstd would save a tenth of these few percent

Reading never unpickles, and builds only networks of allowed packages (:mod:`pwfn.model.architecture`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import torch
import zstandard
from torch import Tensor, nn

from pwfn.artifact import codebook, container
from pwfn.artifact.codebook import Histogram
from pwfn.artifact.sizes import Sizes, measure, raw
from pwfn.model import architecture as networks
from pwfn.rundir.files import atomic

__all__ = ["MAX_UNIQUE", "Sizes", "load", "read", "save", "sizes"]

MAX_UNIQUE = 2**16
"""With more shared values than this a network is not fixed, and all its tensors are stored plainly."""

_MAX_JSON = 2**26  # bytes; a header that unpacks to more is no network's


def save(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    shared: Iterable[str],
    *,
    architecture: Mapping[str, Any],
) -> Sizes:
    """Write a fixed network to ``path``, replacing what is there in one step.

    Args:
        path: the file.
        state_dict: a plain state dict, named as the rebuilt network names it.
        shared: the float32 tensors whose values come from the network-wide codebook; all others are stored
            plainly. A tied tensor is stored once, and shared if one of its names is.
        architecture: how to rebuild the network, see :func:`pwfn.model.architecture.check`.

    Returns:
        What the network weighs, ``entropy_coded`` being the size of the file.

    Raises:
        ValueError: if a shared tensor is missing or not float32, or the architecture is refused.
    """
    networks.check(architecture)
    data, measured = _pack(state_dict, shared, architecture)
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(data)
    return measured


def sizes(state_dict: Mapping[str, Tensor], shared: Iterable[str]) -> Sizes:
    """What a network weighs, fixed or not, without writing a file (whose header here names no architecture).

    Raises:
        ValueError: if a shared tensor is missing or not float32.
    """
    return _pack(state_dict, shared, {})[1]


def load(path: str | Path, *, allow: Sequence[str] = networks.ALLOW) -> nn.Module:
    """The network of a file in evaluation mode, every weight bit for bit what was saved.

    Args:
        path: a file that :func:`save` wrote.
        allow: import-path prefixes under which the file may name a network class or function.

    Raises:
        ValueError: if the file is truncated, altered or foreign, or its network is refused or does not fit.
    """
    description, state = read(path)
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and then thrown away
            network = networks.build(description, allow)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    unlike = expected.items() ^ {name: tensor.shape for name, tensor in state.items()}.items()
    if unlike:
        names = sorted({name for name, _ in unlike})
        raise ValueError(f"{path}: {len(names)} of its tensors do not fit its network, such as {names[0]!r}")
    network.load_state_dict(state)
    return network.eval()


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The architecture and the state dict of a file; tied names hold one tensor.

    Raises:
        ValueError: if the file is truncated, altered, foreign or of another version.
    """
    try:
        sections = container.split(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    try:
        return _unpack(*sections)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} contradicts itself: {error}") from error


def _pack(state: Mapping[str, Tensor], shared: Iterable[str], architecture: Mapping[str, Any]) -> tuple[bytes, Sizes]:
    """The bytes of the file, and what the network weighs."""
    owner = codebook.owners(state)
    coded, rest = _divide(state, owner, shared)
    whole = codebook.counted(coded)
    layers = [codebook.counted({name: tensor}) for name, tensor in coded.items()]
    fixed = len(whole.values) <= MAX_UNIQUE
    streamed, plain = (coded, rest) if fixed else ({}, {**coded, **rest})
    indexed = _smaller([*coded.values()], whole, layers) if fixed else _smaller([], codebook.counted({}), [])
    tensors = [_entry(name, tensor, owner[name], name in streamed) for name, tensor in state.items()]
    sections = [
        _compress(json.dumps({"architecture": architecture, "tensors": tensors}, separators=(",", ":"))),
        indexed.codebook,
        indexed.stream,
        b"".join(raw(plain[name]) for name in state if name in plain),
    ]
    data = container.join(sections)
    counts = [layer.counts for layer in layers]
    file, table = len(data), len(indexed.codebook)
    return data, measure(coded, rest, whole.counts, counts, file=file, codebook=table, layered=indexed.layered)


class _Indexed(NamedTuple):
    """Codebook and indices of a file, coded by the counts in each tensor or else in the whole network."""

    codebook: bytes
    stream: bytes
    layered: bool


def _smaller(tensors: Sequence[Tensor], whole: Histogram, layers: Sequence[Histogram]) -> _Indexed:
    """The smaller coding of float32 tensors whose values ``whole`` counts together and ``layers`` one by one."""
    flat = [tensor.detach().cpu().flatten() for tensor in tensors]
    network = _indexed([torch.cat([torch.empty(0), *flat])], whole.values, [whole], layered=False)
    if len(flat) < 2:
        return network
    layered = _indexed(flat, whole.values, layers, layered=True)
    return min(network, layered, key=lambda found: len(found.codebook) + len(found.stream))


def _indexed(weights: Sequence[Tensor], values: Tensor, models: Sequence[Histogram], *, layered: bool) -> _Indexed:
    symbols = [codebook.indices(part, model.values) for part, model in zip(weights, models, strict=True)]
    stream = codebook.encode(symbols, [model.counts for model in models])
    return _Indexed(_compress(codebook.to_json(values, models)), stream, layered)


def _divide(
    state: Mapping[str, Tensor], owner: Mapping[str, str], shared: Iterable[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors that share values and the others, both without ties and in state-dict order."""
    names = set(shared)
    wrong = sorted(name for name in names if name not in state or state[name].dtype != torch.float32)
    if wrong:
        raise ValueError(f"shared tensors must be float32 tensors of the state dict, unlike {wrong}")
    chosen = {owner[name] for name in names}
    coded = {name: tensor for name, tensor in state.items() if name in chosen}
    rest = {name: t for name, t in state.items() if owner[name] == name and name not in chosen}
    return coded, rest


def _entry(name: str, tensor: Tensor, owner: str, shared: bool) -> dict[str, Any]:
    if owner != name:
        return {"name": name, "tie": owner}
    kind = "shared" if shared else str(tensor.dtype).removeprefix("torch.")
    return {"name": name, "kind": kind, "shape": list(tensor.shape)}


def _unpack(header: bytes, table: bytes, stream: bytes, plain: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The architecture and the state dict of four sections."""
    description = json.loads(_decompress(header))
    lengths = [math.prod(entry["shape"]) for entry in description["tensors"] if entry.get("kind") == "shared"]
    weights = _weights(codebook.from_json(_decompress(table)), stream, lengths)
    state: dict[str, Tensor] = {}
    passed = 0
    for entry in description["tensors"]:
        name = entry["name"]
        if "tie" in entry:
            state[name] = state[entry["tie"]]
            continue
        shape = torch.Size(entry["shape"])
        if entry["kind"] == "shared":
            state[name] = next(weights).view(shape)
        else:
            dtype = getattr(torch, entry["kind"])
            size = shape.numel() * dtype.itemsize
            state[name] = _tensor(plain[passed : passed + size], dtype).view(shape)
            passed += size
    if passed != len(plain) or next(weights, None) is not None:
        raise ValueError("its tensors do not use up its weights")
    return description["architecture"], state


def _weights(models: Sequence[Histogram], stream: bytes, lengths: Sequence[int]) -> Iterator[Tensor]:
    """The weights of shared tensors of these lengths, by one model for all or by one for each of them."""
    layered = len(models) != 1
    counted = [int(model.counts.sum()) for model in models]
    if counted != (list(lengths) if layered else [sum(lengths)]):
        raise ValueError("its shared tensors have not as many weights as the codebook counts")
    symbols = codebook.decode(stream, [model.counts for model in models])
    parts = zip(models, symbols, strict=True) if layered else zip(repeat(models[0]), symbols[0].split(lengths))
    return (model.values.index_select(0, part) for model, part in parts)


def _tensor(data: bytes, dtype: torch.dtype) -> Tensor:
    """A one-dimensional tensor of its own memory; ``torch.frombuffer`` refuses empty buffers."""
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _compress(text: str) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(text.encode())


def _decompress(data: bytes) -> str:
    try:
        if zstandard.frame_content_size(data) > _MAX_JSON:
            raise ValueError(f"a header of more than {_MAX_JSON} bytes")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_JSON).decode()
    except zstandard.ZstdError as error:
        raise ValueError(f"a header does not decompress: {error}") from error

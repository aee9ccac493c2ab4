"""A compressed file taken apart again: what it announces is checked against its length before memory is taken.

Anybody can write a file whose checksum holds, so nothing in it is believed: names and dtypes are looked up in
closed lists, sizes are bounded, and every section must be used up exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple, NoReturn

import torch
import zstandard
from torch import Tensor

from pwfn.artifact import codebook, container
from pwfn.artifact.codebook import Histogram

__all__ = ["DTYPES", "MAX_HEADER", "MAX_TABLE", "Packed", "most_weights", "unpack"]

MAX_HEADER = 2**23
"""Bytes of JSON that a header may hold; a network of ten thousand tensors has a tenth of it."""

MAX_TABLE = 2**25
"""Bytes of JSON that a codebook may hold."""

_FLOATS = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128")
_INTEGERS = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")

DTYPES = {name: getattr(torch, name) for name in (*_FLOATS, *_INTEGERS)}
"""The dtypes of plain tensors, by the names that a header calls them."""

_MAX_DIMENSIONS = 8
_FREE_WEIGHTS, _WEIGHTS_PER_BYTE = 2**26, 2**8
_CONTRADICTIONS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def most_weights(length: int) -> int:
    """How many shared weights a file of ``length`` bytes may announce: equal weights take no bytes at all."""
    return _FREE_WEIGHTS + _WEIGHTS_PER_BYTE * length


class Entry(NamedTuple):
    """One tensor of a header: ``kind`` is ``shared``, or the name of a dtype; a tied one has that of its owner."""

    name: str
    owner: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """A file whose header has been read and agrees with the lengths of its sections.

    Attributes:
        architecture: how to rebuild the network, as it was written; anything in it is the writer's claim.
        entries: its tensors.
        sections: those of the file.
    """

    architecture: Any
    entries: Sequence[Entry]
    sections: Sequence[bytes]

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The shape of every tensor, by its name."""
        return {entry.name: torch.Size(entry.shape) for entry in self.entries}

    def tensors(self) -> dict[str, Tensor]:
        """The state dict; tied names hold one tensor.

        Raises:
            ValueError: if codebook, indices and header contradict each other.
        """
        with _contradictions():
            return self._tensors()

    def _tensors(self) -> dict[str, Tensor]:
        _, table, stream, plain = self.sections
        owned = [entry for entry in self.entries if entry.owner == entry.name]
        lengths = [math.prod(entry.shape) for entry in owned if entry.kind == "shared"]
        weights = _weights(codebook.from_json(_decompress(table, MAX_TABLE)), stream, lengths)
        state: dict[str, Tensor] = {}
        passed = 0
        for entry in self.entries:
            if entry.owner != entry.name:
                state[entry.name] = state[entry.owner]
            elif entry.kind == "shared":
                state[entry.name] = next(weights).view(entry.shape)
            else:
                size = _plain_bytes(entry)
                state[entry.name] = _tensor(plain[passed : passed + size], DTYPES[entry.kind]).view(entry.shape)
                passed += size
        return state


def unpack(data: bytes) -> Packed:
    """Read the header of a file; its tensors take no memory yet.

    Raises:
        ValueError: if the file is truncated, altered, foreign, of another version or contradicts itself; the
            message continues a sentence that begins with the file's name.
    """
    sections = container.split(data)
    with _contradictions():
        header = json.loads(_decompress(sections[0], MAX_HEADER), parse_constant=_no_number)
        entries = _entries(header["tensors"])
        owned = [entry for entry in entries if entry.owner == entry.name]
        if sum(_plain_bytes(entry) for entry in owned) != len(sections[3]):
            raise ValueError("its tensors do not use up its bytes")
        if sum(math.prod(entry.shape) for entry in owned if entry.kind == "shared") > most_weights(len(data)):
            raise ValueError(f"it announces more weights than {len(data)} bytes can hold")
        return Packed(header["architecture"], entries, sections)


@contextmanager
def _contradictions() -> Iterator[None]:
    try:
        yield
    except _CONTRADICTIONS as error:
        raise ValueError(f"contradicts itself: {error}") from error


def _entries(tensors: Any) -> list[Entry]:
    if not isinstance(tensors, list):
        raise ValueError("its tensors are no list")
    entries: dict[str, Entry] = {}
    for given in tensors:
        name, tie = given["name"], given.get("tie")
        if not isinstance(name, str) or name in entries:
            raise ValueError(f"the tensor name {str(name)[:80]!r} occurs twice, or is none")
        if tie is not None:
            entries[name] = entries[tie]._replace(name=name)
            continue
        kind, shape = given["kind"], given["shape"]
        if kind != "shared" and kind not in DTYPES:
            raise ValueError(f"{name!r} has an unknown dtype")
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise ValueError(f"{name!r} has no shape")
        if len(shape) > _MAX_DIMENSIONS or math.prod(max(n, 1) for n in shape) >= 2**48:
            raise ValueError(f"{name!r} has too large a shape")
        entries[name] = Entry(name, name, kind, tuple(shape))
    return list(entries.values())


def _plain_bytes(entry: Entry) -> int:
    return 0 if entry.kind == "shared" else math.prod(entry.shape) * DTYPES[entry.kind].itemsize


def _weights(models: Sequence[Histogram], stream: bytes, lengths: Sequence[int]) -> Iterator[Tensor]:
    """The weights of shared tensors of these lengths, by one model for all or by one for each of them."""
    layered = len(models) != 1
    counted = [sum(model.counts.tolist()) for model in models]  # Python's integers do not wrap around
    if counted != (list(lengths) if layered else [sum(lengths)]):
        raise ValueError("its shared tensors have not as many weights as the codebook counts")
    symbols = codebook.decode(stream, [model.counts for model in models])
    parts = zip(models, symbols, strict=True) if layered else zip(repeat(models[0]), symbols[0].split(lengths))
    return (model.values.index_select(0, part) for model, part in parts)


def _tensor(data: bytes, dtype: torch.dtype) -> Tensor:
    """A one-dimensional tensor of its own memory; ``torch.frombuffer`` refuses empty buffers."""
    if dtype == torch.bool and data.strip(b"\0\1"):
        raise ValueError("a truth value is neither 0 nor 1")
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _decompress(data: bytes, most: int) -> str:
    try:
        if zstandard.frame_content_size(data) > most:
            raise ValueError(f"a section of more than {most} bytes")
        found = zstandard.ZstdDecompressor().decompress(data, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"a section does not decompress: {error}") from error
    return found.decode()


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of a header")

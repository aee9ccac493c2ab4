"""What a network weighs, in bytes, by several measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
import zstandard
from torch import Tensor

__all__ = ["Sizes", "measure", "raw"]


@dataclass(frozen=True)
class Sizes:
    """Bytes of one network by several measures. Tied tensors count once, integer tensors as they are.

    Attributes:
        float32: every float at 4 bytes.
        float16: every float at 2 bytes.
        fixed_width: indices of ``ceil(log2 U)`` bits, ``U`` values of 4 bytes, the rest plain.
        entropy_coded: the compressed file, all of it.
        zstd: the float32 bytes through zstd, level 9.
        codebook: the compressed file's codebook section.
        unquantised: the tensors that share no values, plain.
        bound: entropy of the shared weights over the whole network (bits) * N / 8, plus ``unquantised``.
        unique: ``U``, the number of shared values (no bytes; -0.0 and 0.0 are two here).
    """

    float32: int
    float16: int
    fixed_width: int
    entropy_coded: int
    zstd: int
    codebook: int
    unquantised: int
    bound: int
    unique: int

    @property
    def ratio_float32(self) -> float:
        """How many times smaller the compressed file is than the float32 weights."""
        return self.float32 / self.entropy_coded

    @property
    def ratio_float16(self) -> float:
        """How many times smaller the compressed file is than the float16 weights."""
        return self.float16 / self.entropy_coded

    @property
    def overhead(self) -> float:
        """What the compressed file spends over the bound, as a fraction of the bound."""
        return self.entropy_coded / self.bound - 1 if self.bound else math.inf

    def summary(self) -> dict[str, float]:
        """All bytes and ratios by name, ready for JSON."""
        ratios = ("ratio_float32", "ratio_float16", "overhead")
        return {**asdict(self), **{name: getattr(self, name) for name in ratios}}


def measure(
    shared: Mapping[str, Tensor], rest: Mapping[str, Tensor], counts: Tensor, *, file: int, codebook: int
) -> Sizes:
    """Measure a network of ``shared`` tensors, whose values occur ``counts`` ``[U]`` times, and the ``rest``.

    ``file`` and ``codebook`` are the bytes of the compressed file and of its codebook section.
    """
    tensors = [*shared.values(), *rest.values()]
    weights, unique = int(counts.sum()), len(counts)
    share = counts.double() / max(weights, 1)
    entropy = -float((share * share.log2()).sum())
    unquantised = sum(tensor.nbytes for tensor in rest.values())
    index_bits = weights * math.ceil(math.log2(max(unique, 1)))
    return Sizes(
        float32=_bytes(tensors, 4),
        float16=_bytes(tensors, 2),
        fixed_width=math.ceil(index_bits / 8) + 4 * unique + unquantised,
        entropy_coded=file,
        zstd=_zstd(tensors),
        codebook=codebook,
        unquantised=unquantised,
        bound=math.ceil(weights * entropy / 8) + unquantised,
        unique=unique,
    )


def raw(tensor: Tensor) -> bytes:
    """The bytes of a tensor of any dtype, row by row, as the machine holds them."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _bytes(tensors: Iterable[Tensor], width: int) -> int:
    return sum(t.numel() * width if t.is_floating_point() else t.nbytes for t in tensors)


def _zstd(tensors: Iterable[Tensor]) -> int:
    """Bytes of the float32 file through zstd, fed tensor by tensor to hold no second copy of the network."""
    compressor = zstandard.ZstdCompressor(level=9).compressobj()
    parts = (compressor.compress(raw(t.float() if t.is_floating_point() else t)) for t in tensors)
    return sum(len(part) for part in parts) + len(compressor.flush())

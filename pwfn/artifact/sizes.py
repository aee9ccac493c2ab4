"""What a network weighs, in bytes, by several measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
        fixed_width: indices of ``ceil(log2 U)`` bits, ``U`` values of 4 bytes, the rest plain; with a codebook
            for each tensor instead where that is smaller.
        entropy_coded: the compressed file, all of it.
        zstd: the float32 bytes through zstd, level 9.
        codebook: the compressed file's codebook section.
        unquantised: the tensors that share no values, plain.
        bound: entropy of the shared weights over the whole network (bits) * N / 8, plus ``unquantised``.
        bound_layers: the same with the entropy of each tensor by itself: never above ``bound``, and below it
            where tensors differ.
        layered: whether the compressed file codes each tensor by itself, because that is smaller; it can then
            be smaller than ``bound``.
        unique: ``U``, the number of shared values (no bytes; -0.0 and 0.0 are two here).
        unique_layers: the sum of each tensor's number of values (no bytes).
    """

    float32: int
    float16: int
    fixed_width: int
    entropy_coded: int
    zstd: int
    codebook: int
    unquantised: int
    bound: int
    bound_layers: int
    layered: bool
    unique: int
    unique_layers: int

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
        """What the compressed file spends over the bound of its coding, as a fraction of that.

        The bound is ``bound_layers`` where ``layered``, else ``bound``; header and codebook count as spent.
        """
        bound = self.bound_layers if self.layered else self.bound
        return self.entropy_coded / bound - 1 if bound else math.inf

    def summary(self) -> dict[str, float]:
        """All bytes and ratios by name, ready for JSON."""
        ratios = ("ratio_float32", "ratio_float16", "overhead")
        return {**asdict(self), **{name: getattr(self, name) for name in ratios}}


def measure(
    shared: Mapping[str, Tensor],
    rest: Mapping[str, Tensor],
    counts: Tensor,
    layers: Sequence[Tensor],
    *,
    file: int,
    codebook: int,
    layered: bool,
) -> Sizes:
    """Measure a network of ``shared`` tensors, whose values occur ``counts`` ``[U]`` times, and the ``rest``.

    Args:
        shared, rest: the tensors, ties left out.
        counts: int64 ``[U]``, of each value in all shared tensors.
        layers: int64 ``[U_l]`` for each shared tensor, of each of its values.
        file: bytes of the compressed file.
        codebook: bytes of its codebook section.
        layered: whether it codes each tensor by itself.
    """
    tensors = [*shared.values(), *rest.values()]
    unquantised = sum(tensor.nbytes for tensor in rest.values())
    return Sizes(
        float32=_bytes(tensors, 4),
        float16=_bytes(tensors, 2),
        fixed_width=min(_fixed_width([counts]), _fixed_width(layers)) + unquantised,
        entropy_coded=file,
        zstd=_zstd(tensors),
        codebook=codebook,
        unquantised=unquantised,
        bound=math.ceil(_bits(counts) / 8) + unquantised,
        bound_layers=math.ceil(sum(map(_bits, layers)) / 8) + unquantised,
        layered=layered,
        unique=len(counts),
        unique_layers=sum(map(len, layers)),
    )


def raw(tensor: Tensor) -> bytes:
    """The bytes of a tensor of any dtype, row by row, as the machine holds them."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _bits(counts: Tensor) -> float:
    """Entropy of values that occur ``counts`` ``[U]`` times, times the number of weights, in bits."""
    share = counts.double() / counts.sum()
    return -float((counts * share.log2()).sum())


def _fixed_width(codebooks: Sequence[Tensor]) -> int:
    """Bytes of indices and float32 values with codebooks whose values occur this often."""
    bits = sum(int(counts.sum()) * math.ceil(math.log2(max(len(counts), 1))) for counts in codebooks)
    return math.ceil(bits / 8) + 4 * sum(map(len, codebooks))


def _bytes(tensors: Iterable[Tensor], width: int) -> int:
    return sum(t.numel() * width if t.is_floating_point() else t.nbytes for t in tensors)


def _zstd(tensors: Iterable[Tensor]) -> int:
    """Bytes of the float32 file through zstd, fed tensor by tensor to hold no second copy of the network."""
    compressor = zstandard.ZstdCompressor(level=9).compressobj()
    parts = (compressor.compress(raw(t.float() if t.is_floating_point() else t)) for t in tensors)
    return sum(len(part) for part in parts) + len(compressor.flush())

"""The values that a fixed network shares, and the indices of its weights: found, written and read back.

Values are told apart by their bits, so that -0.0 and 0.0 stay two values and every weight comes back bit for
bit. Indices go through an ANS coder (constriction) with one categorical model for the whole network, which
reaches the network's entropy to within a few bytes; its probabilities are the integer counts themselves, so
that writer and reader agree on every machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from pwfn.apot import terms

__all__ = [
    "MAX_ORDER",
    "counted",
    "decode",
    "encode",
    "from_json",
    "indices",
    "owners",
    "sum_of_powers",
    "to_json",
]

MAX_ORDER = 8
"""A value of more powers of two than this is no shift-and-add constant; k-means values have about twelve."""


def counted(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The distinct values of float32 ``tensors`` and how often each occurs.

    Returns:
        ``values`` float32 ``[U]`` and ``counts`` int64 ``[U]`` on the CPU, ordered by bit pattern.
    """
    bits = [tensor.detach().cpu().flatten().view(torch.int32) for tensor in tensors.values()]
    merged = torch.cat(bits) if bits else torch.empty(0, dtype=torch.int32)
    values, counts = torch.unique(merged, return_counts=True)
    return values.view(torch.float32), counts


def indices(tensor: Tensor, values: Tensor) -> Tensor:
    """``tensor`` as int32 indices into ``values`` (ordered by bits, as from :func:`counted`); same shape."""
    bits = tensor.detach().cpu().contiguous().view(torch.int32)
    return torch.searchsorted(values.view(torch.int32), bits, out_int32=True)


def owners(state: Mapping[str, Tensor]) -> dict[str, str]:
    """For every name the first name that holds the same memory: itself, unless the tensor is tied."""
    first: dict[Any, str] = {}
    return {
        name: first.setdefault((t.device, t.data_ptr(), t.dtype, t.shape, t.stride()), name) if t.numel() else name
        for name, t in state.items()
    }


def sum_of_powers(exponents: list[int], negative: bool) -> float:
    """``2**e1 + 2**e2 + ...`` with its sign; no exponents are zero, of either sign."""
    return math.copysign(sum(math.ldexp(1.0, exponent) for exponent in exponents), -1.0 if negative else 1.0)


def to_json(values: Tensor, counts: Tensor) -> str:
    """Write values (as sums of powers of two where all of them are, else as float32 bits) and counts."""
    table: dict[str, Any] = {"counts": counts.tolist()}
    sums = [[int(math.copysign(1.0, v) < 0), *terms(v)] for v in values.tolist() if math.isfinite(v)]
    exact = len(sums) == len(values) and all(len(entry) <= 1 + MAX_ORDER for entry in sums)
    if exact:
        table["sums"] = sums
    else:
        table["float32"] = values.view(torch.int32).tolist()
    return json.dumps(table, separators=(",", ":"))


def from_json(text: str) -> tuple[Tensor, Tensor]:
    """Read what :func:`to_json` wrote: ``values`` float32 ``[U]`` and ``counts`` int64 ``[U]``."""
    table = json.loads(text)
    counts = torch.tensor(table["counts"], dtype=torch.int64)
    if "float32" in table:
        return torch.tensor(table["float32"], dtype=torch.int32).view(torch.float32), counts
    values = [sum_of_powers(exponents, bool(negative)) for negative, *exponents in table["sums"]]
    return torch.tensor(values, dtype=torch.float32), counts


def encode(symbols: Tensor, counts: Tensor) -> bytes:
    """Entropy-code int32 ``symbols`` ``[N]`` that occur ``counts`` ``[U]`` times each."""
    if len(counts) < 2:
        return b""  # a single value needs no bits
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(symbols.numpy(), _model(counts))
    return coder.get_compressed().astype("<u4").tobytes()


def decode(stream: bytes, counts: Tensor) -> Tensor:
    """The int32 symbols ``[N]`` that :func:`encode` wrote.

    Raises:
        ValueError: if the decoded symbols do not occur as often as ``counts`` says.
    """
    total = int(counts.sum())
    if len(counts) < 2:
        return torch.zeros(total, dtype=torch.int32)
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(stream, "<u4").astype(np.uint32))
    symbols = coder.decode(_model(counts), total)
    # A coder that rounds its probabilities otherwise than the writer's would go wrong in silence.
    if not coder.is_empty() or not np.array_equal(np.bincount(symbols, minlength=len(counts)), counts.numpy()):
        raise ValueError("the indices do not occur as often as the codebook counts them")
    return torch.from_numpy(symbols)


def _model(counts: Tensor) -> Any:
    # Whole numbers below 2**53 add up exactly in float64, in any order; `perfect=False` then rounds each
    # cumulative sum once, by the same IEEE product everywhere.
    return constriction.stream.model.Categorical(counts.numpy().astype(np.float64), perfect=False)

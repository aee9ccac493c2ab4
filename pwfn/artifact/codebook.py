"""The values that a fixed network shares, and the indices of its weights: found, written and read back.

Values are told apart by their bits, so that -0.0 and 0.0 stay two values and every weight comes back bit for
bit. Indices go through an ANS coder (constriction) with one categorical model for the whole network or one for
each tensor, which reaches the network's entropy, or the sum of the tensors', to within a few bytes; a model's
probabilities are the integer counts themselves, so that writer and reader agree on every machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import constriction
import numpy as np
import torch
from torch import Tensor

from pwfn.apot import terms

__all__ = [
    "MAX_ORDER",
    "MAX_UNIQUE",
    "Histogram",
    "counted",
    "decode",
    "encode",
    "from_json",
    "indices",
    "sum_of_powers",
    "to_json",
]

MAX_ORDER = 8
"""A value of more powers of two than this is no shift-and-add constant; k-means values have about twelve."""


MAX_UNIQUE = 2**16
"""With more shared values than this a network is not fixed, and all its tensors are stored plainly."""

_MAX_COUNT = 2**48


class Histogram(NamedTuple):
    """The distinct values of some weights, float32 ``[U]``, and how often each occurs, int64 ``[U]``."""

    values: Tensor
    counts: Tensor


def counted(tensors: Mapping[str, Tensor]) -> Histogram:
    """The distinct values of float32 ``tensors`` on the CPU, ordered by bit pattern, and how often each occurs."""
    bits = [tensor.detach().cpu().flatten().view(torch.int32) for tensor in tensors.values()]
    merged = torch.cat(bits) if bits else torch.empty(0, dtype=torch.int32)
    values, counts = torch.unique(merged, return_counts=True)
    return Histogram(values.view(torch.float32), counts)


def indices(tensor: Tensor, values: Tensor) -> Tensor:
    """``tensor`` as int32 indices into ``values`` (ordered by bits, as from :func:`counted`); same shape."""
    bits = tensor.detach().cpu().contiguous().view(torch.int32)
    return torch.searchsorted(values.view(torch.int32), bits, out_int32=True)


def sum_of_powers(exponents: list[int], negative: bool) -> float:
    """``2**e1 + 2**e2 + ...`` with its sign; no exponents are zero, of either sign."""
    return math.copysign(sum(math.ldexp(1.0, exponent) for exponent in exponents), -1.0 if negative else 1.0)


def to_json(values: Tensor, models: Sequence[Histogram]) -> str:
    """Write the values of a network, and how often each model counts them.

    Values become sums of powers of two where all of them are, else float32 bits. A model becomes a list of
    its counts in the order of ``values``, in which ``-k`` skips k values that it does not hold.

    Args:
        values: float32 ``[U]``, as from :func:`counted`.
        models: one for the whole network or one for each tensor, as from :func:`counted`.
    """
    table: dict[str, Any] = {"counts": [_row(values, model) for model in models]}
    sums = [[int(math.copysign(1.0, v) < 0), *terms(v)] for v in values.tolist() if math.isfinite(v)]
    exact = len(sums) == len(values) and all(len(entry) <= 1 + MAX_ORDER for entry in sums)
    if exact:
        table["sums"] = sums
    else:
        table["float32"] = values.view(torch.int32).tolist()
    return json.dumps(table, separators=(",", ":"))


def from_json(text: str) -> list[Histogram]:
    """Read the models that :func:`to_json` wrote.

    Raises:
        ValueError: if there are more values than :data:`MAX_UNIQUE`, or one twice; if a model counts values that
            there are not, or counts none of a value.
    """
    table = json.loads(text)
    if "float32" in table:
        values = torch.tensor(_whole(table["float32"]).tolist(), dtype=torch.int32).view(torch.float32)
    else:
        sums = [sum_of_powers(exponents, bool(negative)) for negative, *exponents in table["sums"][: MAX_UNIQUE + 1]]
        values = torch.tensor(sums, dtype=torch.float32)
    if len(values) > MAX_UNIQUE or len(values.view(torch.int32).unique()) < len(values):
        raise ValueError(f"the codebook holds a value twice, or more than {MAX_UNIQUE}")
    return [_model_of(values, row) for row in table["counts"]]


def _whole(numbers: Sequence[int]) -> np.ndarray:
    """Integers of a JSON list; NumPy would also make some of texts and fractions."""
    found = np.array(numbers) if numbers else np.empty(0, np.int64)
    if found.dtype != np.int64 or found.ndim != 1 or (abs(found.astype(float)) >= _MAX_COUNT).any():
        raise ValueError("a codebook holds something else than integers")
    return found


def _row(values: Tensor, model: Histogram) -> list[int]:
    skipped = torch.diff(indices(model.values, values).long(), prepend=torch.tensor([-1])) - 1
    row = torch.stack((-skipped, model.counts), 1).flatten()
    return row[row != 0].tolist()


def _model_of(values: Tensor, row: Sequence[int]) -> Histogram:
    entries = _whole(row)  # for short rows several times faster than a tensor
    held = entries > 0
    at = np.where(held, 1, -entries).cumsum()[held] - 1
    if not (entries.all() and (at >= 0).all() and (at < len(values)).all()):
        raise ValueError("a model counts values that the codebook does not hold")
    return Histogram(values[torch.from_numpy(at)], torch.from_numpy(entries[held]))


def encode(symbols: Sequence[Tensor], counts: Sequence[Tensor]) -> bytes:
    """Entropy-code parts one after the other: int32 symbols ``[N]`` that occur ``counts`` ``[U]`` times each."""
    coder = constriction.stream.stack.AnsCoder()
    for part, occurring in reversed(list(zip(symbols, counts, strict=True))):
        if len(occurring) > 1:  # a single value needs no bits
            coder.encode_reverse(part.numpy(), _categorical(occurring))
    return coder.get_compressed().astype("<u4").tobytes()


def decode(stream: bytes, counts: Sequence[Tensor]) -> list[Tensor]:
    """The int32 symbols ``[N]`` of each part that :func:`encode` wrote.

    Raises:
        ValueError: if the decoded symbols do not occur as often as ``counts`` says, or some are left.
    """
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(stream, "<u4").astype(np.uint32))
    symbols = [_next(coder, occurring) for occurring in counts]
    if not coder.is_empty():
        raise ValueError("there are more indices than the codebook counts")
    return symbols


def _next(coder: Any, counts: Tensor) -> Tensor:
    total = int(counts.sum())
    if len(counts) < 2:
        return torch.zeros(total, dtype=torch.int32)
    symbols = coder.decode(_categorical(counts), total)
    # A coder that rounds its probabilities otherwise than the writer's would go wrong in silence.
    if not np.array_equal(np.bincount(symbols, minlength=len(counts)), counts.numpy()):
        raise ValueError("the indices do not occur as often as the codebook counts them")
    return torch.from_numpy(symbols)


def _categorical(counts: Tensor) -> Any:
    # Whole numbers below 2**53 add up exactly in float64, in any order; `perfect=False` then rounds each
    # cumulative sum once, by the same IEEE product everywhere.
    return constriction.stream.model.Categorical(counts.numpy().astype(np.float64), perfect=False)

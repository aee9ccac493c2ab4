"""What coding a weight by its neighbours would save over coding each tensor by its own counts.

``CONTEXT_OF=RUN/model.safetensors python -m pytest tests/benchmarks/test_context_benchmark.py -s`` prints bits a weight
of a fixed network. Both sides pay for their counts: the code length is that of an adaptive coder which starts every
context from ``PRIOR`` of each value (Krichevsky and Trofimov, 1981).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

PRIOR = 0.25


def code_length(symbols: Tensor, contexts: Tensor, size: int) -> float:
    """Bits of an adaptive code of integers below ``size``, with counts of its own for every context."""
    bits = 0.0
    for context in contexts.unique():
        counts = symbols[contexts == context].bincount(minlength=size).double()
        chances = (counts + PRIOR).lgamma().sum() - size * math.lgamma(PRIOR)
        bits -= float(chances - (counts.sum() + size * PRIOR).lgamma() + math.lgamma(size * PRIOR)) / math.log(2)
    return bits


def before(x: Tensor, axis: int) -> Tensor:
    """The neighbour before each element along an axis, 0 at the border."""
    return torch.cat((torch.zeros_like(x.narrow(axis, 0, 1)), x.narrow(axis, 0, x.shape[axis] - 1)), axis)


def contexts(w: Tensor) -> dict[str, Tensor]:
    """What a decoder knows of each weight's surroundings when it comes to it."""
    size = w.abs()
    thirds = torch.bucketize(size, size.flatten().quantile(torch.tensor([1 / 3, 2 / 3])))
    around = torch.stack([before(size, axis) for axis in range(w.dim())]).sum(0)
    row = size.flatten(1)
    mean = ((row.cumsum(1) - row) / torch.arange(row.shape[1]).clamp(min=1)).view_as(w)
    fifths = torch.tensor([0.2, 0.4, 0.6, 0.8])
    return {
        "tensor": torch.zeros_like(thirds),
        "neighbour in the row": before(thirds, w.dim() - 1),
        "same place, channel before": before(thirds, 1),
        "same place, row before": before(thirds, 0),
        "neighbours in all directions": torch.bucketize(around, around.flatten().quantile(fifths)),
        "mean of the row so far": torch.bucketize(mean, mean.flatten().quantile(fifths)),
    }


def test_code_length_by_hand() -> None:
    # a fair coin's four faces in a row, prior 1/4 of two: 1/2 * (5/4)/(3/2) * (9/4)/(5/2) * (13/4)/(7/2)
    bits = code_length(torch.zeros(4).long(), torch.zeros(4).long(), 2)
    assert math.isclose(bits, -math.log2(1 / 2 * 5 / 6 * 9 / 10 * 13 / 14), abs_tol=1e-9)


def test_savings() -> None:
    path = os.environ.get("CONTEXT_OF")
    if path is None:
        pytest.skip("CONTEXT_OF names no model.safetensors of a fixed network")
    weights = [w for w in load_file(Path(path)).values() if w.dim() > 1]
    values = torch.cat([w.flatten() for w in weights]).unique()
    totals: dict[str, float] = {}
    for w in weights:
        symbols = torch.searchsorted(values, w.contiguous()).flatten()
        for name, context in contexts(w).items():
            totals[name] = totals.get(name, 0.0) + code_length(symbols, context.flatten(), len(values))
    count = sum(w.numel() for w in weights)
    for name, bits in totals.items():
        print(f"{name}: {bits / count:.4f} bits a weight, {100 * (1 - bits / totals['tensor']):+.2f} % saved")

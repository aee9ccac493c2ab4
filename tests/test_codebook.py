"""Shared values and their indices: written and read back bit for bit, close to the entropy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pwfn import codebook


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int32)


def test_values_are_told_apart_by_bits() -> None:
    values, counts = codebook.counted({"a": torch.tensor([0.0, -0.0, 0.5]), "b": torch.tensor([[0.5, 0.5]])})
    found = dict(zip(bits(values).tolist(), counts.tolist(), strict=True))
    assert found == {0: 1, -(2**31): 1, bits(torch.tensor(0.5)).item(): 3}


def test_no_tensors_have_no_values() -> None:
    values, counts = codebook.counted({})
    assert len(values) == len(counts) == 0
    assert codebook.encode(torch.empty(0, dtype=torch.int32), counts) == b""
    assert len(codebook.decode(b"", counts)) == 0


def test_table_by_hand() -> None:
    """-0.375 = -(1/4 + 1/8), 0, 2: a sign, then the exponents."""
    table = json.loads(codebook.to_json(torch.tensor([-0.375, 0.0, -0.0, 2.0]), torch.tensor([3, 1, 1, 2])))
    assert table == {"counts": [3, 1, 1, 2], "sums": [[1, -2, -3], [0], [1], [0, 1]]}
    assert codebook.sum_of_powers([-2, -3], negative=True) == -0.375


def test_other_values_fall_back_to_floats() -> None:
    table = json.loads(codebook.to_json(torch.tensor([0.1, 0.5]), torch.tensor([1, 1])))
    assert table["float32"] == bits(torch.tensor([0.1, 0.5])).tolist()


@given(arrays(np.uint32, st.integers(0, 20)))
def test_any_float32_survives_the_table(patterns: np.ndarray) -> None:
    """Subnormals, infinities, NaN payloads and both zeros included."""
    values = torch.from_numpy(patterns.view(np.float32).copy())
    counts = torch.arange(len(values))
    back, counted = codebook.from_json(codebook.to_json(values, counts))
    assert torch.equal(bits(back), bits(values)) and torch.equal(counted, counts)


@given(st.lists(st.lists(st.integers(-149, 127), max_size=1), max_size=8), st.booleans())
def test_any_power_of_two_survives_as_a_sum(exponents: list[list[int]], negative: bool) -> None:
    values = torch.tensor([codebook.sum_of_powers(e, negative) for e in exponents], dtype=torch.float32)
    text = codebook.to_json(values, torch.ones(len(values), dtype=torch.int64))
    assert "sums" in json.loads(text)
    assert torch.equal(bits(codebook.from_json(text)[0]), bits(values))


@given(arrays(np.int16, st.integers(0, 300), elements=st.integers(-40, 40)))
def test_indices_come_back(numbers: np.ndarray) -> None:
    tensor = torch.from_numpy(numbers.astype(np.float32)) / 8
    values, counts = codebook.counted({"w": tensor})
    symbols = codebook.indices(tensor, values)
    assert torch.equal(values[symbols.long()], tensor)
    assert torch.equal(codebook.decode(codebook.encode(symbols, counts), counts), symbols)


def test_rare_values_among_millions() -> None:
    """Probabilities far below the coder's resolution of 2**-24 still decode."""
    counts = torch.tensor([1, 3_000_000, 1, 1])
    symbols = torch.repeat_interleave(torch.arange(4, dtype=torch.int32), counts)
    stream = codebook.encode(symbols, counts)
    assert len(stream) < 40  # entropy: 3 * 21.5 + 4.3 bits
    assert torch.equal(codebook.decode(stream, counts), symbols)


def test_many_values() -> None:
    counts = torch.ones(2**16, dtype=torch.int64)
    symbols = torch.randperm(2**16, dtype=torch.int32)
    stream = codebook.encode(symbols, counts)
    assert len(stream) <= 2 * 2**16 * 1.01
    assert torch.equal(codebook.decode(stream, counts), symbols)


def test_stream_of_an_older_coder_still_decodes() -> None:
    """The bytes of a stream are part of the file format; constriction 0.4.2 and 0.5.0 wrote these."""
    numbers = torch.tensor([i * i % 7 for i in range(60)])
    values, counts = torch.unique(numbers, return_counts=True)
    stream = bytes.fromhex("fb3397866cb560f5b19560ad73ca1a622b060000")
    assert codebook.encode(torch.bucketize(numbers, values).int(), counts) == stream
    assert torch.equal(values[codebook.decode(stream, counts).long()], numbers)


def test_a_coder_that_disagrees_is_noticed() -> None:
    counts = torch.tensor([50, 30, 20])
    symbols = torch.repeat_interleave(torch.arange(3, dtype=torch.int32), counts)
    stream = codebook.encode(symbols, counts)
    with pytest.raises(ValueError, match="counts them"):
        codebook.decode(stream, counts.flip(0))


def test_owners_of_tied_tensors() -> None:
    tied = torch.ones(4)
    state = {"a": tied, "b": tied.clone(), "c": tied, "d": tied[:2], "e": torch.empty(0), "f": torch.empty(0)}
    assert codebook.owners(state) == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "e", "f": "f"}

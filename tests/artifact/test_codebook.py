"""Shared values and their indices: written and read back bit for bit, close to the entropy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pwfn.artifact import codebook
from pwfn.artifact.codebook import Histogram


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int32)


def test_values_are_told_apart_by_bits() -> None:
    values, counts = codebook.counted({"a": torch.tensor([0.0, -0.0, 0.5]), "b": torch.tensor([[0.5, 0.5]])})
    found = dict(zip(bits(values).tolist(), counts.tolist(), strict=True))
    assert found == {0: 1, -(2**31): 1, bits(torch.tensor(0.5)).item(): 3}


def test_no_tensors_have_no_values() -> None:
    values, counts = codebook.counted({})
    assert len(values) == len(counts) == 0
    assert codebook.encode([], []) == b"" and codebook.decode(b"", []) == []
    assert codebook.encode([torch.empty(0, dtype=torch.int32)], [counts]) == b""
    assert [len(part) for part in codebook.decode(b"", [counts])] == [0]


def test_table_by_hand() -> None:
    """-0.375 = -(1/4 + 1/8), 0, 2: a sign, then the exponents; ordered by bits as int32."""
    values, counts = torch.tensor([-0.0, -0.375, 0.0, 2.0]), torch.tensor([1, 3, 1, 2])
    table = json.loads(codebook.to_json(values, [Histogram(values, counts)]))
    assert table == {"counts": [[1, 3, 1, 2]], "sums": [[1], [1, -2, -3], [0], [0, 1]]}
    assert codebook.sum_of_powers([-2, -3], negative=True) == -0.375


def test_models_of_tensors_by_hand() -> None:
    """Of the values 1 to 6 the tensors hold 2 and 3, all, 6, and none."""
    values = torch.arange(1.0, 7.0)
    rows = [[-1, 5, 4], [1, 2, 3, 4, 5, 6], [-5, 9], []]
    models = codebook.from_json(
        json.dumps({"counts": rows, "sums": [[0, 0], [0, 1], [0, 1, 0], [0, 2], [0, 2, 0], [0, 2, 1]]})
    )
    assert [model.values.tolist() for model in models] == [[2, 3], [1, 2, 3, 4, 5, 6], [6], []]
    assert [model.counts.tolist() for model in models] == [[5, 4], [1, 2, 3, 4, 5, 6], [9], []]
    assert json.loads(codebook.to_json(values, models))["counts"] == rows


@pytest.mark.parametrize("row", [[0, 1], [1, 1, 1], [-2, 1], [-(2**62), -(2**62), 1]])
def test_models_that_do_not_fit_the_values(row: list[int]) -> None:
    with pytest.raises(ValueError, match=r"does not hold|integers"):
        codebook.from_json(json.dumps({"counts": [row], "sums": [[0, 0], [0, 1]]}))


def test_other_values_fall_back_to_floats() -> None:
    whole = codebook.counted({"w": torch.tensor([0.1, 0.5])})
    table = json.loads(codebook.to_json(whole.values, [whole]))
    assert table["float32"] == bits(torch.tensor([0.1, 0.5])).tolist()


@given(st.lists(arrays(np.uint32, st.integers(0, 20)), max_size=4))
def test_any_float32_survives_the_table(patterns: list[np.ndarray]) -> None:
    """Subnormals, infinities, NaN payloads and both zeros included; counted together or tensor by tensor."""
    tensors = {str(i): torch.from_numpy(part.view(np.float32).copy()) for i, part in enumerate(patterns)}
    whole = codebook.counted(tensors)
    for models in ([whole], [codebook.counted({name: tensor}) for name, tensor in tensors.items()]):
        back = codebook.from_json(codebook.to_json(whole.values, models))
        for found, model in zip(back, models, strict=True):
            assert torch.equal(bits(found.values), bits(model.values)) and torch.equal(found.counts, model.counts)


@given(st.lists(st.lists(st.integers(-149, 127), max_size=1), max_size=8), st.booleans())
def test_any_power_of_two_survives_as_a_sum(exponents: list[list[int]], negative: bool) -> None:
    values, counts = codebook.counted({"w": torch.tensor([codebook.sum_of_powers(e, negative) for e in exponents])})
    text = codebook.to_json(values, [Histogram(values, counts)])
    assert "sums" in json.loads(text)
    assert torch.equal(bits(codebook.from_json(text)[0].values), bits(values))


@given(st.lists(arrays(np.int16, st.integers(0, 300), elements=st.integers(-40, 40)), max_size=5))
def test_indices_come_back(numbers: list[np.ndarray]) -> None:
    """With a model for each part; parts without weights and of a single value included."""
    parts = [torch.from_numpy(part.astype(np.float32)) / 8 for part in numbers]
    models = [codebook.counted({"w": part}) for part in parts]
    symbols = [codebook.indices(part, model.values) for part, model in zip(parts, models, strict=True)]
    counts = [model.counts for model in models]
    back = codebook.decode(codebook.encode(symbols, counts), counts)
    assert all(map(torch.equal, back, symbols)) and len(back) == len(parts)
    assert all(torch.equal(m.values[s.long()], part) for m, s, part in zip(models, back, parts, strict=True))


def test_a_stream_takes_one_model_or_several() -> None:
    """Zeros cost nothing by themselves and four equal shares 2 bits a weight; together all cost 1.55 bits."""
    parts = [torch.zeros(1 << 12, dtype=torch.int32), torch.arange(1 << 12, dtype=torch.int32) % 4]
    apart = codebook.encode(parts, [torch.tensor([1 << 12]), torch.tensor([1 << 10] * 4)])
    assert 1024 <= len(apart) <= 1024 + 8
    together = torch.cat(parts)
    assert len(codebook.encode([together], [together.bincount()])) > 1.5 * len(apart)


def test_rare_values_among_millions() -> None:
    """Probabilities far below the coder's resolution of 2**-24 still decode."""
    counts = torch.tensor([1, 3_000_000, 1, 1])
    symbols = torch.repeat_interleave(torch.arange(4, dtype=torch.int32), counts)
    stream = codebook.encode([symbols], [counts])
    assert len(stream) < 40  # entropy: 3 * 21.5 + 4.3 bits
    assert torch.equal(codebook.decode(stream, [counts])[0], symbols)


def test_many_values() -> None:
    counts = torch.ones(2**16, dtype=torch.int64)
    symbols = torch.randperm(2**16, dtype=torch.int32)
    stream = codebook.encode([symbols], [counts])
    assert len(stream) <= 2 * 2**16 * 1.01
    assert torch.equal(codebook.decode(stream, [counts])[0], symbols)


def test_stream_of_an_older_coder_still_decodes() -> None:
    """The bytes of a stream are part of the file format; constriction 0.4.2 and 0.5.0 wrote these."""
    numbers = torch.tensor([i * i % 7 for i in range(60)])
    values, counts = torch.unique(numbers, return_counts=True)
    stream = bytes.fromhex("fb3397866cb560f5b19560ad73ca1a622b060000")
    assert codebook.encode([torch.bucketize(numbers, values).int()], [counts]) == stream
    assert torch.equal(values[codebook.decode(stream, [counts])[0].long()], numbers)


def test_a_coder_that_disagrees_is_noticed() -> None:
    counts = torch.tensor([50, 30, 20])
    symbols = torch.repeat_interleave(torch.arange(3, dtype=torch.int32), counts)
    stream = codebook.encode([symbols], [counts])
    with pytest.raises(ValueError, match="counts them"):
        codebook.decode(stream, [counts.flip(0)])
    with pytest.raises(ValueError, match="more indices"):
        codebook.decode(stream, [])

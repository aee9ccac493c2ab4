"""The sort by bits against torch's own."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import torch
from hypothesis import given

from pwfn.kernels.sorting import stable_sort

FLOATS = st.floats(allow_nan=False, allow_subnormal=False, width=32)  # some libraries flush subnormal numbers to 0


@given(st.lists(FLOATS | st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf]), max_size=50))
def test_values_and_places_are_those_of_a_stable_sort(numbers: list[float]) -> None:
    w = torch.tensor(numbers, dtype=torch.float32)
    kept = w.clone()
    values, places = stable_sort(w)
    expected = w.sort(stable=True)
    assert torch.equal(values, expected.values) and torch.equal(places, expected.indices)
    assert torch.equal(w.view(torch.int32), kept.view(torch.int32))


def test_by_hand() -> None:
    values, places = stable_sort(torch.tensor([2.0, -1.0, 0.0, -0.0, -3.0, 2.0]))
    assert values.tolist() == [-3, -1, 0, 0, 2, 2] and places.tolist() == [4, 1, 2, 3, 0, 5]

"""The two ways of each operation agree; the other way is the GPU's, tried here on the CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pwfn.kernels import deterministic
from pwfn.kernels.deterministic import cumsum, group_sum, kthvalue

NUMBERS = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deterministic, "_refused", lambda x: True)


def test_known_values() -> None:
    x = torch.tensor([3.0, -1.0, 2.0, 2.0], dtype=torch.float64)
    assert [float(kthvalue(x, k)) for k in (1, 2, 3, 4)] == [-1, 2, 2, 3]
    assert cumsum(x).tolist() == [0, 3, 2, 4, 6]
    assert group_sum(x, torch.tensor([1, 0, 1, 3]), 5).tolist() == [-1, 5, 0, 2, 0]


@pytest.mark.usefixtures("refused")
def test_known_values_the_other_way() -> None:
    test_known_values()


@given(NUMBERS, st.data())
def test_both_ways_agree(numbers: list[float], data: st.DataObject) -> None:
    x = torch.tensor(numbers, dtype=torch.float64)
    k = data.draw(st.integers(1, len(x)))
    group = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=len(x), max_size=len(x))))
    usual = kthvalue(x, k), cumsum(x), group_sum(x, group, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deterministic, "_refused", lambda x: True)
        other = kthvalue(x, k), cumsum(x), group_sum(x, group, 4)
    assert all(a.equal(b) for a, b in zip(usual[:2], other[:2], strict=True))
    torch.testing.assert_close(usual[2], other[2], rtol=0, atol=1e-9)

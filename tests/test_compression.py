from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pwfn import compression

W = torch.tensor([[0.0, 0.5, 0.5, -0.5], [0.0, 0.75, 0.0, 0.0]])  # 0 four times, 1/2 twice, -1/2, 3/4


def test_by_hand() -> None:
    assert compression.unique(W) == 4 and compression.unique(W, zeros=False) == 3
    # p = 1/2 1/4 1/8 1/8: 1/2 * 1 + 1/4 * 2 + 2 * 1/8 * 3 = 1.75 bits; without zeros 1/2 1/4 1/4: 1.5 bits
    assert compression.entropy(W) == pytest.approx(1.75)
    assert compression.entropy(W, zeros=False) == pytest.approx(1.5)
    assert compression.order_shares(W) == {0: 0.5, 1: 0.375, 2: 0.125}
    assert compression.sharing(W.flatten()) == pytest.approx(
        {"unique": 4, "unique_nonzero": 3, "entropy": 1.75, "entropy_nonzero": 1.5, "zeros": 4}
    )


def test_minus_zero_is_zero() -> None:
    assert compression.unique(torch.tensor([0.0, -0.0])) == 1
    assert compression.sharing(torch.tensor([0.0, -0.0, 1.0]))["zeros"] == 2


def test_empty() -> None:
    assert compression.unique(torch.empty(0)) == 0 and compression.entropy(torch.empty(0)) == 0
    assert compression.entropy(torch.zeros(3), zeros=False) == 0


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.75, 1.0]), min_size=1, max_size=60))
def test_bounds(values: list[float]) -> None:
    w = torch.tensor(values)
    unique, bits = compression.unique(w), compression.entropy(w)
    assert -1e-9 <= bits <= math.log2(unique) + 1e-9
    assert unique - compression.unique(w, zeros=False) == int(0.0 in values)
    assert sum(compression.order_shares(w).values()) == pytest.approx(1)
    assert compression.entropy(w.repeat(3)) == pytest.approx(bits)

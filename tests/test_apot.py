"""Candidate sets against sums worked by hand and against plain enumeration; orders against candidate sets."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from itertools import combinations_with_replacement

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pwfn import apot
from pwfn.apot import candidates, order_of, terms

EIGHTHS = {  # largest, order -> positive candidates in eighths, min_exponent -3
    (1.0, 1): [1, 2, 4],
    (1.0, 2): [1, 2, 3, 4, 5, 6, 8],  # 8 = 4 + 4: the power 1 itself is not in the list of powers
    (1.0, 3): [1, 2, 3, 4, 5, 6, 7, 8],
    (0.9, 3): [1, 2, 3, 4, 5, 6, 7],
    (1.1, 1): [1, 2, 4, 8],
    (1.1, 4): [1, 2, 3, 4, 5, 6, 7, 8],
    (0.5, 1): [1, 2],
    (0.5, 2): [1, 2, 3, 4],
    (0.125, 4): [],  # the list of powers is empty
    (0.13, 1): [1],
    (0.01, 4): [],
    (0.0, 2): [],
}


@pytest.mark.parametrize(("largest", "order"), EIGHTHS)
def test_candidates_by_hand(largest: float, order: int) -> None:
    positive = EIGHTHS[largest, order]
    expected = [-k / 8 for k in reversed(positive)] + [0.0] + [k / 8 for k in positive]
    result = candidates(largest, order, min_exponent=-3)
    assert result.dtype == torch.float64
    assert result.tolist() == expected


@given(largest=st.floats(0.0, 40.0), order=st.integers(1, 4), min_exponent=st.integers(-6, 2))
@settings(max_examples=100, deadline=None)
def test_candidates_are_all_sums(largest: float, order: int, min_exponent: int) -> None:
    powers: list[float] = []
    k = min_exponent
    while largest > 0 and 2.0**k < largest:  # k <= ceil(log2(largest)) - 1
        powers.append(2.0**k)
        k += 1
    sums = {sum(pick) for pick in combinations_with_replacement([0.0, *powers], order)}
    expected = sorted({sign * value for value in sums if value <= largest for sign in (-1.0, 1.0)})
    assert candidates(largest, order, min_exponent=min_exponent).tolist() == expected


def test_candidates_are_exact_over_the_whole_mantissa() -> None:
    result = candidates(2.0**45, 2, min_exponent=-7)
    assert (result == 2.0**44 + 2.0**-7).any()
    assert result.unique().numel() == result.numel()


@pytest.mark.parametrize(
    "call",
    [
        lambda: candidates(-1.0, 1, min_exponent=-7),
        lambda: candidates(math.nan, 1, min_exponent=-7),
        lambda: candidates(math.inf, 1, min_exponent=-7),
        lambda: candidates(1.0, 0, min_exponent=-7),
        lambda: candidates(1.0, 1, min_exponent=-60),
        lambda: order_of(torch.tensor([1.0, math.nan])),
        lambda: terms(math.inf),
    ],
)
def test_bad_input(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"largest|order|float64|finite"):
        call()


def test_order_by_hand() -> None:
    values = torch.tensor([[0.0, 1.0, -0.25, 3.0], [-0.75, 0.875, 7 / 128, 15.0]])
    assert order_of(values).tolist() == [[0, 1, 1, 2], [2, 3, 3, 4]]
    assert order_of(torch.tensor(1e-40)).item() == len(terms(float(torch.tensor(1e-40))))  # subnormal


def test_order_is_the_first_candidate_set_that_holds_the_value() -> None:
    sets = [candidates(3.0, order, min_exponent=-5) for order in range(1, 5)]
    first = torch.full((sets[-1].numel(),), 4)
    for order in (3, 2, 1):
        first[torch.isin(sets[-1], sets[order - 1])] = order
    first[sets[-1] == 0] = 0
    assert order_of(sets[-1]).equal(first)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_terms_sum_to_the_value(value: float) -> None:
    exponents = terms(value)
    assert math.fsum(math.ldexp(1.0, k) for k in exponents) == abs(value)
    assert exponents == sorted(set(exponents), reverse=True)
    assert len(exponents) == order_of(torch.tensor(value, dtype=torch.float64)).item()


def test_doctest() -> None:
    assert doctest.testmod(apot).failed == 0

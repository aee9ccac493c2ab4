"""The round against golden files, a dense float64 search, cases worked by hand, and what must always hold."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pwfn.apot import candidates, order_of
from pwfn.assignment import Assignment
from pwfn.clustering import assign
from pwfn.kernels import chunks, intervals


def dense_assign(
    mu: Tensor,
    sigma: Tensor,
    fraction: float,
    *,
    delta: float = 1.0,
    min_exponent: int = -7,
    growth: float = 2.0,
    max_order: int = 4,
    zero_fix: bool = True,
    max_unique: int | None = None,
) -> tuple[Tensor, list[tuple[float, int, int, float]]]:
    """The definition, word for word: a float64 table of all distances, one search per pick.

    Returns the group of every weight and (centroid, count, order, reach) of every group.
    """

    def table(centroids: Tensor, m: Tensor, s: Tensor) -> Tensor:
        distance = (centroids[:, None] - m).abs() / s
        if zero_fix:
            distance[(centroids == 0)[:, None] & (m.abs() < 2.0**min_exponent)] = 0
        return distance

    mu, sigma = mu.double(), sigma.double().clamp(min=2.0**-20)
    group = torch.full((len(mu),), -1)
    groups: list[tuple[float, int, int, float]] = []
    left = math.ceil(Fraction(repr(fraction)) * len(mu))
    order, reach, turn = 1, delta, 0
    while left > 0 and len({c for c, *_ in groups}) != max_unique:
        largest = mu[group < 0].abs().max().item()
        grid = candidates(largest, order, min_exponent=min_exponent)
        free = (group < 0).nonzero().squeeze(1)
        distance = table(grid, mu[free], sigma[free])
        inside = distance <= reach
        while left > 0 and (counts := inside.sum(1)).max() > 0 and len({c for c, *_ in groups}) != max_unique:
            best = int(counts.argmax())
            members = inside[best].nonzero().squeeze(1)
            members = members[distance[best, members].sort(stable=True).indices[:left]]
            group[free[members]] = len(groups)
            groups.append((grid[best].item(), len(members), order, reach))
            left -= len(members)
            inside[:, members] = False
        turn += 1
        if turn % 2 == 1 and order < max_order:
            order += 1
        else:
            turn, reach = 0, reach * growth
    if left > 0:
        book = torch.tensor(sorted({c for c, *_ in groups}), dtype=torch.float64)
        free = (group < 0).nonzero().squeeze(1)
        nearest, which = table(book, mu[free], sigma[free]).min(0)
        chosen = nearest.sort(stable=True).indices[:left]
        order = groups[-1][2]
        for i in which[chosen].unique().tolist():
            members = chosen[which[chosen] == i]
            group[free[members]] = len(groups)
            groups.append((book[i].item(), len(members), order, nearest[members].max().item()))
    return group, groups


def check_same(result: Assignment, mu: Tensor, sigma: Tensor, fraction: float, **options: Any) -> None:
    group, groups = dense_assign(mu, sigma, fraction, **options)
    assert result.group.tolist() == group.tolist()
    columns = (result.centroids, result.counts, result.orders, result.reaches)
    for column, expected in zip(columns, zip(*groups, strict=True) if groups else [()] * 4, strict=True):
        assert column.equal(torch.tensor(expected).to(column.dtype))
    check_invariants(result, mu, fraction)


def check_invariants(result: Assignment, mu: Tensor, fraction: float) -> None:
    assert result.values.dtype == result.centroids.dtype == result.reaches.dtype == torch.float32
    assert result.fixed.dtype == torch.bool
    assert result.group.dtype == torch.int32
    assert result.counts.dtype == result.orders.dtype == torch.int64
    assert int(result.fixed.sum()) == math.ceil(Fraction(repr(fraction)) * len(mu))
    assert result.fixed.equal(result.group >= 0)
    assert result.values[~result.fixed].equal(mu[~result.fixed])
    assert result.values[result.fixed].equal(result.centroids[result.group[result.fixed].long()])
    members = torch.bincount(result.group[result.fixed], minlength=len(result.counts))
    assert result.counts.equal(members)
    assert (members > 0).all()
    assert (order_of(result.centroids) <= result.orders).all()


def layers(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weights of several scales, normal and heavy-tailed, with sigmas from near 0 to 0.05."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.02, 0.05, 0.2, 0.8]).repeat_interleave(-(-n // 4))[:n]
    mu = scale * torch.randn(n, generator=generator)
    mu[::7] *= torch.rand(len(mu[::7]), generator=generator).reciprocal().clamp(max=10)
    sigma = 0.05 * torch.rand(n, generator=generator) ** 4
    return mu, sigma


@pytest.mark.parametrize("number", range(10))
def test_golden(shared: Path, number: int) -> None:
    data = np.load(shared / "golden" / f"pwfn_{number:02}.npz")
    mu, sigma = torch.from_numpy(data["mu"]), torch.from_numpy(data["sigma"])
    result = assign(
        mu,
        sigma,
        float(data["p"]),
        delta=float(data["delta"]),
        min_exponent=-int(data["b"]),
        growth=float(data["inc"]),
        zero_fix=bool(data["zero_fix"]),
    )
    assert result.values.equal(torch.from_numpy(data["mu_out"]))
    assert result.fixed.equal(torch.from_numpy(data["fixed"]))
    check_invariants(result, mu, float(data["p"]))


SPECIAL = [0.0, 1.0, -1.0, 0.5, 0.125, 0.0625, 3 / 32, -7 / 64, 2.5, -0.125 - 2.0**-20, 1e-30]
values = st.one_of(
    st.sampled_from(SPECIAL),
    st.integers(-80, 80).map(lambda k: k / 64),
    st.floats(-1.5, 1.5, width=32),
)
sigmas = st.one_of(
    st.sampled_from([0.0, 2.0**-30, 2.0**-20, 2.0**-6, 2.0**-5, 0.03125, 0.05, 0.75]),
    st.floats(0.0, 0.25, width=32),
)


@given(
    pairs=st.lists(st.tuples(values, sigmas), min_size=1, max_size=60),
    fraction=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1).map(lambda p: round(p, 3))),
    delta=st.sampled_from([0.25, 0.3, 1.0, 2.0]),
    growth=st.sampled_from([1.5, 2.0, 3.0]),
    min_exponent=st.integers(-6, -2),
    max_order=st.integers(1, 4),
    zero_fix=st.booleans(),
    max_unique=st.one_of(st.none(), st.integers(1, 12)),
)
@settings(max_examples=300, deadline=None)
def test_same_as_dense_search(pairs: list[tuple[float, float]], fraction: float, **options: Any) -> None:
    mu, sigma = torch.tensor(pairs).T.contiguous()
    check_same(assign(mu, sigma, fraction, **options), mu, sigma, fraction, **options)


@pytest.mark.parametrize("fraction", [0.1, 0.35, 0.95, 1.0])
@pytest.mark.parametrize("delta", [1.0, 0.3])
def test_same_as_dense_search_on_layers(fraction: float, delta: float) -> None:
    mu, sigma = layers(4000, seed=3)  # more weights than multiples of the step: ranks are looked up
    check_same(assign(mu, sigma, fraction, delta=delta), mu, sigma, fraction, delta=delta)


def test_boundaries_that_float32_gets_wrong() -> None:
    sigma = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) * 0.05 + 2.0**-12
    mu = 0.5 - sigma  # in float32; the true distance to 1/2 is a rounding error above or below sigma
    mu[::2] = torch.nextafter(mu[::2], torch.tensor(torch.inf))
    check_same(assign(mu, sigma, 0.7), mu, sigma, 0.7)
    check_same(assign(mu, sigma, 0.7, delta=1.5**3), mu, sigma, 0.7, delta=1.5**3)


def test_counting_by_sorting_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mu, sigma = layers(3000, seed=5)
    expected = assign(mu, sigma, 0.9)
    monkeypatch.setattr(intervals, "TABLE_LIMIT", 0)
    monkeypatch.setattr(chunks, "CPU", 700)
    result = assign(mu, sigma, 0.9)
    assert result.group.equal(expected.group)
    assert result.centroids.equal(expected.centroids)


def test_worked_by_hand() -> None:
    # M = 5/8, so the powers are 1/4 and 1/2. Distances to 1/2: 1, 1, 1/8; of the fourth to -1/4: 1/2.
    mu = torch.tensor([0.4375, 0.625, 0.515625, -0.3125, 0.05])
    sigma = torch.tensor([0.0625, 0.125, 0.125, 0.125, 2.0**-10])
    result = assign(mu, sigma, 1.0, min_exponent=-2)
    assert result.values.tolist() == [0.5, 0.5, 0.5, -0.25, 0.0]  # the last by zero_fix
    assert result.centroids.tolist() == [0.5, -0.25, 0.0]
    assert result.counts.tolist() == [3, 1, 1]
    assert result.orders.tolist() == [1, 1, 1]
    assert result.reaches.tolist() == [1.0, 1.0, 1.0]
    assert result.group.tolist() == [0, 0, 0, 1, 2]

    two = assign(mu, sigma, 0.4, min_exponent=-2)  # the nearest two of three, the first on a tie
    assert two.group.tolist() == [0, -1, 0, -1, -1]
    assert two.values.tolist() == pytest.approx([0.5, 0.625, 0.5, -0.3125, 0.05])

    one = assign(mu, sigma, 1.0, min_exponent=-2, max_unique=1)
    assert one.values.tolist() == [0.5] * 5
    assert one.centroids.tolist() == [0.5, 0.5]
    assert one.counts.tolist() == [3, 2]
    assert one.reaches.tolist() == pytest.approx([1.0, 0.45 * 1024])


def test_order_and_reach_are_raised_in_turn() -> None:
    # 11/16 is a sum of three powers; 0.69 is 5/3 sigmas away, so it waits for order 3 and twice the reach.
    mu, sigma = torch.tensor([0.69, 1.0]), torch.tensor([0.0015, 0.0015])
    result = assign(mu, sigma, 1.0, min_exponent=-4)
    assert result.values.tolist() == [0.6875, 1.0]
    assert result.group.tolist() == [1, 0]
    assert result.orders.tolist() == [2, 3]  # M = 1 itself is a sum of two
    assert result.reaches.tolist() == [1.0, 2.0]
    capped = assign(mu, sigma, 1.0, min_exponent=-4, max_order=2)
    assert capped.values.tolist() == [0.625, 1.0]  # 5/8 is 43 sigmas away, 3/4 is 40: a tie at 64
    assert capped.reaches.tolist() == [1.0, 64.0]


def test_lowest_centroid_first_on_a_tie() -> None:
    result = assign(torch.tensor([0.5, -0.5, 0.9]), torch.full((3,), 1e-3), 0.3)
    assert result.values.tolist() == pytest.approx([0.5, -0.5, 0.9])
    assert result.centroids.tolist() == [-0.5]


@pytest.mark.parametrize("value", [0.0, 0.3, -0.25, 2.0**-7, 2.0**-9, 100.0, 1e-40])
@pytest.mark.parametrize("n", [1, 5, 500])
def test_all_equal(value: float, n: int) -> None:
    mu, sigma = torch.full((n,), value), torch.full((n,), 2.0**-30)
    for fraction in (0.5, 1.0):
        check_same(assign(mu, sigma, fraction), mu, sigma, fraction)


def test_empty_and_nothing_wanted() -> None:
    for mu in (torch.empty(0), torch.randn(4)):
        result = assign(mu, mu.abs(), 0.0)
        assert result.values.equal(mu)
        assert len(result.centroids) == 0
        check_invariants(result, mu, 0.0)
    assert len(assign(torch.empty(0), torch.empty(0), 1.0).values) == 0


@pytest.mark.parametrize(("fraction", "n", "fixed"), [(0.55, 100, 55), (0.1, 3, 1), (0.07, 100, 7), (0.001, 10, 1)])
def test_the_fraction_is_a_decimal(fraction: float, n: int, fixed: int) -> None:
    assert int(assign(torch.randn(n), torch.rand(n), fraction).fixed.sum()) == fixed


def test_wide_range() -> None:
    mu = torch.cat((layers(300, seed=1)[0], torch.tensor([900.0, -70_000.0, 131_072.0])))
    sigma = torch.full_like(mu, 2.0**-7)
    check_same(assign(mu, sigma, 1.0, max_order=2), mu, sigma, 1.0, max_order=2)


@pytest.mark.parametrize("limit", [1, 3, 20])
@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_max_unique(limit: int, fraction: float) -> None:
    mu, sigma = layers(3000, seed=8)
    result = assign(mu, sigma, fraction, max_unique=limit)
    assert len(result.centroids.unique()) <= limit
    check_same(result, mu, sigma, fraction, max_unique=limit)


def test_inputs_are_left_alone() -> None:
    mu, sigma = layers(1000, seed=2)
    copies = mu.clone(), sigma.clone()
    result = assign(mu.requires_grad_(), sigma, 0.5)
    assert not result.values.requires_grad
    assert mu.equal(copies[0])
    assert sigma.equal(copies[1])


def test_order_of_the_weights_does_not_matter() -> None:
    mu, sigma = layers(2000, seed=4)
    shuffle = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    assert assign(mu[shuffle], sigma[shuffle], 1.0).group.equal(assign(mu, sigma, 1.0).group[shuffle])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [{}, {"max_unique": 20}, {"delta": 0.3, "zero_fix": False}])
def test_same_on_a_gpu(options: dict[str, Any]) -> None:
    mu, sigma = layers(100_000, seed=6)
    for fraction in (0.4, 1.0):
        expected = assign(mu, sigma, fraction, **options)
        result = assign(mu.cuda(), sigma.cuda(), fraction, **options)
        assert result.group.is_cuda
        assert result.group.cpu().equal(expected.group)
        assert result.values.cpu().equal(expected.values)


ONE = torch.ones(3)


@pytest.mark.parametrize(
    ("mu", "sigma", "fraction", "options", "message"),
    [
        (ONE, ONE, -0.1, {}, "fraction"),
        (ONE, ONE, 1.1, {}, "fraction"),
        (ONE, ONE, math.nan, {}, "fraction"),
        (ONE, ONE, 0.5, {"delta": 0.0}, "delta"),
        (ONE, ONE, 0.5, {"delta": math.inf}, "delta"),
        (ONE, ONE, 0.5, {"growth": 1.0}, "growth"),
        (ONE, ONE, 0.5, {"max_order": 0}, "max_order"),
        (ONE, ONE, 0.5, {"max_unique": 0}, "max_unique"),
        (ONE[None], ONE[None], 0.5, {}, "vector"),
        (ONE.double(), ONE, 0.5, {}, "float32"),
        (ONE, torch.ones(2), 0.5, {}, "length"),
        (torch.tensor([1.0, math.nan, 1.0]), ONE, 0.5, {}, "mu must be finite"),
        (ONE, torch.tensor([1.0, math.inf, 1.0]), 0.5, {}, "sigma must be finite"),
        (200_000 * ONE, ONE, 0.5, {}, "must not exceed"),
    ],
)
def test_bad_input(mu: Tensor, sigma: Tensor, fraction: float, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(mu, sigma, fraction, **options)

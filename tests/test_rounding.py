"""Untrained baselines against loops over every weight and every value."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from pwfn import rounding
from pwfn.assignment import Assignment


def check(w: Tensor, found: Assignment) -> None:
    """What holds for every rounding: all fixed, groups by ascending value, none empty, counts that fit."""
    assert found.fixed.all()
    assert torch.equal(found.values, found.centroids[found.group])
    assert torch.equal(found.centroids, found.centroids.unique())
    assert torch.equal(found.counts, found.group.bincount(minlength=len(found.counts)))
    assert (found.counts > 0).all()
    away = (w - found.values).abs()
    for g, reach in enumerate(found.reaches):
        assert away[found.group == g].max() == reach


def vector(seed: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(n, generator=generator) * 0.2
    w[torch.rand(n, generator=generator) < 0.2] = 0.25  # repetitions
    return w


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 80), order=st.integers(1, 3), min_exponent=st.integers(-8, -2))
def test_apot_round_is_the_nearest_value(seed: int, n: int, order: int, min_exponent: int) -> None:
    w = vector(seed, n)
    found = rounding.apot_round(w, order=order, min_exponent=min_exponent)
    grid = {
        sum(powers) for powers in combinations_with_replacement([0.0, *(2.0**k for k in range(min_exponent, 3))], order)
    }
    grid |= {-value for value in grid}
    for before, after in zip(w.tolist(), found.values.tolist(), strict=True):
        assert after == min(grid, key=lambda c: (abs(c - before), c))
    check(w, found)
    assert (found.orders == order).all()


def test_apot_round_by_hand() -> None:
    """Powers 1/4, 1/2, 1: 0.375 lies in the middle, the lower value wins, on either side of 0."""
    w = torch.tensor([0.375, -0.375, 0.8, 0.95, 0.1, -0.6])
    found = rounding.apot_round(w, order=1, min_exponent=-2)
    assert found.values.tolist() == [0.25, -0.5, 1.0, 1.0, 0.0, -0.5]  # 1 is above the largest weight
    assert found.centroids.tolist() == [-0.5, 0.0, 0.25, 1.0]
    assert found.counts.tolist() == [2, 1, 1, 2]
    assert found.reaches.tolist() == pytest.approx([0.125, 0.1, 0.125, 0.2])
    finer = rounding.apot_round(w, order=2, min_exponent=-2)
    assert finer.values.tolist() == [0.25, -0.5, 0.75, 1.0, 0.0, -0.5]


@pytest.mark.parametrize(("w", "expected"), [(0.0, 0.0), (0.003, 0.0), (0.005, 2**-7), (1.0, 1.0), (-3.1, -4.0)])
def test_apot_round_of_one_weight(w: float, expected: float) -> None:
    assert rounding.apot_round(torch.tensor([w]), order=1).values.tolist() == [expected]


def slow_means(w: np.ndarray, mass: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Lloyd's update of sorted centroids, weight by weight (the lower centroid on a tie)."""
    members: list[list[int]] = [[] for _ in centroids]
    for i, value in enumerate(w):
        members[int(np.abs(value - centroids).argmin())].append(i)
    return np.array([np.average(w[m], weights=mass[m]) for m in members])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 200), k=st.integers(1, 20), weighted=st.booleans())
def test_kmeans_is_a_fixed_point(seed: int, n: int, k: int, weighted: bool) -> None:
    """Each weight sits with its nearest centroid, and each centroid is the mean of its weights."""
    w = vector(seed, n)
    mass = torch.rand(n, generator=torch.Generator().manual_seed(seed)) * 10 + 0.1
    found = rounding.kmeans(w, clusters=k, weights=mass if weighted else None, seed=seed % 1000)
    check(w, found)
    assert len(found.centroids) == min(k, len(w.unique()))
    assert (found.orders == 0).all()
    centroids = found.centroids.double()
    away = (w[:, None].double() - centroids).abs()
    assert ((w - found.values).abs() <= away.min(1).values.float() * (1 + 1e-6)).all()
    weights = mass.double().numpy() if weighted else np.ones(n)
    means = slow_means(w.double().numpy(), weights, centroids.numpy())
    np.testing.assert_allclose(means, centroids, rtol=1e-5, atol=1e-7)


def test_kmeans_by_hand() -> None:
    w = torch.tensor([0.0, 5.0, 1.0, 6.0, 0.5])
    found = rounding.kmeans(w, clusters=2)
    assert found.centroids.tolist() == [0.5, 5.5]
    assert found.group.tolist() == [0, 1, 0, 1, 0]
    weighted = rounding.kmeans(w, clusters=2, weights=torch.tensor([1.0, 3.0, 1.0, 1.0, 2.0]))
    assert weighted.centroids.tolist() == [0.5, 5.25]
    assert rounding.kmeans(w, clusters=1).centroids.tolist() == [2.5]


def test_integer_weights_are_repetitions() -> None:
    """A weight of 3 is the same as three weights (two clear clusters, so that the start does not matter)."""
    w = torch.randn(200, generator=torch.Generator().manual_seed(3))
    w += 10 * w.sign()
    times = torch.randint(1, 5, (200,), generator=torch.Generator().manual_seed(4))
    weighted = rounding.kmeans(w, clusters=2, weights=times)
    repeated = rounding.kmeans(w.repeat_interleave(times), clusters=2)
    torch.testing.assert_close(weighted.centroids, repeated.centroids)


def test_kmeans_is_deterministic_under_its_seed() -> None:
    w = vector(0, 5000)
    first, again, other = (rounding.kmeans(w, clusters=30, seed=s).centroids for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("clusters", [8, 32, 128])
def test_kmeans_is_as_good_as_scikit_learn(clusters: int) -> None:
    w = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 0.05
    ours = rounding.kmeans(w, clusters=clusters)
    error = float((w - ours.values).double().square().sum())
    theirs = KMeans(clusters, n_init=1, random_state=0).fit(w[:, None].numpy()).inertia_
    assert error < 1.03 * theirs


def test_unused_centroids_move() -> None:
    """Two far outliers and few distinct weights: all of k are used, or all distinct weights have their own."""
    w = torch.cat((torch.zeros(1000), torch.tensor([1e-3, 2e-3, 100.0, -100.0])))
    assert rounding.kmeans(w, clusters=5).centroids.tolist() == w.unique().tolist()
    assert rounding.kmeans(w, clusters=50).centroids.tolist() == w.unique().tolist()


def test_weights_of_zero_do_not_count() -> None:
    w = torch.tensor([0.0, 1.0, 10.0, 11.0])
    found = rounding.kmeans(w, clusters=2, weights=torch.tensor([1.0, 0.0, 0.0, 1.0]))
    assert found.values.tolist() == [0, 0, 11, 11]


def test_no_weights() -> None:
    for found in (rounding.apot_round(torch.empty(0), order=1), rounding.kmeans(torch.empty(0), clusters=3)):
        assert found.values.shape == found.group.shape == found.counts.shape == (0,)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("w", {"w": torch.zeros(2, 2)}),
        ("w", {"w": torch.zeros(2, dtype=torch.float64)}),
        ("w", {"w": torch.tensor([1.0, math.nan])}),
        ("clusters", {"clusters": 0}),
        ("iterations", {"iterations": -1}),
        ("weights", {"weights": torch.ones(3)}),
        ("weights", {"weights": torch.tensor([1.0, -1.0])}),
        ("weights", {"weights": torch.zeros(2)}),
        ("weights", {"weights": torch.tensor([1.0, math.inf])}),
    ],
)
def test_bad_input_is_named(name: str, arguments: dict[str, object]) -> None:
    good: dict[str, object] = {"w": torch.ones(2), "clusters": 2}
    with pytest.raises(ValueError, match=rf"^{name} "):
        rounding.kmeans(**{**good, **arguments})


def test_bad_order() -> None:
    with pytest.raises(ValueError, match="order"):
        rounding.apot_round(torch.ones(2), order=0)
    with pytest.raises(ValueError, match=r"^w "):
        rounding.apot_round(torch.tensor([math.inf]), order=1)

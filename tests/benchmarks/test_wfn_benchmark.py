"""What WFN costs: a round against one sort of the weights, the regulariser against one elementwise operation.

Run with ``pytest tests/benchmarks/test_wfn_benchmark.py -s``; nothing is asserted about time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from pwfn import rounding, wfn
from pwfn.gaussian import gaussian_weights, to_gaussian
from pwfn.learning import Attraction

ROUNDS = 3


def weights(n: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(0)) * 0.06


def seconds(function: Callable[[], object]) -> float:
    """The best of a few runs."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize(("fraction", "allowance"), [(0.3, 0.075), (0.8, 0.03), (1.0, 0.015), (1.0, 0.0075)])
def test_round(benchmark: BenchmarkFixture, fraction: float, allowance: float) -> None:
    """25M weights; the published runs' first, middle and last rounds."""
    w = weights(25_000_000)
    sort = seconds(w.sort)
    found = benchmark.pedantic(wfn.assign, (w, fraction), {"allowance": allowance}, rounds=ROUNDS)
    ratio, orders = benchmark.stats["min"] / sort, len(found.orders.unique())
    print(
        f"\nround p={fraction} a={allowance}: {ratio:.2f} x torch.sort ({sort:.2f} s), {len(found.counts)} picks, "
        f"last order {int(found.orders.max())}, {ratio / orders:.2f} x per order picked from"
    )


@pytest.mark.parametrize("n", [270_000, 11_700_000])
def test_penalty(benchmark: BenchmarkFixture, n: int) -> None:
    """A step's regulariser, forward and backward, with all weights free and with half of them; its curve."""
    model = nn.Linear(n, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(weights(n)[None])
    to_gaussian(model, prior=None)
    _, mu, weight = next(gaussian_weights(model))
    found = wfn.assign(mu.detach()[0, :270_000], 1.0, allowance=0.0075)
    rounds: Any = SimpleNamespace(rows=[], clusters=[])

    def step() -> None:
        torch.autograd.grad(attraction(model, torch.tensor(1.0)), mu)

    attraction = Attraction(rounds, alpha=0.4)
    spent = []
    for t, free in enumerate((1.0, 0.5)):
        weight.free.copy_(torch.rand(1, n, generator=torch.Generator().manual_seed(t)) < free)
        rounds.rows.append({"round": t})
        rounds.clusters += [{"round": t, "centroid": c} for c in found.centroids.tolist()]
        step()  # the first one after a round makes the curve
        spent.append(seconds(step))
    benchmark.pedantic(step, rounds=ROUNDS)
    made = seconds(lambda: wfn.curve(found.centroids))
    plain = seconds(lambda: torch.autograd.grad(mu.exp().mean(), mu))
    print(
        f"\npenalty of {n} weights, {len(found.centroids.unique())} centroids: {spent[0] * 1e3:.0f} ms a step, half "
        f"of them free: {spent[1] * 1e3:.0f} ms, exp {plain * 1e3:.1f} ms; its curve {made * 1e3:.0f} ms a round"
    )


@pytest.mark.parametrize("clusters", [16, 256])
def test_kmeans(benchmark: BenchmarkFixture, clusters: int) -> None:
    """12M weights, to convergence."""
    w = weights(12_000_000)
    sort = seconds(w.sort)
    benchmark.pedantic(rounding.kmeans, (w,), {"clusters": clusters}, rounds=1)
    print(f"\nkmeans k={clusters}: {benchmark.stats['min'] / sort:.2f} x torch.sort ({sort:.2f} s)")

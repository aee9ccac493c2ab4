"""What WFN costs: a round against one sort of the weights, the regulariser against one elementwise operation.

Run with ``pytest tests/benchmarks/test_wfn_benchmark.py -s``; nothing is asserted about time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from pwfn import rounding, wfn

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
    """Forward and backward, with the curve at hand as in training, and the curve itself."""
    w = weights(n).requires_grad_()
    found = wfn.assign(w.detach()[:270_000], 1.0, allowance=0.0075)
    curve = wfn.curve(found.centroids)
    plain = seconds(lambda: torch.autograd.grad(w.exp().mean(), w))
    benchmark.pedantic(lambda: torch.autograd.grad(wfn.penalty(w, curve), w), rounds=ROUNDS)
    made = seconds(lambda: wfn.curve(found.centroids))
    spent = benchmark.stats["min"]
    print(
        f"\npenalty of {n} weights, {len(found.centroids.unique())} centroids: {spent * 1e3:.0f} ms, "
        f"{spent / plain:.1f} x exp ({plain * 1e3:.1f} ms); its curve {made * 1e3:.0f} ms"
    )


@pytest.mark.parametrize("clusters", [16, 256])
def test_kmeans(benchmark: BenchmarkFixture, clusters: int) -> None:
    """12M weights, to convergence."""
    w = weights(12_000_000)
    sort = seconds(w.sort)
    benchmark.pedantic(rounding.kmeans, (w,), {"clusters": clusters}, rounds=1)
    print(f"\nkmeans k={clusters}: {benchmark.stats['min'] / sort:.2f} x torch.sort ({sort:.2f} s)")

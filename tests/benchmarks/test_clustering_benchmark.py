"""One full clustering round, fraction 1, with its std_mu join: against a sort, in memory, and as N grows.

Run: python -m pytest tests/benchmarks/test_clustering_benchmark.py -s
A larger round, say 300 million weights (24 GB): PWFN_BENCHMARK_WEIGHTS=300e6 and the same command.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_clustering import dense_assign
from torch import Tensor

from pwfn.clustering import assign
from pwfn.prior import pow2
from pwfn.sigma_join import std_mu

MILLION = 1_000_000
LARGE = int(float(os.environ.get("PWFN_BENCHMARK_WEIGHTS", 0)))
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def network(n: int) -> tuple[Tensor, Tensor]:
    """Weights of a network of eight layers, normal and heavy-tailed, narrower as they grow; the pow2 prior."""
    generator = torch.Generator().manual_seed(0)
    mu, sigma = torch.empty(n), torch.empty(n)
    shares = [0.004, 0.016, 0.05, 0.08, 0.15, 0.2, 0.2, 0.3]
    ends = [round(n * sum(shares[: k + 1])) for k in range(8)]
    for k, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
        layer = mu[start:stop].normal_(0.0, [0.15, 0.08, 0.05, 0.04, 0.03, 0.025, 0.02, 0.015][k], generator=generator)
        if k % 2:  # Student's t, three degrees of freedom
            square = torch.zeros(stop - start)
            for _ in range(3):
                square += torch.empty(stop - start).normal_(generator=generator).square_()
            layer /= square.div_(3).sqrt_().clamp_(min=0.05)
        sigma[start:stop] = pow2(layer)
    return mu, sigma


def full_round(mu: Tensor, sigma: Tensor) -> Tensor:
    return std_mu(mu, sigma, assign(mu, sigma, 1.0).group)


def seconds(work: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def resident(key: str) -> int:
    """Bytes of this process's memory: ``VmRSS`` now, ``VmHWM`` at the peak since the last reset."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def peak(work: Callable[[], object]) -> int:
    """Bytes that ``work`` needs beyond what is held before it."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work has freed must not count as held
    RESET.write_text("5")  # clears the peak
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def report(benchmark: Any, text: str, **figures: float) -> None:
    benchmark.extra_info.update(figures)
    print(f"\n{text} ({torch.get_num_threads()} threads)")


def test_against_a_sort(benchmark: Any) -> None:
    mu, sigma = network(25 * MILLION)
    benchmark.pedantic(full_round, (mu, sigma), rounds=3)
    both = benchmark.stats.stats.min
    alone = min(seconds(lambda: assign(mu, sigma, 1.0)) for _ in range(2))
    sort = min(seconds(lambda: torch.sort(mu)) for _ in range(3))
    text = f"25M weights: round {alone:.2f} s, with join {both:.2f} s, sort {sort:.2f} s: {both / sort:.2f} (bar 1.5)"
    report(benchmark, text, ratio_to_sort=both / sort, seconds_without_join=alone)


@pytest.mark.skipif(not os.access(RESET, os.W_OK), reason="the peak of memory is read from Linux's /proc")
def test_memory(benchmark: Any) -> None:
    mu, sigma = network(25 * MILLION)
    need = {name: peak(lambda p=p: assign(mu, sigma, p)) / len(mu) for name, p in (("1", 1.0), ("0.5", 0.5))}
    with_join = benchmark.pedantic(lambda: peak(lambda: full_round(mu, sigma)), rounds=1) / len(mu)
    text = (
        f"25M weights: {need['1']:.1f} bytes per weight, {need['0.5']:.1f} at fraction 0.5, {with_join:.1f} with join"
    )
    report(benchmark, f"{text} (bar 40)", bytes_per_weight=with_join)


def test_linear(benchmark: Any) -> None:
    mu, sigma = network(MILLION)
    small = min(seconds(lambda: full_round(mu, sigma)) for _ in range(10)) / MILLION
    mu, sigma = network(100 * MILLION)
    benchmark.pedantic(full_round, (mu, sigma), rounds=2)
    large = benchmark.stats.stats.min / (100 * MILLION)
    text = f"{small * 1e9:.0f} ns per weight at 1M, {large * 1e9:.0f} ns at 100M: {large / small:.2f} (bar 1.3)"
    report(benchmark, text, ratio_to_small=large / small)


def test_against_the_dense_search(benchmark: Any) -> None:
    mu, sigma = network(MILLION)
    result = benchmark.pedantic(assign, (mu, sigma, 1.0), rounds=5)
    start = time.perf_counter()
    group, _ = dense_assign(mu, sigma, 1.0)
    dense = time.perf_counter() - start
    assert result.group.equal(group.int())
    gain = dense / benchmark.stats.stats.min
    report(benchmark, f"1M weights: dense search {dense:.1f} s, {gain:.0f} times as long (bar 100)", gain=gain)


@pytest.mark.skipif(not LARGE, reason="set PWFN_BENCHMARK_WEIGHTS to measure a larger round")
def test_larger(benchmark: Any) -> None:
    mu, sigma = network(LARGE)
    need = benchmark.pedantic(lambda: peak(lambda: full_round(mu, sigma)), rounds=1)
    text = f"{LARGE / 1e6:.0f}M weights: {benchmark.stats.stats.min:.1f} s, {need / 1e9:.1f} GB beyond the inputs"
    report(benchmark, text, bytes_per_weight=need / LARGE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="unmeasured: needs a GPU")
@pytest.mark.parametrize(("millions", "bar"), [(25, 0.25), (1000, 10.0)])
def test_gpu(benchmark: Any, millions: int, bar: float) -> None:
    part, part_sigma = (x.cuda() for x in network(25 * MILLION))
    mu, sigma = part.repeat(millions // 25), part_sigma.repeat(millions // 25)
    full_round(part, part_sigma)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    benchmark.pedantic(lambda: seconds(lambda: full_round(mu, sigma)), rounds=3)
    need = (torch.cuda.max_memory_allocated() - before) / len(mu)
    took = benchmark.stats.stats.min
    report(benchmark, f"GPU, {millions}M weights: {took:.3f} s (bar {bar}), {need:.0f} bytes per weight", seconds=took)

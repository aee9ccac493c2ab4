"""One pass of entropy-constrained assignment over 25 million weights, against a sort and in memory.

Run: python -m pytest tests/benchmarks/test_rate_distortion_benchmark.py -s
"""

from __future__ import annotations

import time

import torch

from pwfn.rate_distortion.envelope import Envelope

WEIGHTS, VALUES = 25_000_000, 64


def test_a_pass_takes_less_than_three_sorts() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(WEIGHTS, generator=generator) * 0.1
    t = torch.randn(WEIGHTS, generator=generator).exp_().mul_(1e-4)
    lengths = 2 + 5 * torch.rand(VALUES, generator=generator)
    start = time.perf_counter()
    torch.sort(w)
    sort = time.perf_counter() - start
    start = time.perf_counter()
    Envelope(torch.linspace(-0.5, 0.5, VALUES), lengths).assign(w, t)
    assignment = time.perf_counter() - start
    print(f"\nsort {sort:.2f} s, assignment {assignment:.2f} s ({torch.get_num_threads()} threads)")
    assert assignment < 3 * sort

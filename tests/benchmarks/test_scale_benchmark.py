"""What each part of a run costs as networks grow: seconds at several sizes, and the straight line through them.

Run: python -m pytest tests/benchmarks/test_scale_benchmark.py -s
Larger sizes: PWFN_BENCHMARK_SIZES=1e6,100e6,300e6 and the same command (80 bytes of memory a weight).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from test_clustering_benchmark import full_round, network
from torch import Tensor

from pwfn import wfn
from pwfn.artifact import file as artifact
from pwfn.kernels.noise import Table, normals
from pwfn.rate_distortion.envelope import Envelope

SIZES = [int(float(size)) for size in os.environ.get("PWFN_BENCHMARK_SIZES", "1e6,4e6,16e6,64e6").split(",")]

PARTS = ("torch.sort", "PWFN round", "WFN round", "assignment", "fresh draws", "table draws", "model.pwfn")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write(mu: Tensor, path: Path) -> None:
    """Write the weights as they are after rate-distortion fixing, at 64 values."""
    values = torch.linspace(-0.3, 0.3, 64)
    state = {"weight": values[torch.bucketize(mu, values).clamp_(max=63)].view(1, -1)}
    artifact.save(path, state, ["weight"], architecture={"_target_": "elsewhere.network"})


def test_seconds_against_weights(tmp_path: Path) -> None:
    """One step of each part that looks at every weight; what does not, training, is the images' cost."""
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for n in SIZES:
        mu, sigma = network(n)
        envelope = Envelope(torch.linspace(-0.3, 0.3, 64), 2 + 5 * torch.rand(64))
        table = Table()
        table([mu])
        work = {
            "torch.sort": mu.sort,
            "PWFN round": partial(full_round, mu, sigma),
            "WFN round": partial(wfn.assign, mu, 1.0, allowance=0.015),
            "assignment": partial(envelope.assign, mu, sigma),
            "fresh draws": partial(normals, [mu]),
            "table draws": partial(table, [mu]),
            "model.pwfn": partial(write, mu, tmp_path / "model.pwfn"),
        }
        for part in PARTS:
            found[part].append(seconds(work[part]))
    x = torch.tensor(SIZES, dtype=torch.float64)
    print(f"\n{'seconds at':>14}", *(f"{n / 1e6:>8g} M" for n in SIZES), "  ns a weight   s beside")
    for part in PARTS:
        y = torch.tensor(found[part], dtype=torch.float64)
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())  # least squares
        start = float(y.mean() - slope * x.mean())
        print(f"{part:>14}", *(f"{s:>10.3f}" for s in found[part]), f"{1e9 * slope:>12.1f}   {start:>8.2f}")

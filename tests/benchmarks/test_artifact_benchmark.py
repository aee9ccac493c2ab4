"""How fast a compressed file decodes, in million weights a second on one core.

Run: python -m pytest tests/benchmarks/test_artifact_benchmark.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pwfn.artifact import file as artifact

WEIGHTS = 8_000_000
BAR = 20  # million weights a second


@pytest.fixture
def one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("unique", [16, 155, 400])
@pytest.mark.parametrize("tensors", [1, 500])
def test_reading(benchmark: Any, unique: int, tensors: int, tmp_path: Path, one_core: None) -> None:
    """The whole read: disk, checksum, indices, values; of one tensor, or of many unlike ones coded one by one."""
    torch.manual_seed(0)
    values = (torch.arange(unique) - unique // 2) / 256
    share = torch.distributions.Laplace(unique / 2, unique / 16).log_prob(torch.arange(unique) + 0.5).exp()
    drawn = values[torch.multinomial(share, WEIGHTS, replacement=True)].chunk(tensors)
    state = {f"w{i}": part + i % 10 for i, part in enumerate(drawn)}
    sizes = artifact.save(tmp_path / "f", state, state, architecture={"name": "none"})
    assert sizes.layered == (tensors > 1)
    _, back = benchmark.pedantic(artifact.read, (tmp_path / "f",), rounds=5, warmup_rounds=1)
    speed = WEIGHTS / benchmark.stats.stats.min / 1e6
    benchmark.extra_info["million_weights_per_second"] = speed
    entropy = 8 * sizes.bound_layers / WEIGHTS
    print(
        f"\n{unique} values, {tensors} tensors, {entropy:.2f} bits: {speed:.1f} M weights/s, "
        f"{sizes.overhead:.3%} over the bound"
    )
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    assert speed > BAR

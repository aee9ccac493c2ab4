"""The Fisher information in data-parallel training: each rank looks at a share of the images, all have the mean."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn

from pwfn.gaussian import to_gaussian
from pwfn.sensitivity import fisher_of_weights


def network() -> nn.Module:
    torch.manual_seed(0)
    return to_gaussian(nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)), prior=None)


def batches() -> list[Tensor]:
    """Five, so that one rank of two has more."""
    return [*torch.randn(5, 16, 3, 4, generator=torch.Generator().manual_seed(1))]


def rank(number: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    torch.save(fisher_of_weights(network(), batches, seed=7), f"{folder}/{number}.pt")
    distributed.destroy_process_group()


def test_ranks_share_the_images_and_have_their_mean(tmp_path: Path) -> None:
    multiprocessing.spawn(rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2))
    assert torch.equal(first, second)
    even = fisher_of_weights(network(), lambda: batches()[::2], seed=7)
    odd = fisher_of_weights(network(), lambda: batches()[1::2], seed=8)
    torch.testing.assert_close(first, (3 * even + 2 * odd) / 5)
    assert not torch.allclose(even, odd)


def test_a_single_process_looks_at_all() -> None:
    model = network()
    all_of_them = fisher_of_weights(model, batches, seed=7)
    assert model.training and bool((all_of_them > 0).all())
    assert not torch.allclose(all_of_them, fisher_of_weights(model, lambda: batches()[:4], seed=7))

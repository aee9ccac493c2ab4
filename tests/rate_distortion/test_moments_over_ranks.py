"""Post-training fixing by several processes: each looks at its share of the images, all go on with the sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from pwfn.rate_distortion import fix
from pwfn.rate_distortion.moments import Moment, second_moments
from pwfn.rate_distortion.result import Result

RANKS = 2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(32, 5)
    ).eval()


def batches(count: int = 5) -> list[Tensor]:
    """Five, so that one rank of two has more."""
    return [*torch.randn(count, 16, 3, 6, 6, generator=torch.Generator().manual_seed(1))]


def observed(images: Sequence[Tensor], seed: int, **group: Any) -> tuple[list[Moment], list[Tensor]]:
    model = network()
    layers = [(model[k], "weight") for k in (0, 3, 5)]
    parameters = [module.weight for module, _ in layers]  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(seed)
    moments, squares = second_moments(model, layers, images, generator=generator, parameters=parameters, **group)  # type: ignore[arg-type]
    assert all(moment is not None for moment in moments)
    return [moment for moment in moments if moment is not None], squares


def gather() -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    moments, squares = observed(batches(), 7 + distributed.get_rank(), group=distributed.group.WORLD)
    return [(moment.halves, moment.rows) for moment in moments], squares


def fixed(count: int = 12) -> tuple[dict[str, Any], dict[str, Tensor]]:
    model = network()
    result = fix(model, batches(count), bits=2.5, max_unique=16, group=distributed.group.WORLD)
    return vars(result), model.state_dict()


def of_one_image() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One image: too few to share out."""
    model = network()
    result = fix(model, batches(1)[0][:1], bits=2.5, group=distributed.group.WORLD)
    return vars(result), model.state_dict()


def _rank(number: int, folder: str, work: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=RANKS)
    torch.save(work(), f"{folder}/{number}.pt")
    distributed.destroy_process_group()


def on_ranks(folder: Path, work: Callable[[], Any]) -> list[Any]:
    multiprocessing.spawn(_rank, (str(folder), work), nprocs=RANKS)
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(RANKS)]


def test_ranks_add_up_what_each_sees(tmp_path: Path) -> None:
    (first, squares), (second, others) = on_ranks(tmp_path, gather)
    even, odd = (observed(batches()[start::2], 7 + start) for start in (0, 1))
    assert all(map(torch.equal, squares, others))
    for mine, theirs, a, b in zip(first, second, even[0], odd[0], strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
        # the even batches are one half, the odd ones the other, as for a single process
        torch.testing.assert_close(mine[0], torch.stack([3 * a.inputs, 2 * b.inputs]) / 5)
        assert float(mine[1].mean()) == pytest.approx(1)
    for mine, a, b in zip(squares, even[1], odd[1], strict=True):
        torch.testing.assert_close(mine, (3 * a + 2 * b) / 5)


@pytest.mark.parametrize("work", [fixed, of_one_image], ids=["twelve batches", "fewer images than ranks"])
def test_ranks_make_the_same_assignment(tmp_path: Path, work: Callable[[], Any]) -> None:
    (result, state), (same, other) = on_ranks(tmp_path, work)
    assert result == same and all(torch.equal(value, other[name]) for name, value in state.items())
    assert result["bits"] <= 2.52 and result["unique"] <= 64


def test_a_share_of_the_images_is_as_good_as_all(tmp_path: Path) -> None:
    """On two ranks the random gradients differ, so that the values may: the loss does not."""
    result, _ = on_ranks(tmp_path, fixed)[0]
    alone: Result = fix(network(), batches(12), bits=2.5, max_unique=16)
    assert result["bits"] == pytest.approx(alone.bits, abs=0.04)
    assert result["distortion"] == pytest.approx(alone.distortion, rel=0.25)

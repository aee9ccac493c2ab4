"""The noisy weight and its gradient against autograd on the plain formula; draws and what they depend on."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pwfn.kernels.noise import ALIGNED, SMALL, Draws, Sample, Table, normals


def plain(mu: Tensor, sigma: Tensor, eps: Tensor, free: Tensor, centroid: Tensor, joined: Tensor | None) -> Tensor:
    is_free = free == 1
    mean = torch.where(is_free, mu, centroid)
    return mean + (sigma if joined is None else torch.where(is_free, sigma, joined)) * eps


@pytest.mark.parametrize("frozen", [True, False], ids=["joined sigma", "sigma goes on learning"])
def test_sample_and_its_gradient_are_those_of_the_formula(frozen: bool) -> None:
    torch.manual_seed(0)
    mu, sigma, eps, centroid, joined, grad = torch.randn(6, 5, 7).double().unbind()
    free = (torch.rand(5, 7) < 0.5).double()
    got, wanted = [], []
    for made, call in ((got, Sample.apply), (wanted, plain)):
        leaves = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
        weight = call(*leaves, eps, free, centroid, joined if frozen else None)
        weight.backward(grad)
        made += [weight.detach(), *(leaf.grad for leaf in leaves)]
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-15, atol=1e-15)
    fixed = free == 0
    assert not got[1][fixed].any() and bool(got[2][fixed].any()) is not frozen


def test_draws_do_not_depend_on_the_number_of_threads() -> None:
    like = [torch.empty(3, 1000), torch.empty(SMALL), torch.empty(2, 3, 4, 4).to(memory_format=torch.channels_last)]
    threads, draws = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            torch.manual_seed(5)
            draws.append([*normals(like), torch.rand(3)])
    finally:
        torch.set_num_threads(threads)
    for other in draws[1:]:
        assert all(torch.equal(a, b) for a, b in zip(draws[0], other, strict=True))
    assert [d.stride() for d in draws[0][:3]] == [t.stride() for t in like]
    assert not torch.equal(draws[0][0].flatten()[:16], draws[0][1][:16])


def test_draws_follow_the_global_seed() -> None:
    like = [torch.empty(50)]
    torch.manual_seed(1)
    first, second = normals(like)[0], normals(like)[0]
    torch.manual_seed(1)
    assert torch.equal(normals(like)[0], first) and not torch.equal(first, second)


def test_a_draw_from_a_table_is_a_view_of_the_tensors_form() -> None:
    torch.manual_seed(3)
    table = Table(places=8)
    like = [torch.empty(3, 1000), torch.empty(2, 3, 4, 4).to(memory_format=torch.channels_last)]
    first, second = table(like)
    assert table.values is not None and len(table.values) == 2 * ALIGNED * (8 + math.ceil(3000 / ALIGNED))
    assert [first.shape, first.stride()] == [like[0].shape, like[0].stride()]
    assert [second.shape, second.stride()] == [like[1].shape, like[1].stride()]
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    half = len(table.values) // 2
    assert torch.equal(table.values[:half], -table.values[half:])
    wide = table([torch.empty(5000, dtype=torch.float64)])[0]  # a larger tensor, of another type: a new table
    assert wide.dtype == torch.float64 and wide.std() > 0.9


def test_tables_are_made_of_the_seed() -> None:
    """A run that goes on in a new process, its generator restored, draws what it would have drawn."""
    like = [torch.empty(100), torch.empty(7)]
    torch.manual_seed(1)
    whole = Table()
    steps = [whole(like) for _ in range(4)]
    torch.manual_seed(1)
    before = Table()
    for _ in range(2):
        before(like)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    torch.rand(5)
    torch.set_rng_state(state)
    after = Table()
    for expected in steps[2:]:
        assert all(torch.equal(a, b) for a, b in zip(after(like), expected, strict=True))
    torch.manual_seed(2)
    assert not torch.equal(Table()(like)[0], steps[0][0])


@pytest.mark.parametrize("draws", [normals, Table(2**13)], ids=["fresh", "table"])
def test_moments_and_independence_over_steps(draws: Draws) -> None:
    """The figures of a standard normal within ten standard errors, over 2,000 steps of 64 weights."""
    torch.manual_seed(7)
    x = torch.stack([draws([torch.empty(64)])[0].clone() for _ in range(2000)]).double()
    for power in range(1, 7):
        error = math.sqrt(_moment(2 * power) / x.numel())
        assert abs(float((x**power).mean()) - _moment(power)) < 10 * error
    for lag in (1, 2, 3, 10, 100):
        assert abs(float((x[lag:] * x[:-lag]).mean())) < 10 / math.sqrt(x.numel())
    assert abs(float((x[:, 1:] * x[:, :-1]).mean())) < 10 / math.sqrt(x.numel())
    assert x.T.corrcoef().fill_diagonal_(0).abs().max() < 6 / math.sqrt(len(x))
    assert all(not torch.equal(a, b) for a, b in pairwise(x))


def _moment(power: int) -> int:
    """The mean of this power of a standard normal."""
    return 0 if power % 2 else math.prod(range(1, power, 2))

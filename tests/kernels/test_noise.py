"""The noisy weight and its gradient against autograd on the plain formula; draws and what they depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pwfn.kernels.noise import SMALL, Sample, normals


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

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pwfn import regulariser

S = 0.05
PENALTIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": lambda sigma, eps: (0.5 * (S - sigma).clamp(min=0) ** 2 * eps.abs()).sum(),
    "hinge": lambda sigma, eps: (S - sigma).clamp(min=0).sum(),
    "exponential": lambda sigma, eps: ((S - sigma).clamp(min=0).exp() - 1).sum(),
    "none": lambda sigma, eps: 0 * sigma.sum(),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_pull_is_minus_the_gradient_of_the_penalty(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sigma = (0.1 * torch.rand(8, 9, generator=generator, dtype=torch.float64)).requires_grad_()
    eps = torch.randn(8, 9, generator=generator, dtype=torch.float64)
    PENALTIES[name](sigma, eps).backward()
    assert sigma.grad is not None
    pull = getattr(regulariser, name)(sigma.detach(), eps, torch.ones_like(eps))
    torch.testing.assert_close(pull, -sigma.grad)


def test_known_answers() -> None:
    sigma, eps, grad = torch.tensor([0.01, 0.06]), torch.tensor([-2.0, 1.0]), torch.zeros(2)
    torch.testing.assert_close(regulariser.linear(sigma, eps, grad), torch.tensor([0.08, 0.0]))
    torch.testing.assert_close(regulariser.hinge(sigma, eps, grad), torch.tensor([1.0, 0.0]))
    expected = torch.tensor([0.04, 0.0]).exp() * torch.tensor([1.0, 0.0])
    torch.testing.assert_close(regulariser.exponential(sigma, eps, grad), expected)


def test_linear_on_grad_by_hand() -> None:
    # costs (1 - |eps|) |grad|: 0.5 * 0.2 = 0.1 and (-1) * 0.1 = -0.1, the third weight is above S;
    # softmin at temperature 0.1: exp(-1) and exp(1) of their sum
    sigma, eps = torch.tensor([0.01, 0.02, 0.2]), torch.tensor([0.5, 2.0, 0.0])
    pull = regulariser.linear_on_grad(sigma, eps, torch.tensor([-0.2, 0.1, 5.0]))
    weights = torch.tensor([-1.0, 1.0]).exp()
    torch.testing.assert_close(pull, torch.cat([weights / weights.sum(), torch.zeros(1)]))


def test_linear_on_grad_without_a_weight_below_s() -> None:
    pull = regulariser.linear_on_grad(torch.full((2, 3), 0.1), torch.randn(2, 3), torch.randn(2, 3))
    assert torch.equal(pull, torch.zeros(2, 3))


@pytest.mark.parametrize("name", regulariser.__all__)
def test_arguments_are_left_alone(name: str) -> None:
    tensors = [0.1 * torch.rand(4, 5), torch.randn(4, 5), torch.randn(4, 5)]
    copies = [t.clone() for t in tensors]
    assert getattr(regulariser, name)(*tensors).shape == (4, 5)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pwfn import prior
from pwfn.gaussian import to_gaussian

SIGMA_MIN = 2.0**-30


def test_pow2_by_hand() -> None:
    # 3/4: up 1, down 1/2, r = 1/3 * 1/3 = 1/9; 3/8 the same; 5/8: r = 3/5 * 1/5 = 3/25; -5/8 the same
    mu = torch.tensor([0.75, 0.375, 0.625, -0.625, 0.5])
    r = torch.tensor([1 / 9, 1 / 9, 3 / 25, 3 / 25, 0.0])
    # sorted: 0, 1/9, 1/9, 3/25, 3/25; the 75% quantile is the fourth, 3/25
    expected = (0.0025 * r / (3 / 25)).clamp(SIGMA_MIN, 0.05)
    torch.testing.assert_close(prior.pow2(mu), expected)


def test_quantile_interpolates_as_torch_does() -> None:
    x = torch.randn(1001, generator=torch.Generator().manual_seed(0)).abs()
    torch.testing.assert_close(prior._quantile(x, 0.75), torch.quantile(x, 0.75))
    torch.testing.assert_close(prior._quantile(x[:2], 0.75), torch.quantile(x[:2], 0.75))


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -0.25, 2.0**-20])
def test_powers_of_two_and_zero_may_not_move(value: float) -> None:
    sigma = prior.pow2(torch.tensor([value, 0.7, 0.3, 0.9, 0.55]))
    assert sigma[0] == SIGMA_MIN
    assert (sigma[1:] > SIGMA_MIN).all()


def test_quantile_of_zero() -> None:
    sigma = prior.pow2(torch.tensor([0.5, 0.25, 1.0, 2.0, 0.3]))
    assert sigma.tolist() == pytest.approx([SIGMA_MIN] * 4 + [0.05])
    assert torch.equal(prior.pow2(torch.zeros(3)), torch.full((3,), SIGMA_MIN))


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=50))
def test_always_finite_and_in_range(values: list[float]) -> None:
    sigma = prior.pow2(torch.tensor(values))
    assert torch.isfinite(sigma).all()
    assert (sigma >= SIGMA_MIN).all() and (sigma <= torch.tensor(0.05)).all()


@given(st.integers(-20, 20))
def test_only_the_place_between_powers_of_two_counts(exponent: int) -> None:
    mu = torch.randn(40, generator=torch.Generator().manual_seed(exponent + 20))
    assert torch.equal(prior.pow2(mu), prior.pow2(mu * 2.0**exponent))


def test_large_tensor() -> None:
    mu = torch.rand(17_000_000) + 0.5
    sigma = prior.pow2(mu)
    assert float((sigma <= 0.0025).float().mean()) == pytest.approx(0.75, abs=1e-3)


def test_constant_differs_from_pow2() -> None:
    mu = torch.tensor([[0.3, 0.5], [0.7, 0.0]])
    sigma = prior.constant(mu)
    assert torch.equal(sigma, torch.full((2, 2), 1e-4))
    assert not torch.equal(sigma, prior.pow2(mu))


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_constant_refuses(sigma: float) -> None:
    with pytest.raises(ValueError, match=r"prior\.sigma"):
        prior.constant(torch.ones(2), sigma=sigma)


def test_shapes_and_dtype() -> None:
    mu = torch.randn(3, 4, 5)
    for function in (prior.pow2, prior.constant):
        assert function(mu).shape == mu.shape and function(mu).dtype == mu.dtype
    assert prior.pow2(torch.empty(0)).shape == (0,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_pow2_refuses_what_is_not_finite_and_conversion_names_the_tensor(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^mu must be finite"):
        prior.pow2(torch.tensor([0.3, bad]))
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = bad
    with pytest.raises(ValueError, match=r"^the prior gives 1\.weight no sigma: mu must be finite"):
        to_gaussian(model)

from __future__ import annotations

import math

import pytest
import torch

from pwfn import sigma_join
from pwfn.kernels import chunks

MU = torch.tensor([1.0, 3.0, 10.0, 7.0, 0.5])
SIGMA = torch.tensor([0.3, 0.4, 0.1, 0.2, 0.6])
GROUP = torch.tensor([0, 0, 1, -1, 0], dtype=torch.int32)


def expect(joined: list[float], result: torch.Tensor) -> None:
    torch.testing.assert_close(result, torch.tensor(joined))


def test_std_mu() -> None:
    # group 0: 1, 3, 0.5 has mean 1.5 and population variance (0.25 + 2.25 + 1) / 3
    std = math.sqrt(3.5 / 3)
    expect([std, std, 0.0, 0.2, std], sigma_join.std_mu(MU, SIGMA, GROUP))


def test_mean_sigma() -> None:
    # root mean square of 0.3, 0.4, 0.6, not its reciprocal
    rms = math.sqrt((0.09 + 0.16 + 0.36) / 3)
    expect([rms, rms, 0.1, 0.2, rms], sigma_join.mean_sigma(MU, SIGMA, GROUP))


def test_keep_the_same() -> None:
    expect([0.15, 0.2, 0.05, 0.2, 0.3], sigma_join.keep_the_same_divide_by_2(MU, SIGMA, GROUP))
    expect([0.03, 0.04, 0.01, 0.2, 0.06], sigma_join.keep_the_same_divide_by_10(MU, SIGMA, GROUP))


def test_allow_retraining() -> None:
    result = sigma_join.allow_retraining(MU, SIGMA, GROUP)
    assert torch.equal(result, SIGMA) and result is not SIGMA


@pytest.mark.parametrize("name", sigma_join.__all__)
def test_free_weights_keep_their_sigma(name: str) -> None:
    free = torch.full((5,), -1, dtype=torch.int32)
    assert torch.equal(getattr(sigma_join, name)(MU, SIGMA, free), SIGMA)


@pytest.mark.parametrize("name", ["std_mu", "mean_sigma"])
def test_chunks_do_not_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    mu, sigma = torch.randn(1000, generator=generator), torch.rand(1000, generator=generator)
    group = torch.randint(-1, 7, (1000,), generator=generator, dtype=torch.int32)
    whole = getattr(sigma_join, name)(mu, sigma, group)
    monkeypatch.setattr(chunks, "CPU", 37)
    torch.testing.assert_close(getattr(sigma_join, name)(mu, sigma, group), whole, rtol=1e-12, atol=0)
    members = mu[group == 3].double()
    if name == "std_mu":
        assert float(whole[group == 3][0]) == pytest.approx(float(members.std(correction=0)), rel=1e-6)

from __future__ import annotations

import pytest
import torch

from pwfn import clustering, method, rounding
from pwfn import wfn as predecessor
from pwfn.rounds import Round

MU = torch.randn(500, generator=torch.Generator().manual_seed(0)) * 0.2
SIGMA = torch.full((500,), 0.01)


@pytest.mark.parametrize(("round", "delta"), [(0, 1.0), (1, 1.5), (2, 2.0)])
def test_reach_of_a_round(round: int, delta: float) -> None:
    found = method.pwfn(MU, SIGMA, Round(0.5, round, 3), delta_start=1.0, delta_end=2.0)
    expected = clustering.assign(MU, SIGMA, 0.5, delta=delta)
    assert torch.equal(found.values, expected.values) and float(found.reaches[0]) == delta


@pytest.mark.parametrize(("round", "allowance"), [(0, 0.03), (1, 0.02), (2, 0.01)])
def test_allowance_of_a_round(round: int, allowance: float) -> None:
    found = method.wfn(MU, SIGMA, Round(0.5, round, 3), delta=0.01)
    expected = predecessor.assign(MU, 0.5, allowance=allowance)
    assert torch.equal(found.values, expected.values)


def test_codebooks_without_training() -> None:
    rounded = method.apot_round(MU, SIGMA, Round(), order=1)
    assert torch.equal(rounded.values, rounding.apot_round(MU, order=1).values)
    clustered = method.kmeans(MU, SIGMA, Round(), clusters=8)
    assert len(clustered.values.unique()) == 8 and bool(clustered.fixed.all())


def test_weighted_kmeans_follows_the_certain_weights() -> None:
    mu = torch.tensor([0.0, 0.1, 1.0, 1.1])
    sigma = torch.tensor([1e-3, 1.0, 1e-3, 1.0])
    values = method.kmeans(mu, sigma, Round(), clusters=2, weighted=True).values
    torch.testing.assert_close(values, torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-4, rtol=0)

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pwfn.gaussian import gaussian_weights, to_gaussian
from pwfn.learning import Attraction


def prepared(alpha: float, centroids: list[float]) -> tuple[nn.Module, Attraction]:
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3, 0.7, -0.45]]))
    to_gaussian(model, prior=None)
    rows: Any = [{"round": 0}] if centroids else []
    fixing: Any = SimpleNamespace(rows=rows, clusters=[{"round": 0, "centroid": c} for c in centroids])
    return model, Attraction(fixing, alpha=alpha)


def by_formula(w: torch.Tensor, centroids: list[float]) -> torch.Tensor:
    """R with its N x C table, in float64."""
    c = torch.tensor(centroids, dtype=torch.float64)
    d = (w[:, None] - c).abs() / w[:, None].abs()
    return (torch.softmax(-d / 0.05, 1) * d).sum(1).mean()


def test_value_is_a_share_of_the_loss_and_gradient_that_of_r() -> None:
    centroids = [0.25, 0.5, -0.5]
    model, attraction = prepared(0.4, centroids)
    loss = torch.tensor(1.7)
    penalty = attraction(model, loss)
    assert float(penalty) == pytest.approx(0.4 * 1.7, rel=1e-5)
    penalty.backward()
    _, mu, _ = next(gaussian_weights(model))
    w = torch.tensor([0.3, 0.7, -0.45], dtype=torch.float64, requires_grad=True)
    r = by_formula(w, centroids)
    (0.4 * (1.7 / r.detach()) * r).backward()
    assert mu.grad is not None and w.grad is not None
    torch.testing.assert_close(mu.grad.flatten().double(), w.grad, rtol=1e-4, atol=1e-6)


def test_only_free_weights_are_drawn() -> None:
    model, attraction = prepared(0.4, [0.25, 0.5, -0.5])
    _, mu, weight = next(gaussian_weights(model))
    weight.free[0, 1] = 0
    attraction(model, torch.tensor(1.0)).backward()
    assert mu.grad is not None and mu.grad[0, 1] == 0 and mu.grad[0, 0] != 0
    weight.free.zero_()
    attraction.fixing.rows.append({"round": 1})
    attraction.fixing.clusters.append({"round": 1, "centroid": 0.25})
    assert attraction(model, torch.tensor(1.0)) == 0


def test_nothing_before_the_first_round_nor_without_alpha() -> None:
    assert prepared(0.4, [])[1](prepared(0.4, [])[0], torch.tensor(2.0)) == 0
    model, attraction = prepared(0.0, [0.25])
    assert attraction(model, torch.tensor(2.0)) == 0
    with pytest.raises(ValueError, match="alpha"):
        Attraction(SimpleNamespace(rows=[]), alpha=-1)


def test_the_latest_round_counts() -> None:
    model, attraction = prepared(1.0, [0.25])
    attraction(model, torch.tensor(1.0))
    attraction.fixing.rows.append({"round": 1})
    attraction.fixing.clusters.append({"round": 1, "centroid": 0.3})
    penalty = attraction(model, torch.tensor(1.0))
    penalty.backward()
    _, mu, _ = next(gaussian_weights(model))
    assert mu.grad is not None and mu.grad[0, 1] > 0  # drawn down from 0.7 to 0.3


@pytest.mark.parametrize(
    ("free", "centroids", "share"),
    [
        (1e-6, [0.0, 0.5], 0.4),  # R is 1e-6 and what the other centroid adds
        (0.0, [0.0], 0.0),
        (1e-42, [0.0], 0.0),
        (0.5, [0.5], 0.0),
        (0.0, [0.0, 30.0], 0.0),
    ],
)
def test_no_penalty_where_nothing_is_away(free: float, centroids: list[float], share: float) -> None:
    model, attraction = prepared(0.4, centroids)
    _, mu, _ = next(gaussian_weights(model))
    with torch.no_grad():
        mu.fill_(free)
    penalty = attraction(model, torch.tensor(6.9))
    penalty.backward()
    assert mu.grad is not None and mu.grad.isfinite().all()
    assert float(penalty.detach()) == pytest.approx(share * 6.9, rel=1e-5)


def test_euclidean_distances() -> None:
    model, attraction = prepared(0.4, [0.25])
    attraction.distance = "euclidean"
    attraction(model, torch.tensor(1.0)).backward()
    _, mu, _ = next(gaussian_weights(model))
    r = (0.05 + 0.45 + 0.7) / 3
    torch.testing.assert_close(mu.grad, torch.tensor([[0.4 / r / 3, 0.4 / r / 3, -0.4 / r / 3]]), rtol=1e-5, atol=0)

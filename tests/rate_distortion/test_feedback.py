"""Error feedback against a dense float64 optimal brain surgeon."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pwfn.rate_distortion.feedback import cholesky_of_inverse, feedback, refine

VALUES = torch.tensor([-1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5], dtype=torch.float64)
LENGTHS = torch.tensor([6.0, 4, 3, 3, 2, 3, 3, 4, 6], dtype=torch.float64)


def layer(groups: int, rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, 3 * columns, columns, generator=generator, dtype=torch.float64)
    x = x + 0.7 * x.roll(1, 2)  # neighbours go together
    w = 0.5 * torch.randn(groups, rows, columns, generator=generator, dtype=torch.float64)
    g = torch.rand(groups, rows, generator=generator, dtype=torch.float64) + 0.5
    return w, x.mT @ x / x.shape[1], g


def dense(w: Tensor, h: Tensor, g: Tensor, scale: float) -> Tensor:
    """One row at a time, and after each weight the optimum of all free ones by solving for them."""
    index = torch.empty(w.shape, dtype=torch.int64)
    for k, r in [(k, r) for k in range(w.shape[0]) for r in range(w.shape[1])]:
        row, columns = w[k, r].clone(), w.shape[2]
        for j in range(columns):
            conditional = torch.linalg.inv(h[k, j:, j:])[0, 0]
            costs = 0.5 * g[k, r] * (VALUES - row[j]).square() / conditional + scale * LENGTHS
            index[k, r, j] = costs.argmin()
            move = VALUES[index[k, r, j]] - row[j]
            row[j] += move
            free = h[k, j + 1 :, j + 1 :]
            row[j + 1 :] -= torch.linalg.solve(free, h[k, j + 1 :, j] * move) if j + 1 < columns else 0
    return index


def cost(w: Tensor, h: Tensor, g: Tensor, scale: float, index: Tensor) -> float:
    e = w - VALUES[index]
    return float((0.5 * g[..., None] * e * (e @ h)).sum() + scale * LENGTHS[index].sum())


@pytest.mark.parametrize(("groups", "rows", "columns"), [(1, 5, 7), (6, 1, 9), (2, 3, 18), (1, 1, 1)])
@pytest.mark.parametrize("scale", [0.0, 0.02])
@pytest.mark.parametrize("block", [1, 4, 64])
def test_feedback_is_the_optimal_brain_surgeon(groups: int, rows: int, columns: int, scale: float, block: int) -> None:
    w, h, g = layer(groups, rows, columns)
    found = feedback(w, cholesky_of_inverse(h), g, scale, VALUES, LENGTHS, block=block)
    assert torch.equal(found, dense(w, h, g, scale))


def test_the_factor_is_upper_triangular_and_gives_the_inverse() -> None:
    _, h, _ = layer(3, 1, 12)
    u = cholesky_of_inverse(h)
    assert torch.equal(u, u.triu())
    torch.testing.assert_close(u.mT @ u, torch.linalg.inv(h))


def test_independent_inputs_leave_each_weight_alone() -> None:
    w, _, g = layer(1, 4, 10)
    found = feedback(w, torch.eye(10, dtype=torch.float64)[None], g, 0.0, VALUES, LENGTHS)
    assert torch.equal(found, (w[..., None] - VALUES).abs().argmin(-1))


def test_feedback_and_each_sweep_lower_the_cost() -> None:
    w, h, g = layer(2, 16, 40)
    scale = 0.01
    alone = torch.linalg.inv(torch.diag_embed(h.diagonal(dim1=1, dim2=2)))
    costs = [cost(w, h, g, scale, feedback(w, alone.sqrt(), g, scale, VALUES, LENGTHS))]
    index = feedback(w, cholesky_of_inverse(h), g, scale, VALUES, LENGTHS)
    costs.append(cost(w, h, g, scale, index))
    for _ in range(3):
        index = refine(w, h, g, scale, VALUES, LENGTHS, index)
        costs.append(cost(w, h, g, scale, index))
    assert costs == sorted(costs, reverse=True) and costs[2] < costs[0]


@pytest.mark.parametrize("block", [1, 3, 64])
def test_refinement_ends_where_no_single_change_helps(block: int) -> None:
    w, h, g = layer(1, 3, 8)
    start = feedback(w, cholesky_of_inverse(h), g, 0.01, VALUES, LENGTHS)
    index = refine(w, h, g, 0.01, VALUES, LENGTHS, start, sweeps=20, block=block)
    least = cost(w, h, g, 0.01, index)
    for r, j, k in torch.cartesian_prod(torch.arange(3), torch.arange(8), torch.arange(len(VALUES))).tolist():
        other = index.clone()
        other[0, r, j] = k
        assert cost(w, h, g, 0.01, other) >= least - 1e-12


def test_a_higher_price_needs_fewer_bits() -> None:
    w, h, g = layer(1, 20, 30)
    u = cholesky_of_inverse(h)
    spent = [float(LENGTHS[feedback(w, u, g, scale, VALUES, LENGTHS)].sum()) for scale in (0.0, 0.01, 0.1, 1.0)]
    assert spent == sorted(spent, reverse=True) and spent[0] > spent[-1]

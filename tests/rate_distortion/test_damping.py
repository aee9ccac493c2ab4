"""The damping of second moments: known answers, and that it follows the number of images."""

from __future__ import annotations

import torch

from pwfn.rate_distortion.damping import GRID, choose_damping, damped, held_out
from pwfn.rate_distortion.feedback import cholesky_of_inverse, feedback


def halves(images: int, columns: int = 40) -> torch.Tensor:
    """Second moments of two halves of correlated inputs: neighbours share half of their variance."""
    x = torch.randn(2, images // 2, columns + 1, generator=torch.Generator().manual_seed(images))
    x = x[..., 1:] + x[..., :-1]
    return (x.mT @ x / images)[:, None]


def test_damped() -> None:
    h = torch.stack((2 * torch.eye(3), torch.zeros(3, 3)))
    assert torch.equal(damped(h, 0.5), torch.stack((3 * torch.eye(3), torch.eye(3))).double())


def test_held_out_by_hand() -> None:
    # rows of U over their diagonal are (1, 2) and (0, 1); (1, 2) H (1, 2)^T = 3 + 2*2*1 + 4*5 = 27, and 5
    u = torch.tensor([[[2.0, 4.0], [0.0, 3.0]]])
    assert held_out(u, torch.tensor([[[3.0, 1.0], [1.0, 5.0]]])) == 32


def test_held_out_is_what_feedback_loses() -> None:
    """Rounding with feedback on one half loses step**2 / 12 times as much on the other."""
    fit, other = halves(2000).double()
    u = cholesky_of_inverse(damped(fit, 0.01))
    w = torch.randn(1, 4000, 40, generator=torch.Generator().manual_seed(1)).double()
    step = 0.125
    grid = torch.arange(-80, 81).double() * step
    index = feedback(w, u, torch.ones(1, 4000).double(), 0.0, grid, torch.zeros_like(grid))
    errors = w - grid[index]
    lost = float(((errors @ other) * errors).sum() / 4000)
    assert abs(lost / (step**2 / 12 * held_out(u, other)) - 1) < 0.02


def test_few_images_are_damped_more() -> None:
    chosen = [choose_damping(halves(images)) for images in (20, 60, 20_000)]
    assert chosen == sorted(chosen, reverse=True)
    assert chosen[0] >= 0.3 and chosen[-1] == GRID[0]


def test_nothing_to_compare_with() -> None:
    moments = halves(100)
    moments[1] = 0
    assert choose_damping(moments) == GRID[-1]

"""How much of its mean diagonal is added to a second moment.

Error feedback trusts the second moment H: it moves errors to where the inputs of the calibration images hardly go.
Of few images with many columns, those of other images do go there. Feedback turns the error of column j into
``e_j U_j / U_jj`` over the row, so that independent errors of equal size raise the loss on the moment H' of other
images in proportion to ``sum_j U_j H' U_j^T / U_jj**2``. The damping is the one at which U of one half of the images
makes that least on the other half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pwfn.rate_distortion.feedback import cholesky_of_inverse

__all__ = ["choose_damping", "damped", "held_out"]

GRID = (0.01, 0.03, 0.1, 0.3, 1.0)


def damped(h: Tensor, damping: float) -> Tensor:
    """``H + damping mean diag H``, float64 ``[G, K, K]``; a group whose inputs are all 0 becomes the identity."""
    h = h.double()
    mean = h.diagonal(dim1=1, dim2=2).mean(1)
    add = torch.where(mean > 0, damping * mean, 1.0)
    return h + torch.diag_embed(add[:, None].expand(-1, h.shape[1]))


def held_out(u: Tensor, h: Tensor) -> float:
    """``sum_j U_j H U_j^T / U_jj**2``, the sum over all groups.

    Args:
        u: ``[G, K, K]``, see :func:`pwfn.rate_distortion.feedback.cholesky_of_inverse`.
        h: ``[G, K, K]``, a second moment.
    """
    rows = (u / u.diagonal(dim1=1, dim2=2)[:, :, None]).float()  # float32: the sum of many positive terms
    return float(torch.einsum("gjk,gjk->", rows @ h.float(), rows))


def choose_damping(halves: Tensor) -> float:
    """The damping of those in ``GRID`` with which one half of the images serves the other one best.

    Args:
        halves: ``[2, G, K, K]``, second moments of two halves of the images. If one of them is 0, there was nothing
            to compare with, and the largest is taken.
    """
    if not (halves[0].any() and halves[1].any()):
        return GRID[-1]
    return min(GRID, key=lambda damping: held_out(cholesky_of_inverse(damped(halves[0], damping)), halves[1]))

"""Error feedback: each weight is fixed, and the free ones of its row make up for it.

With ``U`` the upper Cholesky factor of ``(H + damping mean diag H)**-1``, column j of a row takes
``argmin_c 0.5 g (c - w_j)**2 / U_jj**2 + lambda bits(c)``, then ``w_k -= (w_j - c) U_jk / U_jj`` for all k > j
(optimal brain surgeon as in GPTQ, Frantar et al. 2023, with the price of bits).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cholesky_of_inverse", "feedback", "refine"]


def cholesky_of_inverse(h: Tensor) -> Tensor:
    """``U`` with ``U^T U = H**-1``, upper triangular, of positive definite ``[G, K, K]``; dtype float64."""
    # H = L' L'^T of the reversed order is H = V V^T with V upper triangular, and then U = V**-1
    reverse = torch.linalg.cholesky(h.double().flip(1, 2))
    v = reverse.flip(1, 2)
    identity = torch.eye(h.shape[1], dtype=torch.float64, device=h.device).expand_as(v)
    return torch.linalg.solve_triangular(v, identity, upper=True)


def _choose(x: Tensor, price: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """Index int64 of the value with the least ``(c - x)**2 + price bits(c)``; the lower one on a tie."""
    cost = torch.addcmul(values.square(), x[..., None], -2 * values)
    return torch.addcmul(cost, price[..., None], lengths).argmin(-1)


def feedback(
    w: Tensor, u: Tensor, g: Tensor, scale: float, values: Tensor, lengths: Tensor, *, block: int = 64
) -> Tensor:
    """Fix the columns of all rows one after the other; the others make up for the error.

    Args:
        w: ``[G, R, K]``, weights.
        u: ``[G, K, K]``, see :func:`cholesky_of_inverse`.
        g: ``[G, R]``, the weight of each row's error in the loss.
        scale: lambda, nats of mean loss that a bit may cost.
        values: ``[C]``, sorted.
        lengths: ``[C]``, bits.
        block: columns between two updates of all later columns; it changes the time, and rounding errors only.

    Returns:
        int64 ``[G, R, K]``, index of the value of each weight. Computed in the dtype of ``w``.
    """
    w = w.clone()
    u, g, values, lengths = (x.to(w) for x in (u, g, values, lengths))
    index = torch.empty_like(w, dtype=torch.int64)
    diagonal = u.diagonal(dim1=1, dim2=2)
    price = 2 * scale / g
    for start in range(0, w.shape[2], block):
        stop = min(start + block, w.shape[2])
        now, errors = w[:, :, start:stop], torch.empty_like(w[:, :, start:stop])
        for j in range(stop - start):
            x, d = now[:, :, j], diagonal[:, start + j, None]
            chosen = _choose(x, price * d.square(), values, lengths)
            index[:, :, start + j] = chosen
            error = (x - values[chosen]) / d
            errors[:, :, j] = error
            if j + 1 < stop - start:
                now[:, :, j + 1 :].baddbmm_(error[:, :, None], u[:, start + j, None, start + j + 1 : stop], alpha=-1)
        if stop < w.shape[2]:
            w[:, :, stop:].baddbmm_(errors, u[:, start:stop, stop:], alpha=-1)
    return index


def refine(
    w: Tensor,
    h: Tensor,
    g: Tensor,
    scale: float,
    values: Tensor,
    lengths: Tensor,
    index: Tensor,
    *,
    sweeps: int = 1,
    block: int = 64,
) -> Tensor:
    """Coordinate descent on ``0.5 g_r E_r H E_r^T + lambda bits`` from a given choice; the cost never rises.

    Args:
        w: ``[G, R, K]``, weights.
        h: ``[G, K, K]``, second moment, positive definite.
        g: ``[G, R]``, the weight of each row's error in the loss.
        scale: lambda, nats of mean loss that a bit may cost.
        values: ``[C]``, sorted.
        lengths: ``[C]``, bits.
        index: int64 ``[G, R, K]``, the choice to start from.
        sweeps: how often each column is chosen anew.
        block: columns between two updates of all others.

    Returns:
        int64 ``[G, R, K]``, index of the value of each weight.
    """
    h, g, values, lengths = (x.to(w) for x in (h, g, values, lengths))
    index = index.clone()
    diagonal = h.diagonal(dim1=1, dim2=2)
    price = 2 * scale / g
    pull = (w - values[index]) @ h
    for _ in range(sweeps):
        for start in range(0, w.shape[2], block):
            stop = min(start + block, w.shape[2])
            now, moves = pull[:, :, start:stop].clone(), torch.empty_like(pull[:, :, start:stop])
            for j in range(stop - start):
                d = diagonal[:, start + j, None]
                before = values[index[:, :, start + j]]
                chosen = _choose(before + now[:, :, j] / d, price / d, values, lengths)
                index[:, :, start + j] = chosen
                move = before - values[chosen]
                moves[:, :, j] = move
                if j + 1 < stop - start:
                    now[:, :, j + 1 :].baddbmm_(move[:, :, None], h[:, start + j, None, start + j + 1 : stop])
            pull.baddbmm_(moves, h[:, start:stop])
    return index

"""Tables of a fixed network: one row per tensor, one row per shared value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pwfn import apot
from pwfn.artifact.file import MAX_UNIQUE
from pwfn.compression import order_shares, sharing

__all__ = ["codebook_rows", "layer_rows", "network_figures"]


def layer_rows(
    state: Mapping[str, Tensor],
    baseline: Mapping[str, Tensor],
    names: Iterable[str],
    prior_sigma: Mapping[str, Tensor] | None = None,
    sigma: Mapping[str, Tensor] | None = None,
) -> list[dict[str, Any]]:
    """One row per tensor in scope: how much it shares after and before, its orders, how far it moved.

    Columns: ``layer``, ``weights``, the figures of :func:`pwfn.compression.sharing`, ``sparsity`` (0 to 1),
    ``baseline_unique``, ``baseline_entropy``, ``moved_rms`` (root mean square of the change, relative to that
    of the baseline's weights), ``baseline_sigma`` and ``sigma`` (their means; only with sigma), ``order_<k>`` (share
    of the weights of order k).
    """
    rows = []
    for name in names:
        w, before = state[name].flatten(), baseline[name].flatten()
        started = sharing(before)
        scale = float(before.square().mean().sqrt())
        spreads = {"baseline_sigma": (prior_sigma or {}).get(name), "sigma": (sigma or {}).get(name)}
        rows.append(
            {
                "layer": name,
                "weights": w.numel(),
                **_with_sparsity(sharing(w), w.numel()),
                "baseline_unique": started["unique"],
                "baseline_entropy": started["entropy"],
                "moved_rms": float((w - before).square().mean().sqrt()) / scale if scale else 0.0,
                **{key: float(spread.mean()) for key, spread in spreads.items() if spread is not None},
                **_orders(w),
            }
        )
    return rows


def codebook_rows(state: Mapping[str, Tensor], names: Iterable[str]) -> list[dict[str, Any]]:
    """One row per shared value, ascending: ``value``, ``count``, ``order``, ``powers`` such as ``2^-3+2^-5``.

    Nothing for a network that shares too little to be fixed (more than :data:`pwfn.artifact.file.MAX_UNIQUE`).
    """
    values, counts = torch.unique(torch.cat([state[name].flatten() for name in names]), return_counts=True)
    if len(values) > MAX_UNIQUE:
        return []
    columns = zip(values.tolist(), counts.tolist(), apot.order_of(values).tolist(), strict=True)
    return [
        {"value": v, "count": n, "order": order, "powers": "+".join(f"2^{k}" for k in apot.terms(v))}
        for v, n, order in columns
    ]


def network_figures(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
    """How much the tensors of a state dict share together: the figures of :func:`pwfn.compression.sharing`,
    ``sparsity`` (0 to 1) and, of a fixed network, ``order_<k>``."""
    w = torch.cat([state[name].flatten() for name in names])
    figures = _with_sparsity(sharing(w), w.numel())
    if figures["unique"] > MAX_UNIQUE:  # any float is a sum of a dozen powers or so: no figure
        return figures
    return {**figures, **_orders(w)}


def _with_sparsity(figures: Mapping[str, float], weights: int) -> dict[str, float]:
    return {**figures, "sparsity": figures["zeros"] / max(1, weights)}


def _orders(w: Tensor) -> dict[str, float]:
    return {f"order_{order}": share for order, share in order_shares(w).items()}

"""Histogram of sigma, and of how far weights of each sigma moved, by round and weight tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pwfn.gaussian import Flat

__all__ = ["LOWEST_OCTAVE", "by_sigma"]

LOWEST_OCTAVE = -30
"""The lowest octave: sigma is at least 2**-30."""


def by_sigma(round: int, before: Flat, after: Flat, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Compute the figures of one round by weight tensor and octaves of sigma; none for weights without noise.

    Columns: ``round``; ``layer``, the parameter's name; ``log2_sigma``, k for sigma in ``[2**k, 2**(k+1))``; ``free``
    and ``fixed``, weights with such a sigma after the round; ``taken``, weights that were free with such a sigma before
    the round and have taken a centroid other than 0 (which takes small weights whatever their sigma);
    ``moved_mean`` and ``moved_max``, the distance ``|mu - centroid|`` that these were moved.

    Args:
        round: its number.
        before, after: the weights in scope around the round, ``[N]`` each.
        sizes: number of weights by parameter, in the order of these vectors; they sum to N.
    """
    if not (after.sigma > 0).any():
        return []
    top = max(_octave(before.sigma).max(), _octave(after.sigma).max()).item()
    octaves = int(top) - LOWEST_OCTAVE + 1
    counts = torch.tensor(list(sizes.values()), device=after.mu.device)
    tensor = torch.arange(len(sizes), device=after.mu.device).repeat_interleave(counts)
    bins = len(sizes) * octaves

    def place(sigma: Tensor, where: Tensor) -> Tensor:
        """The bin of each weight: octaves within tensors."""
        return tensor[where] * octaves + _octave(sigma[where]) - LOWEST_OCTAVE

    taken = after.fixed & ~before.fixed & (after.mu != 0)
    distance = (after.mu - before.mu).abs()[taken].double()
    moved = place(before.sigma, taken)
    found = moved.bincount(minlength=bins)
    sums = torch.zeros(bins, dtype=distance.dtype, device=distance.device)
    columns = {
        "layer": [name for name in sizes for _ in range(octaves)],
        "log2_sigma": [*range(LOWEST_OCTAVE, LOWEST_OCTAVE + octaves)] * len(sizes),
        "free": place(after.sigma, ~after.fixed).bincount(minlength=bins).tolist(),
        "fixed": place(after.sigma, after.fixed).bincount(minlength=bins).tolist(),
        "taken": found.tolist(),
        "moved_mean": (sums.index_add(0, moved, distance) / found.clamp(min=1)).tolist(),
        "moved_max": sums.scatter_reduce(0, moved, distance, "amax").tolist(),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{"round": round, **row} for row in rows if row["free"] or row["fixed"] or row["taken"]]


def _octave(sigma: Tensor) -> Tensor:
    return sigma.clamp(min=2.0**LOWEST_OCTAVE).log2().floor().long()  # the optimizer may have left it below

"""Histogram of sigma, and of how far weights of each sigma moved, by round."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pwfn.gaussian import Flat
from pwfn.rundir.files import write_csv

__all__ = ["LOWEST_OCTAVE", "by_sigma", "write"]

LOWEST_OCTAVE = -30
"""The lowest octave: sigma is at least 2**-30."""


def by_sigma(round: int, before: Flat, after: Flat) -> list[dict[str, Any]]:
    """Compute the figures of one round by octaves of sigma; none for weights without noise.

    Columns: ``round``; ``log2_sigma``, k for sigma in ``[2**k, 2**(k+1))``; ``free`` and ``fixed``, weights
    with such a sigma after the round; ``taken``, weights that were free with such a sigma before the round and
    have taken a centroid other than 0 (which takes small weights whatever their sigma); ``moved_mean`` and
    ``moved_max``, the distance ``|mu - centroid|`` that these were moved.

    Args:
        round: its number.
        before, after: the weights in scope around the round, ``[N]`` each.
    """
    if not (after.sigma > 0).any():
        return []
    top = max(_octave(before.sigma).max(), _octave(after.sigma).max()).item()
    taken = after.fixed & ~before.fixed & (after.mu != 0)
    distance = (after.mu - before.mu).abs()[taken].double()
    octave = _octave(before.sigma[taken])
    size = int(top) - LOWEST_OCTAVE + 1
    counts = torch.bincount(octave - LOWEST_OCTAVE, minlength=size)
    sums = torch.zeros(size, dtype=distance.dtype, device=distance.device)
    largest = sums.scatter_reduce(0, octave - LOWEST_OCTAVE, distance, "amax")
    sums = sums.index_add(0, octave - LOWEST_OCTAVE, distance)
    columns = {
        "log2_sigma": range(LOWEST_OCTAVE, LOWEST_OCTAVE + size),
        "free": _count(after.sigma[~after.fixed], size),
        "fixed": _count(after.sigma[after.fixed], size),
        "taken": counts.tolist(),
        "moved_mean": (sums / counts.clamp(min=1)).tolist(),
        "moved_max": largest.tolist(),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{"round": round, **row} for row in rows if row["free"] or row["fixed"] or row["taken"]]


def write(path: Path, round: int, before: Flat, after: Flat) -> None:
    """Write a round's rows into a CSV file, in place of what an interrupted try left of it and later rounds."""
    kept: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if int(row["round"]) < round]
    rows = kept + by_sigma(round, before, after)
    if rows:
        write_csv(path, rows)


def _octave(sigma: Tensor) -> Tensor:
    return sigma.clamp(min=2.0**LOWEST_OCTAVE).log2().floor().long()  # the optimizer may have left it below


def _count(sigma: Tensor, size: int) -> list[int]:
    return torch.bincount(_octave(sigma) - LOWEST_OCTAVE, minlength=size).tolist()

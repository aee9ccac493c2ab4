"""What a fixing round leaves on record: the weights before and after, its figures, the centroids it picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pwfn import compression
from pwfn.assignment import Assignment
from pwfn.gaussian import Flat

__all__ = ["Fixing", "figures", "picks"]


@dataclass(frozen=True)
class Fixing:
    """What a finished round hands to its listener.

    Attributes:
        row: the round's figures, one value per column of ``rounds.csv``.
        rows: the figures of all rounds so far, this one last.
        clusters: the centroids picked in all rounds so far, one row of ``clusters.csv`` each.
        assignment: who took which centroid in this round.
        before: the weights as they were before the round.
        after: the weights as they are now.
    """

    row: dict[str, float]
    rows: Sequence[dict[str, float]]
    clusters: Sequence[dict[str, float]]
    assignment: Assignment
    before: Flat
    after: Flat


def picks(round: int, assignment: Assignment) -> list[dict[str, float]]:
    """One row of ``clusters.csv`` per centroid picked."""
    columns = {
        "centroid": assignment.centroids.tolist(),
        "count": assignment.counts.tolist(),
        "order": assignment.orders.tolist(),
        "reach": assignment.reaches.tolist(),
    }
    rows = zip(*columns.values(), strict=True)
    return [{"round": round, "pick": i, **dict(zip(columns, row, strict=True))} for i, row in enumerate(rows)]


def figures(before: Flat, after: Flat, assignment: Assignment) -> dict[str, float]:
    """The columns of a round that follow from the weights alone."""
    fixed = after.fixed
    row: dict[str, float] = {
        "fixed": int(fixed.sum()),
        **compression.sharing(after.mu),
        "unique_fixed": compression.unique(after.mu[fixed]),
        "moved": int((before.fixed & fixed & (before.mu != after.mu)).sum()),
        "sigma_mean": float(after.sigma.mean()),
        "sigma_fixed": float(after.sigma[fixed].mean()) if fixed.any() else 0.0,
        "sigma_free": float(after.sigma[~fixed].mean()) if (~fixed).any() else 0.0,
    }
    picked = len(assignment.orders) > 0
    row["order_last"] = int(assignment.orders[-1]) if picked else 0
    row["delta_last"] = float(assignment.reaches[-1]) if picked else 0.0
    for order, share in compression.order_shares(after.mu[fixed]).items():
        row[f"order_{order}"] = share
    return {**row, **assignment.figures}

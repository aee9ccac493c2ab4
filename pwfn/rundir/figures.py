"""What ``rounds.csv`` says of a run's last round."""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["round_figures"]

COLUMNS = {"round": "round", "acc1": "acc1_after", "unique": "unique", "entropy": "entropy"}


def round_figures(folder: Path) -> dict[str, float]:
    """Round, top-1 accuracy on validation data (percent), unique values and entropy (bits), as far as written."""
    path = folder / "rounds.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    return {name: float(rows[-1][column]) for name, column in COLUMNS.items() if rows[-1].get(column)} if rows else {}

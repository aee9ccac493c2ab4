"""What the launcher writes of each job in a sweep's ``jobs.jsonl``: its run's folder, where it runs, and its number."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

__all__ = ["entries", "jobs_of"]

KEYS = {"folder", "cluster", "job"}


def entries(sweep: Path) -> list[dict[str, Any]]:
    """The entries of a sweep's jobs, first to last; a damaged line, as of a full disk, is left out and told."""
    listed = sweep / "jobs.jsonl"
    found = []
    for number, line in enumerate(listed.read_text(errors="replace").splitlines() if listed.exists() else (), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and entry.keys() >= KEYS:
            found.append(entry)
        elif line:
            warnings.warn(f"{listed}: line {number} is damaged and left out", stacklevel=2)
    return found


def jobs_of(folder: Path) -> list[str]:
    """The jobs that were entered for a run, first to last."""
    return [entry["job"] for entry in entries(folder.parent) if entry["folder"] == folder.name and entry["job"]]

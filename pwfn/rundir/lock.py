"""The lock that whoever works on a run holds in its folder, and the one that a lost node left there."""

from __future__ import annotations

import socket
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["LOCK", "held_elsewhere", "locked"]

LOCK = ".lock"
"""File in a run's folder that is locked while somebody works on the run."""


def locked(folder: Path) -> bool:
    """Whether somebody works on the run in a folder, as far as its lock tells."""
    path = folder / LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def held_elsewhere(folder: Path) -> bool:
    """Whether the lock is a file that a process of another host made, on a file system without ``flock``.

    Such a file stays when its process is killed, and only a process of its own host can tell. Where there is
    ``flock`` the file is empty.
    """
    path = folder / LOCK
    record = path.read_text(errors="replace").split() if path.exists() else []
    return len(record) > 1 and record[1] != socket.gethostname()

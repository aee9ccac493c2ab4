"""Waiting for the runs of a sweep by looking at their files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pwfn.rundir.status import ALIVE, Run, status

__all__ = ["watch"]

log = logging.getLogger(__name__)


def watch(folder: Path, names: Sequence[str], seconds: float, alive: Callable[[], bool]) -> list[Run]:
    """Look at some runs of a sweep every few seconds until none of them moves.

    Twice before one is called stopped: on a shared file system its last files may come late.

    Args:
        folder: the sweep.
        names: folders of the runs.
        seconds: between two looks.
        alive: whether processes are known to go on, whatever the files say.
    """
    quiet = False
    while True:
        try:
            found = {run.folder.name: run for run in status(folder)}
        except OSError as error:
            log.warning("%s; looking again", error)
        else:
            runs = [found[name] for name in names]
            moves = alive() or any(run.state in ALIVE for run in runs)
            if not moves and (quiet or all(run.state == "finished" for run in runs)):
                return runs
            quiet = not moves
        time.sleep(seconds)

"""Waiting for the runs of a sweep by looking at their files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

from pwfn.rundir.status import ALIVE, Run, status

__all__ = ["watch"]

log = logging.getLogger(__name__)


def watch(
    folder: Path, names: Collection[str], seconds: float, alive: Callable[[str], bool], *, first: bool = False
) -> list[Run]:
    """Look at some runs of a sweep every few seconds until all have ended; those that have, each once.

    Twice before one is called stopped: on a shared file system its last files may come late.

    Args:
        folder: the sweep.
        names: folders of the runs.
        seconds: between two looks.
        alive: whether a process is known to work on a run, whatever the files say.
        first: return as soon as one of them has ended.
    """
    quiet: set[str] = set()
    while True:
        try:
            runs = status(folder, names)
        except OSError as error:
            log.warning("%s; looking again", error)
        else:
            still = {run.folder.name for run in runs if run.state not in ALIVE and not alive(run.folder.name)}
            sure = still & (quiet | {run.folder.name for run in runs if run.state == "finished"})
            ended = [run for run in runs if run.folder.name in sure]
            if len(ended) == len(runs) or (first and ended):
                return ended
            quiet = still
        time.sleep(seconds)

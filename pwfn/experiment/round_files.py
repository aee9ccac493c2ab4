"""The files, logged figures and printed line of a finished round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightning as L

from pwfn.experiment import movement
from pwfn.experiment.logger import log_round
from pwfn.record import Fixing
from pwfn.report.console import round_line
from pwfn.rundir.files import write_csv, write_rows_of_round

__all__ = ["write_round"]


def write_round(folder: Path, sizes: Mapping[str, int], trainer: L.Trainer, event: Fixing) -> None:
    """Write ``rounds.csv``, ``clusters.csv``, ``movement.csv`` and ``distortion.csv``, log the round, print its line.

    Args:
        folder: the run directory.
        sizes: number of weights by parameter in scope, in module order.
        trainer, event: as :class:`pwfn.WeightFixing` tells its listener.
    """
    if trainer.is_global_zero:
        write_csv(folder / "rounds.csv", event.rows)
        write_csv(folder / "clusters.csv", event.clusters)
        round = int(event.row["round"])
        moved = movement.by_sigma(round, event.before, event.after, sizes)
        write_rows_of_round(folder / "movement.csv", round, moved)
        shares = event.assignment.shares.items()
        lost = [{"round": round, "layer": name, "share": share} for name, share in shares]
        write_rows_of_round(folder / "distortion.csv", round, lost)
        log_round(trainer, event)
    trainer.print(round_line(event.row))

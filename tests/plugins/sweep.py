"""A small sweep on SLURM that tests start, watch and disturb."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pwfn.rundir.status import Run, status

__all__ = ["SLURM", "TINY", "Sweep", "point"]

TINY = [
    "model.name=test_resnet",
    "dataset.limit=200",
    "dataset.batch_size=32",
    "+dataset.train_transform._target_=slowly.Slowly",
    "baseline.epochs=1",
    "fixing.fractions=[0.5,0.9,1.0]",
    "fixing.first_fraction=1.0",
    "evaluation.draws=[1]",
    "evaluation.noise=[]",
    "trainer.enable_progress_bar=false",
]
SLURM = [
    "hydra/launcher=slurm",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=3",
    "hydra.launcher.poll_seconds=2",
]


class Sweep:
    """A sweep in a folder of its own; each call of ``start`` gives the same command."""

    def __init__(self, root: Path, folder: Path, *overrides: str, python: str = sys.executable) -> None:
        self.root, self.folder, self.python = root, folder, python
        self.overrides = [*TINY, *SLURM, *overrides, f"hydra.sweep.dir={folder}"]

    def start(self, *more: str, seconds: float = 0.0, **environment: str) -> subprocess.Popen[str]:
        """Launch from another directory; training waits ``seconds`` per image."""
        own = [self.root, self.root / "pwfn" / "plugins"] if (self.root / "pwfn").exists() else []
        path = os.pathsep.join(map(str, [*own, Path(__file__).parent]))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
        env |= {"SLOWLY_SECONDS": str(seconds), "WANDB_MODE": "offline", "COLUMNS": "200"}
        command = [self.python, str(self.root / "launch.py"), "-m", *self.overrides, *more]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd="/", env=env, **pipes)

    def run(self, *more: str, patience: float = 400, **settings: Any) -> tuple[int, str]:
        """Launch and wait: exit code and everything printed."""
        process = self.start(*more, **settings)
        text, _ = process.communicate(timeout=patience)
        return process.returncode, text

    def runs(self) -> dict[str, Run]:
        """The runs by their point, as ``std_mu pow2``."""
        listed = (self.folder / "jobs.jsonl").exists()
        return {point(run): run for run in (status(self.folder) if listed else [])}

    def wait(self, ready: Callable[[dict[str, Run]], bool], seconds: float = 240) -> dict[str, Run]:
        """Look at the status until ``ready``."""
        end = time.monotonic() + seconds
        while not ready(runs := self.runs()):
            assert time.monotonic() < end, {name: run.state for name, run in runs.items()}
            time.sleep(0.5)
        return runs

    def wait_for_round(self, name: str) -> Run:
        """Look until a run has finished its first round."""
        found = self.wait(lambda runs: name in runs and bool(runs[name].figures) and runs[name].state == "running")
        return found[name]

    def stop(self) -> None:
        """Cancel what is left."""
        jobs = {str(run.job) for run in self.runs().values() if run.state in ("queued", "running")}
        if jobs:
            subprocess.run(["scancel", *sorted(jobs)], check=True)

    def drained(self) -> dict[str, Run]:
        """Look until nothing is queued or running any more."""
        return self.wait(lambda runs: bool(runs) and not {r.state for r in runs.values()} & {"queued", "running"})


def point(run: Run) -> str:
    """What tells a run from the others of its sweep."""
    return " ".join(re.findall(r"(?:sigma_join|prior|seed)=(\S+)", " ".join(run.overrides)))

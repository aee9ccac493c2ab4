"""Which runs of a sweep are started, and how they are handed to SLURM within its limits."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import submitit
from omegaconf import DictConfig
from submitit.core.utils import FailedJobError, JobPaths

__all__ = ["in_arrays", "sentence", "sort_out"]

log = logging.getLogger(__name__)

FULL = re.compile(r"MaxSubmit|SubmitJob|submit limit|temporarily un", re.I)
"""What sbatch says where a user, an account or the cluster has too many jobs queued already."""


def sort_out(sweep: Path, configs: Sequence[DictConfig], *, rerun: bool) -> tuple[list[DictConfig], list[DictConfig]]:
    """The runs to start; and those that stand finished elsewhere and are linked into the sweep's folder.

    Args:
        sweep: its folder.
        configs: of its runs.
        rerun: start finished runs again, too.
    """
    from pwfn.rundir import reuse
    from pwfn.rundir.status import ALIVE, status

    asked = {cfg.hydra.sweep.subdir for cfg in configs}
    known = status(sweep, asked) if (sweep / "jobs.jsonl").exists() else []
    states = {run.folder.name: run.state for run in known}
    done = ALIVE if rerun else ("finished", *ALIVE)
    todo = [cfg for cfg in configs if states.get(cfg.hydra.sweep.subdir) not in done]
    for cfg in todo if rerun else ():
        if states.get(cfg.hydra.sweep.subdir) == "finished":
            reuse.set_aside(sweep / cfg.hydra.sweep.subdir)
    found = {} if rerun else reuse.finished_runs(sweep, {cfg.hydra.sweep.subdir[-12:] for cfg in todo})
    linked = []
    for cfg in todo:
        place, run = sweep / cfg.hydra.sweep.subdir, found.get(cfg.hydra.sweep.subdir[-12:])
        if place.is_symlink() and not place.exists():  # what it led to is gone
            place.unlink()
        if run is not None and (place.is_symlink() or not place.exists()):
            reuse.link(place, run)
            linked.append(cfg)
            log.info("%s is finished: %s", place.name, run)
    here = reuse.present_code() if linked else ""
    codes = Counter(reuse.made_with(sweep / cfg.hydra.sweep.subdir) for cfg in linked)
    for code, count in codes.items():
        if code != here:
            log.warning("%d of them made with pwfn %s; hydra.launcher.rerun=true computes them again", count, code)
    names = {cfg.hydra.sweep.subdir for cfg in linked}
    return [cfg for cfg in todo if cfg.hydra.sweep.subdir not in names], linked


def in_arrays(
    launcher: Any, executor: submitit.Executor, runs: Sequence[DictConfig], singletons: Any
) -> Iterator[tuple[DictConfig, submitit.Job[Any]]]:
    """Submit runs in arrays as large as SLURM takes; the rest, where it takes no more, as jobs end.

    Raises:
        ValueError: if SLURM takes no more and the launcher is not to wait; or takes none at all.
        FailedJobError: if SLURM refuses the jobs for another reason.
    """
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    limit = launcher.max_array or int((re.findall(r"MaxArraySize\s*=\s*(\d+)", shown) or ["1000"])[0])
    left, size, told = list(runs), limit, 0
    while left:
        part, said = left[:size], io.StringIO()
        try:
            with redirect_stderr(said):  # submitit repeats what sbatch says, also of a refusal that is no error here
                array = executor.map_array(launcher, part, [singletons] * len(part), [None] * len(part))
        except FailedJobError as error:
            for path in JobPaths.get_first_id_independent_folder(executor.folder).glob("*.pkl"):
                path.unlink()
            if not FULL.search(str(error)):
                raise
            if len(part) > 1:
                size = len(part) // 2
            else:
                _wait_for_room(launcher, len(left), error, silent=told == len(left))
                told = len(left)
            continue
        if said.getvalue():
            log.warning(said.getvalue().strip())
        log.info("SLURM job %s: %d runs", array[0].job_id.partition("_")[0], len(part))
        left, size = left[len(part) :], min(limit, 2 * size)
        yield from zip(part, array, strict=True)


def _wait_for_room(launcher: Any, left: int, error: Exception, *, silent: bool) -> None:
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}"]
    queued = len(subprocess.run(command, capture_output=True, text=True).stdout.splitlines())
    if launcher.detach or not queued:
        raise ValueError(f"{left} not submitted; the same command submits them ({sentence(error)})")
    if not silent:
        log.info("SLURM takes no more jobs for now: %d are submitted as others end", left)
    time.sleep(launcher.poll_seconds)


def sentence(error: BaseException) -> str:
    """What went wrong, in one line: of sbatch's many the last that names an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line.partition("error: ")[2] for line in lines if line.startswith("sbatch: error: ")]
    return named[-1] if named else lines[0]

"""One run inside its job: what the launcher's process does not see."""

from __future__ import annotations

import copy
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import submitit
from filelock import FileLock, Timeout
from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, run_job, setup_globals
from omegaconf import DictConfig, open_dict, read_write
from submitit.slurm.slurm import SlurmJobEnvironment

__all__ = ["JobFailed", "carry_out", "free_port", "requeue", "visible_gpus"]

log = logging.getLogger(__name__)

PATIENCE = 30
"""Seconds that a job waits for another that works on its run: one that was cancelled may still be ending."""


class JobFailed(RuntimeError):
    """Ends a job whose run raised, so that SLURM sees a failure."""


def carry_out(launcher: Any, cfg: DictConfig, singletons: Any, gpus: str | None) -> Any:
    """Carry out a run and return its value; nobody else works in its folder meanwhile.

    Raises:
        JobFailed: if the run raised; the traceback stands in its log.
        SystemExit: if SLURM takes the node back.
    """
    sys.path.insert(0, str(launcher.code))  # the copy made at submission, before anything imports pwfn
    environment = submitit.JobEnvironment()
    if environment.cluster == "local":
        _show_devices(environment, gpus)
    Singleton.set_state(singletons)
    setup_globals()
    terminated = _take_signals()
    folder = Path(cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    if environment.global_rank == 0:
        _acquire(lock, environment)
    cfg = copy.deepcopy(cfg)  # run_job changes it, and a requeue pickles the arguments again
    with read_write(cfg), open_dict(cfg):
        cfg.hydra.job.id = environment.job_id
    try:
        done = run_job(launcher.task_function, cfg, "hydra.sweep.dir", "hydra.sweep.subdir", launcher.hydra_context)
    except SystemExit:  # submitit's after a requeue, or Lightning's after SIGTERM
        if terminated:
            _end(environment, folder)
        raise
    if done.status is JobStatus.COMPLETED:
        return done.return_value
    error = done._return_value
    log.error("".join(traceback.format_exception(error)))
    if terminated:  # SLURM ends the job: what broke meanwhile is no failure of the run
        _end(environment, folder)
        sys.exit(128 + signal.SIGTERM)
    raise JobFailed(_failed(environment, folder, error)) from error


def _show_devices(environment: submitit.JobEnvironment, gpus: str | None) -> None:
    """Give a job on this machine its GPUs, all of which submitit hides, and its ranks what Lightning asks of SLURM."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ.update({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})
    if environment.num_tasks > 1:  # Lightning need not start the other ranks, and could not: it knows launch.py
        os.environ.update(LOCAL_RANK=str(environment.local_rank), NODE_RANK="0")


def _take_signals() -> list[int]:
    """Requeue the job by our own means and note SIGTERM, in a list that is empty until it comes."""
    # submitit gives up where the controller does not answer
    type.__setattr__(SlurmJobEnvironment, "_requeue", lambda self, countdown: requeue(self.job_id))
    # forked children, loader workers above all, must not requeue the job
    os.register_at_fork(after_in_child=_forget_signals)
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: terminated.append(signum))
    return terminated


def _failed(environment: submitit.JobEnvironment, folder: Path, error: BaseException) -> str:
    """Note in the run's folder why the first of its ranks failed; return that."""
    from pwfn.rundir.failure import first_failure, mark_failed

    first = first_failure(environment.paths.folder, environment.global_rank, f"{type(error).__name__}: {error}")
    mark_failed(folder, first)
    if environment.global_rank != 0:  # the first rank may just be noting that the run is under way
        time.sleep(5)
        mark_failed(folder, first)
    return first


def _acquire(lock: FileLock, environment: submitit.JobEnvironment) -> None:
    """Wait for the run's folder: briefly for another job, longer for what a lost node left on a file server.

    Raises:
        JobFailed: if another job works on the run.
    """
    from pwfn.rundir import slurm
    from pwfn.rundir.entries import jobs_of
    from pwfn.rundir.lock import held_elsewhere
    from pwfn.rundir.status import WAITING, WORKING

    folder = Path(lock.lock_file).parent
    others = [number for number in jobs_of(folder) if number != environment.job_id]
    left = held_elsewhere(folder) and slurm.available()  # by a node that was lost?
    if left and not any(known.word in (*WAITING, *WORKING) for known in slurm.queue(others).values()):
        Path(lock.lock_file).unlink(missing_ok=True)
    try:
        lock.acquire(timeout=PATIENCE if os.environ.get("SLURM_RESTART_COUNT", "0") == "0" else 10 * PATIENCE)
    except Timeout:
        known = f" (entered for it: {', '.join(others)})" if others else ""
        raise JobFailed(f"another job works on this run{known}; this one, {environment.job_id}, ends") from None


def _forget_signals() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(environment: submitit.JobEnvironment, folder: Path) -> None:
    """After SIGTERM: say which rank failed, if that is why; or put the job back, if SLURM preempts it.

    SLURM takes a job that ends by itself within a preemption's grace time for completed. After scancel, scontrol
    requeue, or where another rank ended, the job is left alone.
    """
    from pwfn.rundir.failure import known_failure, mark_failed

    first = known_failure(environment.paths.folder)
    if first is not None:
        mark_failed(folder, first)
        return
    if environment.cluster != "slurm":
        return
    if environment.global_rank != 0:
        time.sleep(10)  # a rank that ends before the first has put the job back would end that one
        return
    number = environment.job_id  # 41_3: SLURM_JOB_ID of an array's last task is that of the whole array
    shown = subprocess.run(["scontrol", "--oneliner", "show", "job", number], capture_output=True, text=True).stdout
    if "JobState=RUNNING" in shown and re.search(r"PreemptTime=\d", shown):
        log.warning("preempted: back to the queue")
        requeue(number)


def requeue(number: str) -> None:
    """Put a job back to the queue; tried again for two minutes where SLURM's controller does not answer.

    Raises:
        subprocess.SubprocessError: if it never does.
    """
    end = time.monotonic() + 120
    while True:
        try:
            subprocess.run(["scontrol", "requeue", number], check=True, timeout=60)
        except subprocess.SubprocessError as error:
            if time.monotonic() > end:
                raise
            log.warning("%s; trying again", error)
            time.sleep(5)
        else:
            return


def free_port() -> str:
    """A port of this machine over which the processes of a run can find each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def visible_gpus() -> list[str]:
    """The GPUs of this process, by the names that CUDA_VISIBLE_DEVICES knows."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return []
    return [str(i) for i in range(len(re.findall(r"^GPU \d", listed, re.M)))]

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
import traceback
from pathlib import Path
from typing import Any

import submitit
from filelock import FileLock
from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, run_job, setup_globals
from omegaconf import DictConfig, open_dict, read_write

__all__ = ["JobFailed", "carry_out", "free_port", "processes", "visible_gpus"]

log = logging.getLogger(__name__)


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
    if environment.cluster == "local":  # submitit hides all GPUs there
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        os.environ.update({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})
        if environment.num_tasks > 1:  # Lightning need not start the other ranks, and could not: it knows launch.py
            os.environ.update(LOCAL_RANK=str(environment.local_rank), NODE_RANK="0")
    Singleton.set_state(singletons)
    setup_globals()
    # forked children, loader workers above all, must not requeue the job
    os.register_at_fork(after_in_child=_forget_signals)
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: terminated.append(signum))
    folder = Path(cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    if environment.global_rank == 0:
        lock.acquire()
    cfg = copy.deepcopy(cfg)  # run_job changes it, and a requeue pickles the arguments again
    with read_write(cfg), open_dict(cfg):
        cfg.hydra.job.id = environment.job_id
    try:
        done = run_job(launcher.task_function, cfg, "hydra.sweep.dir", "hydra.sweep.subdir", launcher.hydra_context)
    except SystemExit:  # submitit's after a requeue, or Lightning's after SIGTERM
        if terminated:
            _requeue_if_preempted(environment)
        raise
    if done.status is JobStatus.COMPLETED:
        return done.return_value
    error = done._return_value
    log.error("".join(traceback.format_exception(error)))
    if terminated:  # SLURM ends the job: what broke meanwhile is no failure of the run
        _requeue_if_preempted(environment)
        sys.exit(128 + signal.SIGTERM)
    _mark_failed(folder, error)
    raise JobFailed(f"{type(error).__name__}: {error}") from error


def _forget_signals() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _mark_failed(folder: Path, error: BaseException) -> None:
    """Say so in ``summary.json``, also where the run broke before it could."""
    from pwfn.rundir.files import read_json, write_json

    try:
        summary = read_json(folder / "summary.json") or {}
    except ValueError as damage:  # the file stays as it is: this sentence is what the run failed with
        log.error("%s", damage)
        return
    if summary.get("status") != "finished":
        write_json(
            folder / "summary.json", {**summary, "status": "failed", "error": f"{type(error).__name__}: {error}"}
        )


def _requeue_if_preempted(environment: submitit.JobEnvironment) -> None:
    """SLURM takes a job that ends by itself within a preemption's grace time for completed: put it back.

    After scancel or scontrol requeue the job is no longer RUNNING and is left alone.
    """
    if environment.cluster != "slurm" or environment.global_rank != 0:
        return
    number = environment.job_id  # 41_3: SLURM_JOB_ID of an array's last task is that of the whole array
    shown = subprocess.run(["scontrol", "--oneliner", "show", "job", number], capture_output=True, text=True).stdout
    if "JobState=RUNNING" in shown:
        log.warning("preempted: back to the queue")
        subprocess.run(["scontrol", "requeue", number], timeout=60)


def processes(trainer: DictConfig, gpus: int) -> int:
    """Processes of a run on one machine: one per device of data-parallel training.

    Args:
        trainer: the settings of ``lightning.Trainer``.
        gpus: GPUs that the run may use.
    """
    devices = trainer.devices
    if re.search("spawn|fork|notebook", str(trainer.strategy)):
        return 1  # these start their processes themselves
    if devices in ("auto", -1, "-1"):
        return max(1, 0 if trainer.accelerator == "cpu" else gpus)
    return int(devices) if str(devices).isdecimal() else len(str(devices).split(","))


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

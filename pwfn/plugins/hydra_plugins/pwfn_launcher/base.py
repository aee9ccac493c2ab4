"""What the launchers on SLURM and on this machine have in common."""

from __future__ import annotations

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit
from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.errors import CompactHydraException
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from hydra_plugins.pwfn_launcher import job, queueing, resources
from hydra_plugins.pwfn_launcher.composition import Compositions
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from submitit.core.utils import FailedJobError

__all__ = ["Launcher", "Started", "SweepFailed"]

log = logging.getLogger(__name__)

Started = Iterator[tuple[DictConfig, submitit.Job[Any]]]
"""The runs that have been submitted, each with its job."""


class SweepFailed(CompactHydraException):
    """Ends the launching process with one sentence and exit code 1."""


class Launcher(BaseSubmititLauncher):
    """Starts a sweep's runs, waits for them, and shows how they ended."""

    def __init__(
        self,
        poll_seconds: float,
        detach: bool = False,
        rerun: bool = False,
        max_array: int = 0,
        parallel: int = 1,
        mem_gb_per_device: float = 0,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.poll_seconds, self.detach, self.rerun = poll_seconds, detach, rerun
        self.max_array, self.parallel, self.mem_gb_per_device = max_array, parallel, mem_gb_per_device
        self.code = Path()

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Take up the sweep's configuration before the sweeper composes its runs."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if self.detach and config.hydra.sweeper._target_.rpartition(".")[2] != BasicSweeper.__name__:
            raise SweepFailed(
                "hydra.launcher.detach=true: an optimising sweeper needs the results of its runs; omit it"
            )
        loader = hydra_context.config_loader
        loader.load_sweep_config = Compositions(loader)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Start what is neither finished nor under way; unless detached, return when all have ended."""
        from pwfn.experiment.objective import objective_of
        from pwfn.rundir.naming import swept_keys
        from pwfn.rundir.status_table import print_status
        from pwfn.rundir.watching import watch

        sweep = Path(self.config.hydra.sweep.dir).absolute()
        jobs: list[submitit.Job[Any]] = []
        try:
            keys = swept_keys(self.config)
            configs = [self._frozen(sweep, i, point, keys) for i, point in enumerate(job_overrides, initial_job_idx)]
            with self._alone(sweep):
                self._start_all(sweep, configs, jobs)
            if self.detach:
                log.info("queued; python -m pwfn.report status %s", sweep)
                return [JobReturn(o, status=JobStatus.COMPLETED) for o in job_overrides]
            names = [str(cfg.hydra.sweep.subdir) for cfg in configs]
            objectives = [cfg.get("objective", "acc1") for cfg in configs]
            runs = watch(sweep, names, self.poll_seconds, lambda: self._alive(jobs))
        except KeyboardInterrupt:
            log.error("interrupted: %s\nthey are shown by: python -m pwfn.report status %s", self._left(jobs), sweep)
            raise SystemExit(130) from None
        except (FailedJobError, ValueError, OSError) as error:
            raise SweepFailed(queueing.sentence(error)) from error
        print_status(runs)
        bad = [run for run in runs if run.state != "finished"]
        failure = SweepFailed(f"{len(bad)} of {len(runs)} runs did not finish; the same command runs them again")
        try:
            ends = [
                (JobStatus.FAILED, failure) if run in bad else (JobStatus.COMPLETED, objective_of(run.folder, names))
                for run, names in zip(runs, objectives, strict=True)
            ]
        except ValueError as error:
            raise SweepFailed(f"{error}") from error
        return [JobReturn(o, status=s, _return_value=v) for o, (s, v) in zip(job_overrides, ends, strict=True)]

    def __call__(self, cfg: DictConfig, singletons: Any, gpus: str | None) -> Any:
        """Carry out one run: what happens inside a job."""
        return job.carry_out(self, cfg, singletons, gpus)

    def _frozen(self, sweep: Path, number: int, overrides: Sequence[str], keys: Sequence[str]) -> DictConfig:
        """A run's configuration as it is now: nothing in it is looked up when the job starts."""
        from pwfn.rundir.naming import run_name

        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with read_write(cfg), open_dict(cfg):
            for key in [key for key in cfg if key != "hydra"]:
                if OmegaConf.is_interpolation(cfg, key):
                    cfg[key] = cfg[key]
                if OmegaConf.is_config(cfg._get_node(key)):
                    OmegaConf.resolve(cfg[key])
            cfg.hydra.sweep.subdir = run_name(cfg, keys)
            cfg.hydra.sweep.dir = str(sweep)
            cfg.hydra.job.num = number
        return cfg

    def _alone(self, sweep: Path) -> FileLock:
        """The right to start runs of a sweep, which one launcher has at a time."""
        lock = FileLock(sweep / ".launching")
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            log.info("another launcher is starting runs of %s: waiting for it", sweep)
            return lock
        lock.release()
        return lock

    def _start_all(self, sweep: Path, configs: Sequence[DictConfig], jobs: list[submitit.Job[Any]]) -> None:
        """Start the runs that need it, and enter each in ``jobs.jsonl``, before its job has a number and after."""
        from pwfn.rundir.files import append_json
        from pwfn.rundir.naming import label

        label(sweep, self.config, configs)
        listed = sweep / "jobs.jsonl"
        todo, linked = queueing.sort_out(sweep, configs, rerun=self.rerun)
        log.info("%s: %d runs, %d to start", sweep, len(configs), len(todo))
        for cfg in todo:
            if (sentence := resources.missing_input(cfg)) is not None:
                raise ValueError(sentence)
        asked = [self._resources(cfg) for cfg in todo]

        def enter(cfg: DictConfig, number: str | None) -> None:
            entry = {"folder": cfg.hydra.sweep.subdir, "cluster": self._EXECUTOR, "job": number}
            append_json(listed, {**entry, "overrides": list(cfg.hydra.overrides.task)})

        for cfg in (*linked, *todo):
            enter(cfg, None)
        for cfg, started in self._start(sweep, todo, asked) if todo else ():
            enter(cfg, started.job_id)
            jobs.append(started)

    def _start(self, sweep: Path, runs: Sequence[DictConfig], asked: Sequence[dict[str, Any]]) -> Started:
        """Submit runs, with a copy of the code as it is now."""
        from pwfn.rundir.provenance import snapshot

        stamp = f"code-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.code = snapshot(sweep / ".submitit" / stamp, Path(__file__).parent)
        path = os.pathsep.join(filter(None, [str(self.code), os.environ.get("PYTHONPATH")]))
        composed = vars(self.hydra_context.config_loader).pop("load_sweep_config")  # a job needs no other runs
        try:
            with env_override({"PYTHONPATH": path}):
                yield from self._submit(runs, asked)
        finally:
            self.hydra_context.config_loader.load_sweep_config = composed

    def _executor(self, asked: dict[str, Any]) -> submitit.Executor:
        """Submits runs that ask for the same resources."""
        params, shared = {**self.params, **asked}, set(OmegaConf.structured(BaseQueueConf))
        folder = params.pop("submitit_folder")
        first = {f"{self._EXECUTOR}_{key}": params.pop(key) for key in ("max_num_timeout",) if key in params}
        executor = submitit.AutoExecutor(folder, cluster=self._EXECUTOR, **first)
        executor.update_parameters(**{k if k in shared else f"{self._EXECUTOR}_{k}": v for k, v in params.items()})
        return executor

    def _resources(self, cfg: DictConfig) -> dict[str, Any]:
        """What a run asks of the machines, apart from what all runs of the sweep do."""
        return {}

    def _alive(self, jobs: Sequence[submitit.Job[Any]]) -> bool:
        return False  # SLURM's queue tells

    @abstractmethod
    def _left(self, jobs: Sequence[submitit.Job[Any]]) -> str:
        """What becomes of started jobs without the launcher."""

    @abstractmethod
    def _submit(self, runs: Sequence[DictConfig], asked: Sequence[dict[str, Any]]) -> Started:
        """Hand the runs over, and tell the job of each."""

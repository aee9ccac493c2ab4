"""What the launchers on SLURM and on this machine have in common."""

from __future__ import annotations

import logging
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import submitit
from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.errors import CompactHydraException
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from hydra_plugins.pwfn_launcher import checks, job, queueing
from hydra_plugins.pwfn_launcher.composition import Compositions, freeze
from omegaconf import DictConfig, OmegaConf
from submitit.core.utils import FailedJobError

__all__ = ["Launcher", "Started", "SweepFailed"]

log = logging.getLogger(__name__)

Started: TypeAlias = "Iterator[tuple[DictConfig, submitit.Job[Any]]]"
"""The runs that have been submitted, each with its job. As text: Python 3.10 has Hydra take the type for a plugin."""


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
        mem_gb_per_device: float = 0,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.poll_seconds, self.detach, self.rerun = poll_seconds, detach, rerun
        self.max_array, self.mem_gb_per_device = max_array, mem_gb_per_device
        self.code = Path()
        self.jobs: dict[str, submitit.Job[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "jobs": {}}  # a job needs no other jobs

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
        from pwfn.rundir.status_table import print_status
        from pwfn.rundir.watching import watch

        sweep = Path(self.config.hydra.sweep.dir).absolute()
        with self.told():
            configs = self.begin(job_overrides, initial_job_idx)
            if self.detach:
                log.info("queued; python -m pwfn.report status %s", sweep)
                return [JobReturn(o, status=JobStatus.COMPLETED) for o in job_overrides]
            names = [str(cfg.hydra.sweep.subdir) for cfg in configs]
            runs = watch(sweep, names, self.poll_seconds, self.alive)
            print_status(runs)
            bad = [run.folder.name for run in runs if run.state != "finished"]
            failure = SweepFailed(f"{len(bad)} of {len(runs)} runs did not finish; the same command runs them again")
            ends = [
                (JobStatus.FAILED, failure)
                if name in bad
                else (JobStatus.COMPLETED, objective_of(sweep / name, cfg.get("objective", "acc1")))
                for name, cfg in zip(names, configs, strict=True)
            ]
        return [JobReturn(o, status=s, _return_value=v) for o, (s, v) in zip(job_overrides, ends, strict=True)]

    def begin(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[DictConfig]:
        """Start what is neither finished nor under way, a run that is named twice once; each run's configuration."""
        from pwfn.rundir.naming import swept_keys

        sweep, keys = Path(self.config.hydra.sweep.dir).absolute(), swept_keys(self.config)
        load = self.hydra_context.config_loader.load_sweep_config
        configs = [load(self.config, list(point)) for point in job_overrides]
        for number, cfg in enumerate(configs, initial_job_idx):
            checks.require(cfg)
            freeze(cfg, sweep, number, keys)
        new = {cfg.hydra.sweep.subdir: cfg for cfg in configs if not self.alive(cfg.hydra.sweep.subdir)}
        with self._alone(sweep):
            self._start_all(sweep, list(new.values()))
        return configs

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say in one sentence what ends the launching process."""
        try:
            yield
        except KeyboardInterrupt:
            sweep = self.config.hydra.sweep.dir
            log.error("interrupted: %s\nthey are shown by: python -m pwfn.report status %s", self._left(), sweep)
            raise SystemExit(130) from None
        except (FailedJobError, ValueError, OSError) as error:
            raise SweepFailed(queueing.sentence(error)) from error

    def __call__(self, cfg: DictConfig, singletons: Any, gpus: str | None) -> Any:
        """Carry out one run: what happens inside a job."""
        return job.carry_out(self, cfg, singletons, gpus)

    def _alone(self, sweep: Path) -> FileLock:
        """The right to start runs of a sweep, which one launcher has at a time."""
        lock = FileLock(sweep / ".launching")
        try:
            lock.acquire(timeout=0.5)
            lock.release()
        except Timeout:
            log.info("another launcher is starting runs of %s: waiting for it", sweep)
        return lock

    def _start_all(self, sweep: Path, configs: Sequence[DictConfig]) -> None:
        """Start the runs that need it, and enter each in ``jobs.jsonl``, before its job has a number and after."""
        from pwfn.rundir.files import append_json
        from pwfn.rundir.naming import label

        label(sweep, self.config, configs)
        todo, linked = queueing.sort_out(sweep, configs, rerun=self.rerun)
        log.info("%s: %d runs, %d to start", sweep, len(configs), len(todo))
        for cfg in todo:
            checks.check(cfg)
        asked = [self._resources(cfg) for cfg in todo]

        def enter(cfg: DictConfig, number: str | None) -> None:
            entry = {"folder": cfg.hydra.sweep.subdir, "cluster": self._EXECUTOR, "job": number}
            append_json(sweep / "jobs.jsonl", {**entry, "overrides": list(cfg.hydra.overrides.task)})

        for cfg in (*linked, *todo):
            enter(cfg, None)
        for cfg, started in self._start(sweep, todo, asked) if todo else ():
            enter(cfg, started.job_id)
            self.jobs[cfg.hydra.sweep.subdir] = started

    def _start(self, sweep: Path, runs: Sequence[DictConfig], asked: Sequence[dict[str, Any]]) -> Started:
        """Submit runs, with a copy of the code as it is when the first of them are submitted."""
        from pwfn.rundir.provenance import snapshot

        if self.code == Path():
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

    def room(self) -> int:
        """How many runs can be started without waiting for others."""
        return sys.maxsize

    def alive(self, name: str) -> bool:
        """Whether a process of this launcher is known to work on a run, by the name of its folder."""
        return False  # SLURM's queue tells

    @abstractmethod
    def _left(self) -> str:
        """What becomes of started jobs without the launcher."""

    @abstractmethod
    def _submit(self, runs: Sequence[DictConfig], asked: Sequence[dict[str, Any]]) -> Started:
        """Hand the runs over, and tell the job of each."""

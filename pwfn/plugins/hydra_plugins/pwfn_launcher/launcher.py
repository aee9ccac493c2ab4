"""What hydra-submitit-launcher lacks for sweeps that lose nothing.

Runs that are finished or under way are left alone; a run's configuration and code are those of its submission; one
run's end is no other's; and a sweep is watched through its files, so that anybody can go on watching.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.errors import CompactHydraException
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from hydra_plugins.pwfn_launcher import job
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

__all__ = ["LocalLauncher", "SlurmLauncher"]

log = logging.getLogger(__name__)


class SweepFailed(CompactHydraException):
    """Ends the launching process with one sentence and exit code 1."""


class Launcher(BaseSubmititLauncher):
    """Starts a sweep's runs, waits for them, and shows how they ended."""

    def __init__(
        self, poll_seconds: float, detach: bool = False, max_array: int = 0, parallel: int = 1, **params: Any
    ) -> None:
        super().__init__(**params)
        self.poll_seconds, self.detach, self.max_array, self.parallel = poll_seconds, detach, max_array, parallel
        self.code = Path()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Start what is neither finished nor under way; unless detached, return when all have ended."""
        from pwfn.rundir.files import append_json
        from pwfn.rundir.naming import label
        from pwfn.rundir.status import ALIVE, print_status, status, watch

        sweep = Path(self.config.hydra.sweep.dir).absolute()
        configs = [self._frozen(sweep, *pair) for pair in enumerate(job_overrides, initial_job_idx)]
        label(sweep, self.config, configs)
        listed = sweep / "jobs.jsonl"
        states = {run.folder.name: run.state for run in status(sweep)} if listed.exists() else {}
        todo = [cfg for cfg in configs if states.get(cfg.hydra.sweep.subdir) not in ("finished", *ALIVE)]
        log.info("%s: %d runs, %d to start", sweep, len(configs), len(todo))

        def enter(cfg: DictConfig, number: str | None) -> None:
            entry = {"folder": cfg.hydra.sweep.subdir, "cluster": self._EXECUTOR, "job": number}
            append_json(listed, {**entry, "overrides": list(cfg.hydra.overrides.task)})

        for cfg in todo:
            enter(cfg, None)
        jobs: list[submitit.Job[Any]] = []
        for cfg, started in self._start(sweep, todo) if todo else ():
            enter(cfg, started.job_id)
            jobs.append(started)
        if self.detach:
            log.info("queued; python -m pwfn.report status %s", sweep)
            return [JobReturn(o, status=JobStatus.COMPLETED) for o in job_overrides]
        names = [str(cfg.hydra.sweep.subdir) for cfg in configs]
        runs = watch(sweep, names, self.poll_seconds, lambda: self._alive(jobs))
        print_status(runs)
        bad = [run for run in runs if run.state != "finished"]
        error = SweepFailed(f"{len(bad)} of {len(runs)} runs did not finish; the same command runs them again")
        ends = [(JobStatus.FAILED, error) if r in bad else (JobStatus.COMPLETED, r.figures["acc1"]) for r in runs]
        return [JobReturn(o, status=s, _return_value=v) for o, (s, v) in zip(job_overrides, ends, strict=True)]

    def __call__(self, cfg: DictConfig, singletons: Any, gpus: str | None) -> Any:
        """Carry out one run: what happens inside a job."""
        return job.carry_out(self, cfg, singletons, gpus)

    def _frozen(self, sweep: Path, number: int, overrides: Sequence[str]) -> DictConfig:
        """A run's configuration as it is now: nothing in it is looked up when the job starts."""
        from pwfn.rundir.naming import run_name, swept_keys, to_dict

        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with read_write(cfg), open_dict(cfg):
            cfg.merge_with(to_dict(cfg))
            cfg.hydra.sweep.subdir = run_name(cfg, swept_keys(self.config))
            cfg.hydra.sweep.dir = str(sweep)
            cfg.hydra.job.num = number
        return cfg

    def _start(self, sweep: Path, runs: Sequence[DictConfig]) -> Iterator[tuple[DictConfig, submitit.Job[Any]]]:
        """Submit runs, with a copy of the code as it is now."""
        from pwfn.rundir.provenance import snapshot

        stamp = f"code-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.code = snapshot(sweep / ".submitit" / stamp, Path(__file__).parent)
        params, shared = dict(self.params), set(OmegaConf.structured(BaseQueueConf))
        folder = params.pop("submitit_folder")
        first = {f"{self._EXECUTOR}_{key}": params.pop(key) for key in ("max_num_timeout",) if key in params}
        executor = submitit.AutoExecutor(folder, cluster=self._EXECUTOR, **first)
        executor.update_parameters(**{k if k in shared else f"{self._EXECUTOR}_{k}": v for k, v in params.items()})
        path = os.pathsep.join(filter(None, [str(self.code), os.environ.get("PYTHONPATH")]))
        with env_override({"PYTHONPATH": path}):
            yield from self._submit(executor, runs)

    def _alive(self, jobs: Sequence[submitit.Job[Any]]) -> bool:
        return False  # SLURM's queue tells

    @abstractmethod
    def _submit(
        self, executor: submitit.Executor, runs: Sequence[DictConfig]
    ) -> Iterator[tuple[DictConfig, submitit.Job[Any]]]:
        """Hand the runs over, and tell the job of each."""


class SlurmLauncher(Launcher):
    """One job array, or several where a sweep is larger than SLURM takes at once."""

    _EXECUTOR = "slurm"

    def _submit(
        self, executor: submitit.Executor, runs: Sequence[DictConfig]
    ) -> Iterator[tuple[DictConfig, submitit.Job[Any]]]:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
        limit = self.max_array or int((re.findall(r"MaxArraySize\s*=\s*(\d+)", shown) or ["1000"])[0])
        for start in range(0, len(runs), limit):
            part = runs[start : start + limit]
            array = executor.map_array(self, part, [Singleton.get_state()] * len(part), [None] * len(part))
            log.info("SLURM job %s: %d runs", array[0].job_id.partition("_")[0], len(part))
            yield from zip(part, array, strict=True)


class LocalLauncher(Launcher):
    """Runs on this machine, ``parallel`` at a time, which share its GPUs out; a process per device of a run."""

    _EXECUTOR = "local"

    def _frozen(self, sweep: Path, number: int, overrides: Sequence[str]) -> DictConfig:
        cfg = super()._frozen(sweep, number, overrides)
        if cfg.trainer.num_nodes > 1:
            raise SweepFailed(
                f"trainer.num_nodes={cfg.trainer.num_nodes}: a sweep on this machine has one node; "
                "set trainer.num_nodes=1, or hydra/launcher=slurm"
            )
        return cfg

    def _submit(
        self, executor: submitit.Executor, runs: Sequence[DictConfig]
    ) -> Iterator[tuple[DictConfig, submitit.Job[Any]]]:
        gpus = job.visible_gpus()
        slots: dict[int, submitit.Job[Any] | None] = dict.fromkeys(range(max(1, self.parallel)))
        for cfg in runs:
            while (free := next((i for i, held in slots.items() if held is None or held.done()), None)) is None:
                time.sleep(0.2)
            mine = gpus[free :: len(slots)] or gpus[free % max(1, len(gpus)) :][:1]
            log.info("starting %s", cfg.hydra.sweep.subdir)
            executor.update_parameters(tasks_per_node=job.processes(cfg.trainer, len(mine)))
            with env_override({"MASTER_PORT": job.free_port()}):
                started = executor.submit(self, cfg, Singleton.get_state(), ",".join(mine) or None)
            slots[free] = started
            yield cfg, started

    def _alive(self, jobs: Sequence[submitit.Job[Any]]) -> bool:
        return not all(started.done() for started in jobs)

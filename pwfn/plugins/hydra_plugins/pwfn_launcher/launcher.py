"""Launchers for sweeps: what hydra-submitit-launcher lacks.

Runs that are finished or under way are left alone, a run's configuration and code are those of its submission, one
run's end is no other's, SLURM sees failures, and the sweep is watched through its files (:mod:`pwfn.status`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
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

Started = Callable[[int, submitit.Job], None]


class SweepFailed(CompactHydraException):
    """Ends the launching process with one sentence and exit code 1."""


class Launcher(BaseSubmititLauncher):
    """Submits a sweep's runs, waits for them, and shows how they ended."""

    detach = False

    def __init__(self, *, poll_seconds: float, **params: Any) -> None:
        super().__init__(**params)
        self.poll_seconds = poll_seconds
        self.code = Path()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Start what is neither finished nor under way; unless detached, return when all have ended."""
        from pwfn.naming import sweep_name
        from pwfn.status import ALIVE, print_status, status

        sweep = Path(self.config.hydra.sweep.dir).absolute()
        configs = [self._frozen(sweep, *pair) for pair in enumerate(job_overrides, initial_job_idx)]
        _tag(sweep, sweep_name(self.config), configs)
        names = [str(cfg.hydra.sweep.subdir) for cfg in configs]
        listed = sweep / "jobs.jsonl"
        states = {run.folder.name: run.state for run in status(sweep)} if listed.exists() else {}
        todo = [i for i, name in enumerate(names) if states.get(name) not in ("finished", *ALIVE)]
        log.info("%s: %d runs, %d to start", sweep, len(names), len(todo))

        def enter(number: int, started: submitit.Job[Any] | None) -> None:
            overrides = OmegaConf.to_container(configs[number].hydra.overrides.task)
            entry = {"folder": names[number], "cluster": self._EXECUTOR, "overrides": overrides}
            with listed.open("a") as file:
                file.write(json.dumps({**entry, "job": started and started.job_id}) + "\n")

        for i in todo:
            enter(i, None)
        running = self._start([(i, configs[i]) for i in todo], sweep, enter) if todo else []
        if self.detach:
            log.info("queued; python -m pwfn.report status %s", sweep)
            return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]
        runs = self._watch(sweep, names, running)
        print_status(runs)
        bad = [run for run in runs if run.state != "finished"]
        error = SweepFailed(f"{len(bad)} of {len(runs)} runs did not finish; the same command runs them again")
        results = [(JobStatus.FAILED, error) if r in bad else (JobStatus.COMPLETED, r.figures["acc1"]) for r in runs]
        return [JobReturn(list(o), status=s, _return_value=v) for o, (s, v) in zip(job_overrides, results, strict=True)]

    def __call__(self, cfg: DictConfig, singletons: Any, gpus: str | None) -> Any:
        """Carry out one run: what happens inside a job."""
        return job.carry_out(self, cfg, singletons, gpus)

    def _frozen(self, sweep: Path, number: int, overrides: Sequence[str]) -> DictConfig:
        """A run's configuration as it is now: nothing in it is looked up when the job starts."""
        from pwfn.naming import plain

        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with read_write(cfg), open_dict(cfg):
            cfg.merge_with(plain(cfg))
            cfg.hydra.sweep.subdir = cfg.hydra.sweep.subdir
            cfg.hydra.sweep.dir = str(sweep)
            cfg.hydra.job.num = number
        return cfg

    def _start(self, runs: Sequence[tuple[int, DictConfig]], sweep: Path, enter: Started) -> list[submitit.Job[Any]]:
        """Hand runs to the executor, with a copy of the code as it is now."""
        from pwfn.provenance import snapshot

        stamp = f"code-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.code = snapshot(sweep / ".submitit" / stamp, Path(__file__).parent)
        params, shared = dict(self.params), set(OmegaConf.structured(BaseQueueConf))
        folder = params.pop("submitit_folder")
        first = {f"{self._EXECUTOR}_{key}": params.pop(key) for key in ("max_num_timeout",) if key in params}
        executor = submitit.AutoExecutor(folder, cluster=self._EXECUTOR, **first)
        executor.update_parameters(**{k if k in shared else f"{self._EXECUTOR}_{k}": v for k, v in params.items()})
        path = os.pathsep.join(filter(None, [str(self.code), os.environ.get("PYTHONPATH")]))
        with env_override({"PYTHONPATH": path}):
            return self._submit(executor, runs, enter)

    def _submit(
        self, executor: submitit.Executor, runs: Sequence[tuple[int, DictConfig]], enter: Started
    ) -> list[submitit.Job[Any]]:
        raise NotImplementedError

    def _watch(self, sweep: Path, names: Sequence[str], running: Iterable[submitit.Job[Any]]) -> list[Any]:
        """Look at the sweep until nothing in it moves: twice, since files may come late on a shared file system."""
        from pwfn.status import ALIVE, status

        still = False
        while True:
            try:
                found = {run.folder.name: run for run in status(sweep)}
            except OSError as error:
                log.warning("%s; looking again", error)
            else:
                runs = [found[name] for name in names]
                moves = any(run.state in ALIVE for run in runs) or self._alive(running)
                if not moves and (still or all(run.state == "finished" for run in runs)):
                    return runs
                still = not moves
            time.sleep(self.poll_seconds)

    def _alive(self, running: Iterable[submitit.Job[Any]]) -> bool:
        return False  # SLURM's queue tells


class SlurmLauncher(Launcher):
    """One job array, or several where a sweep is larger than SLURM takes at once."""

    _EXECUTOR = "slurm"

    def __init__(self, *, detach: bool, max_array: int, **params: Any) -> None:
        super().__init__(**params)
        self.detach, self.max_array = detach, max_array

    def _submit(
        self, executor: submitit.Executor, runs: Sequence[tuple[int, DictConfig]], enter: Started
    ) -> list[submitit.Job[Any]]:
        config = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
        limit = self.max_array or int((re.findall(r"MaxArraySize\s*=\s*(\d+)", config) or ["1000"])[0])
        jobs: list[submitit.Job[Any]] = []
        for start in range(0, len(runs), limit):
            part = runs[start : start + limit]
            state = Singleton.get_state()
            array = executor.map_array(self, [cfg for _, cfg in part], [state] * len(part), [None] * len(part))
            for (number, _), submitted in zip(part, array, strict=True):
                enter(number, submitted)
            log.info("SLURM job %s: %d runs", array[0].job_id.partition("_")[0], len(part))
            jobs += array
        return jobs


class LocalLauncher(Launcher):
    """A process per run on this machine, ``parallel`` at a time, which share its GPUs out."""

    _EXECUTOR = "local"

    def __init__(self, *, parallel: int, **params: Any) -> None:
        super().__init__(**params)
        self.parallel = parallel

    def _submit(
        self, executor: submitit.Executor, runs: Sequence[tuple[int, DictConfig]], enter: Started
    ) -> list[submitit.Job[Any]]:
        gpus = _gpus()
        slots: list[submitit.Job[Any] | None] = [None] * max(1, self.parallel)
        jobs: list[submitit.Job[Any]] = []
        for number, cfg in runs:
            while (free := next((i for i, j in enumerate(slots) if j is None or j.done()), None)) is None:
                time.sleep(0.2)
            mine = gpus[free :: len(slots)] or gpus[free % max(1, len(gpus)) :][:1]
            started = executor.submit(self, cfg, Singleton.get_state(), ",".join(mine) or None)
            enter(number, started)
            slots[free] = started
            jobs.append(started)
            log.info("%d of %d: %s", len(jobs), len(runs), cfg.hydra.sweep.subdir)
        return jobs

    def _alive(self, running: Iterable[submitit.Job[Any]]) -> bool:
        return any(not started.done() for started in running)


def _tag(sweep: Path, name: str, configs: Sequence[DictConfig]) -> None:
    """Group a sweep's runs in W&B by its name and first day, and tag them with what differs between them."""
    from pwfn.files import read_json, write_json

    born = read_json(sweep / "sweep.json")
    if born is None:
        born = {"name": name, "date": date.today().isoformat()}
        write_json(sweep / "sweep.json", born)
    common = set.intersection(*(set(cfg.hydra.overrides.task) for cfg in configs))
    for cfg in configs:
        if "group" not in cfg.logger:
            continue
        with read_write(cfg):
            cfg.logger.group = cfg.logger.group or f"{born['name']} {born['date']}"
            cfg.logger.tags = [*cfg.logger.tags, *(o for o in cfg.hydra.overrides.task if o not in common)]


def _gpus() -> list[str]:
    """The GPUs of this process, by the names that CUDA_VISIBLE_DEVICES knows."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return []
    return [str(i) for i in range(len(re.findall(r"^GPU \d", listed, re.M)))]

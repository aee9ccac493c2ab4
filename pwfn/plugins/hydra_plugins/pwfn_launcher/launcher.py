"""Launchers for sweeps that lose nothing, on top of hydra-submitit-launcher's.

====================================================  ==============================================================
what is added                                         shown by
====================================================  ==============================================================
a run has the configuration and code of submission    test_slurm::test_fresh_installation_submits_from_elsewhere...
finished runs and those under way are left alone      test_slurm::test_same_command_resumes...
... also if another sweep has finished them           test_sweeps::test_a_run_finished_elsewhere_is_not_computed_again
a run's end is no other's; failures are told apart    test_slurm::test_launcher_shows_all_runs_and_fails
a sweep is watched through its files, by anybody      test_slurm::test_killed_and_cancelled_runs_are_told_apart
resources follow from the trainer                     test_limits::test_resources_follow_from_the_trainer
one rank's error ends all ranks and is named          test_limits::test_a_rank_that_fails_ends_the_job
SLURM's limits on arrays and on submitted jobs        test_limits::test_submit_limit
two launchers submit a run once                       test_limits::test_two_launchers_at_once
a sweep is composed once                              test_composition
====================================================  ==============================================================
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import env_override
from hydra_plugins.pwfn_launcher import job, queueing, resources
from hydra_plugins.pwfn_launcher.base import Launcher, Started
from omegaconf import DictConfig

__all__ = ["LocalLauncher", "SlurmLauncher"]

log = logging.getLogger(__name__)


class SlurmLauncher(Launcher):
    """Job arrays: one for the runs that ask for the same, or several where that is more than SLURM takes at once."""

    _EXECUTOR = "slurm"

    def __init__(self, srun_args: Sequence[str] = (), **params: Any) -> None:
        super().__init__(srun_args=["--kill-on-bad-exit=1", *srun_args], **params)

    def _resources(self, cfg: DictConfig) -> dict[str, Any]:
        return resources.resources(cfg.trainer, {**self.params, "mem_gb_per_device": self.mem_gb_per_device})

    def _submit(self, runs: Sequence[DictConfig], asked: Sequence[dict[str, Any]]) -> Started:
        for wanted in (dict(kind) for kind in dict.fromkeys(tuple(kind.items()) for kind in asked)):
            alike = [cfg for cfg, kind in zip(runs, asked, strict=True) if kind == wanted]
            yield from queueing.in_arrays(self, self._executor(wanted), alike, Singleton.get_state())

    def _left(self, jobs: Sequence[submitit.Job[Any]]) -> str:
        arrays = dict.fromkeys(started.job_id.partition("_")[0] for started in jobs)
        return f"the jobs go on; scancel {' '.join(arrays)} ends them" if jobs else "no job was submitted"


class LocalLauncher(Launcher):
    """Runs on this machine, ``parallel`` at a time, which share its GPUs out; a process per device of a run."""

    _EXECUTOR = "local"

    def _resources(self, cfg: DictConfig) -> dict[str, Any]:
        if cfg.trainer.num_nodes > 1:
            raise ValueError(
                f"trainer.num_nodes={cfg.trainer.num_nodes}: a sweep on this machine has one node; "
                "set trainer.num_nodes=1, or hydra/launcher=slurm"
            )
        return {}

    def _submit(self, runs: Sequence[DictConfig], asked: Sequence[dict[str, Any]]) -> Started:
        gpus, executor = job.visible_gpus(), self._executor({})
        slots: dict[int, submitit.Job[Any] | None] = dict.fromkeys(range(max(1, self.parallel)))
        for cfg in runs:
            while (free := next((i for i, held in slots.items() if held is None or held.done()), None)) is None:
                time.sleep(0.2)
            mine = gpus[free :: len(slots)] or gpus[free % max(1, len(gpus)) :][:1]
            log.info("starting %s", cfg.hydra.sweep.subdir)
            executor.update_parameters(tasks_per_node=resources.processes(cfg.trainer, len(mine)))
            with env_override({"MASTER_PORT": job.free_port()}):
                started = executor.submit(self, cfg, Singleton.get_state(), ",".join(mine) or None)
            slots[free] = started
            yield cfg, started

    def _alive(self, jobs: Sequence[submitit.Job[Any]]) -> bool:
        return not all(started.done() for started in jobs)

    def _left(self, jobs: Sequence[submitit.Job[Any]]) -> str:
        return "the same command goes on with the runs that are left"

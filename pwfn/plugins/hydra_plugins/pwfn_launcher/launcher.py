"""Launchers for sweeps that lose nothing, on top of hydra-submitit-launcher's.

====================================================  ================================================================
what is added                                         shown by, in tests/plugins
====================================================  ================================================================
a run has the configuration and code of submission    test_slurm: fresh_installation_submits_from_elsewhere_what_it_was
finished runs and those under way are left alone      test_slurm: same_command_resumes_though_its_launcher_is_killed
... also if another sweep has finished them           test_reuse
a failed run ends no other, and SLURM sees it         test_slurm: exception_fails_the_job_and_stands_in_its_log
killed, cancelled and failed runs are told apart      test_slurm: killed_and_cancelled_runs_are_told_apart
preempted runs go back to the queue                   test_slurm: preempted_run_goes_on; test_ranks: two_ranks_go_on
nodes, tasks, GPUs and memory follow from trainer     test_resources; test_ranks: submission_file_of_four_gpus
runs that ask for different resources are grouped     test_ranks: runs_are_grouped_by_what_they_ask_for
a rank's error ends all ranks and is the one told     test_ranks: a_rank_that_fails_ends_the_job
larger sweeps than an array or MaxSubmitJobs          test_slurm: more_jobs_than_an_array; test_limits: submit_limit
two launchers, or jobs, do not compute a run twice    test_limits: two_launchers_at_once, a_second_job_for_a_run_ends
a run is composed once, most of them by copying       test_composition
settings and what a run reads are checked first       test_checks: nothing_is_started_of_a_sweep_with_a_bad_run
signals while SLURM's controller is away              test_slurm: controller_away_at_the_signal
the lock that a lost node left is taken over          rundir/test_lock: a_job_takes_up_the_run_of_a_lost_node
return when the jobs are queued                       test_limits: submit_limit_detached
Ctrl-C leaves the jobs alone and says how to end them test_limits: control_c
arguments of srun (containers), mail                  test_ranks: arguments_of_srun_and_mail
eight tasks, two nodes                                test_many_ranks: a_run_of_many_ranks
====================================================  ================================================================
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

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

    def _left(self) -> str:
        arrays = dict.fromkeys(started.job_id.partition("_")[0] for started in self.jobs.values())
        return f"the jobs go on; scancel {' '.join(arrays)} ends them" if arrays else "no job was submitted"


class LocalLauncher(Launcher):
    """Runs on this machine, ``parallel`` at a time, which share its GPUs out; a process per device of a run."""

    _EXECUTOR = "local"

    def __init__(self, parallel: int = 1, **params: Any) -> None:
        super().__init__(**params)
        self.parallel = max(1, parallel)
        self.slots: dict[int, str] = {}  # the run that has each share of the GPUs

    def _resources(self, cfg: DictConfig) -> dict[str, Any]:
        if cfg.trainer.num_nodes > 1:
            raise ValueError(
                f"trainer.num_nodes={cfg.trainer.num_nodes}: a sweep on this machine has one node; "
                "set trainer.num_nodes=1, or hydra/launcher=slurm"
            )
        return {}

    def _submit(self, runs: Sequence[DictConfig], asked: Sequence[dict[str, Any]]) -> Started:
        gpus, executor = job.visible_gpus(), self._executor({})
        for cfg in runs:
            while not self.room():
                time.sleep(0.2)
            free = self._free()[0]
            mine = gpus[free :: self.parallel] or gpus[free % max(1, len(gpus)) :][:1]
            log.info("starting %s", cfg.hydra.sweep.subdir)
            executor.update_parameters(tasks_per_node=resources.processes(cfg.trainer, len(mine)))
            with env_override({"MASTER_PORT": job.free_port()}):
                started = executor.submit(self, cfg, Singleton.get_state(), ",".join(mine) or None)
            self.slots[free] = cfg.hydra.sweep.subdir
            yield cfg, started

    def room(self) -> int:
        """Of the ``parallel`` runs at a time those that are not under way."""
        return len(self._free())

    def alive(self, name: str) -> bool:
        """Whether the process that was started for a run has not ended."""
        return name in self.jobs and not self.jobs[name].done()

    def _free(self) -> list[int]:
        return [slot for slot in range(self.parallel) if not self.alive(self.slots.get(slot, ""))]

    def _left(self) -> str:
        return "the same command goes on with the runs that are left"

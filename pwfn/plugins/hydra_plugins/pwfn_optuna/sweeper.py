"""A search by Optuna whose trials are a sweep's runs: kept in a database, resumed by the same command.

hydra-optuna-sweeper asks for an Optuna below 3 and sees what a launcher returns; this one reads the runs' files.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

__all__ = ["OptunaSweeper"]

log = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """Keeps trials under way: as soon as a run ends, its objectives are told, and Optuna is asked for the next.

    Args:
        directions: ``maximize`` or ``minimize``, one for each name in the setting ``objective``.
        trials: finished trials to end with, those of earlier tries included; a process that shares its database does
            not count what others still run, so that together they may end with up to ``batch`` more for each of them.
        batch: trials under way at once, as far as the launcher has room for them.
        storage: Optuna's database, which several processes may share; ``search.db`` in the sweep's folder if None.
        sampler: what makes Optuna's sampler from a ``seed``; Optuna's own choice if None.
        seed: of the sampler.
        params: overrides, by key, that the search varies or all its runs share.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Any

    def __init__(
        self, directions: Sequence[str], trials: int, batch: int, storage: str | None, sampler: Any, seed: int,
        params: DictConfig | None,
    ) -> None:  # fmt: skip
        self.directions, self.trials, self.batch, self.storage = [*directions], trials, batch, storage
        self.sampler, self.seed, self.params = sampler, seed, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take over what Hydra knows."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Search until there are as many finished trials as asked for; ``search.json`` then lists the best."""
        if not hasattr(self.launcher, "begin"):
            raise CompactHydraException("a search starts its runs one by one: set hydra/launcher=local, or slurm")
        try:
            import optuna
        except ImportError as error:
            raise CompactHydraException("a search needs its package: pip install -e '.[search]'") from error
        from hydra_plugins.pwfn_optuna._space import search_space

        found: Any = OmegaConf.select(self.config, "objective")
        names = found or "acc1"
        self.names: list[str] = [str(names)] if isinstance(names, str) else [str(name) for name in names]
        if len(self.directions) != len(self.names):
            raise CompactHydraException(
                f"hydra.sweeper.directions must name {len(self.names)} directions, as many as objective"
            )
        if OmegaConf.select(self.config, "hydra.launcher.detach"):
            raise CompactHydraException("a search waits for its runs: set hydra.launcher.detach=false")
        shared = [f"{key!s}={value}" for key, value in self.params.items()]
        space, fixed = search_space([*shared, *arguments])
        self.folder = Path(self.config.hydra.sweep.dir).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".search.lock", timeout=0), self.launcher.told():
                self._search(optuna, space, fixed)
        except Timeout:
            raise CompactHydraException(f"another process leads the search in {self.folder}") from None

    def _search(self, optuna: Any, space: dict[str, Any], fixed: list[str]) -> None:
        states = optuna.trial.TrialState
        study = optuna.create_study(
            study_name=" ".join(f"{word} {name}" for word, name in zip(self.directions, self.names, strict=True)),
            storage=self.storage or f"sqlite:///{self.folder / 'search.db'}",
            directions=self.directions,
            load_if_exists=True,
        )
        study.sampler = (self.sampler or optuna.samplers.TPESampler)(seed=self._seed(len(study.trials)))
        for trial in study.get_trials(deepcopy=False, states=[states.RUNNING]):
            if trial.user_attrs.get("sweep") == str(self.folder):  # a killed process left it: it goes on first
                study.tell(trial.number, state=states.FAIL)
                study.enqueue_trial(trial.params)
        under_way: list[Any] = []
        failed = 0
        while True:
            finished = len(study.get_trials(deepcopy=False, states=[states.COMPLETE]))
            missing = self.trials - finished if failed <= self.trials else 0
            more = min(min(self.batch, missing) - len(under_way), self.launcher.room())
            new = [study.ask(space) for _ in range(more)]
            self._begin(new, fixed)
            under_way += new
            if not under_way:
                break
            names = {trial.user_attrs["folder"] for trial in under_way}
            ended = {run.folder.name: run for run in self._watch(names)}
            for trial in [trial for trial in under_way if trial.user_attrs["folder"] in ended]:
                under_way.remove(trial)
                values = self._values(trial, ended[trial.user_attrs["folder"]])
                failed += values is None
                study.tell(trial, values, state=None if values else states.FAIL)
        if failed > self.trials:
            raise CompactHydraException(f"{failed} trials failed: python -m pwfn.report status {self.folder}")
        self._write(study)

    def _seed(self, trials: int) -> int:
        """A seed that a resumed search had not before, and of processes that share a study each its own."""
        own = zlib.crc32(str(self.folder).encode()) if self.storage is not None else 0
        return (self.seed + trials + own) % 2**32

    def _begin(self, trials: Sequence[Any], fixed: list[str]) -> None:
        """Have the launcher start the runs of trials, together; each trial remembers the folder of its run."""
        from hydra_plugins.pwfn_optuna._space import overrides_of

        for trial in trials:
            trial.set_user_attr("sweep", str(self.folder))
        if trials:
            overrides = [[*fixed, *overrides_of(trial.params)] for trial in trials]
            configs = self.launcher.begin(overrides, trials[0].number)
            for trial, cfg in zip(trials, configs, strict=True):
                trial.set_user_attr("folder", cfg.hydra.sweep.subdir)

    def _watch(self, names: Collection[str]) -> Sequence[Any]:
        """Wait until one of some runs has ended; those that have."""
        from pwfn.rundir.watching import watch

        return watch(self.folder, names, self.launcher.poll_seconds, self.launcher.alive, first=True)

    def _values(self, trial: Any, run: Any) -> list[float] | None:
        """The objectives of a run that has ended; None if it did not finish."""
        from pwfn.experiment.objective import objective_of

        if run.state != "finished":
            log.warning("trial %d %s: %s (%s)", trial.number, run.state, run.reason, run.log)
            return None
        found = objective_of(run.folder, self.names)
        values = [found] if isinstance(found, float) else [*found]
        log.info("trial %d: %s", trial.number, values)
        return values

    def _write(self, study: Any) -> None:
        from pwfn.rundir.files import write_json

        best = [
            {"folder": trial.user_attrs["folder"], "values": trial.values, "params": trial.params}
            for trial in study.best_trials
        ]
        write_json(self.folder / "search.json", {"objective": self.names, "best": best})
        for entry in best:
            log.info("best: %s %s", entry["values"], entry["folder"])

"""A search by Optuna whose trials are a sweep's runs: kept in a database, resumed by the same command.

hydra-optuna-sweeper asks for an Optuna below 3 and sees what a launcher returns; this one reads the runs' files.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

__all__ = ["OptunaSweeper"]

log = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """Asks Optuna for trials, ``batch`` at a time, has the launcher run them, and tells their objectives.

    Args:
        directions: ``maximize`` or ``minimize``, one for each name in the setting ``objective``.
        trials: finished trials to end with, those of earlier tries included.
        batch: trials that are asked for, and launched, at once.
        storage: Optuna's database; ``search.db`` in the sweep's folder if None.
        sampler: what makes Optuna's sampler from a ``seed``; Optuna's own choice if None.
        seed: of the sampler.
        params: overrides, by key, that the search varies or all its runs share.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

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
        self.sweep_folder = Path(self.config.hydra.sweep.dir).absolute()
        self.sweep_folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.sweep_folder / ".search.lock", timeout=0):
                self._search(optuna, space, fixed)
        except Timeout:
            raise CompactHydraException(f"another process leads the search in {self.sweep_folder}") from None

    def _search(self, optuna: Any, space: dict[str, Any], fixed: list[str]) -> None:
        study = optuna.create_study(
            study_name=" ".join(f"{word} {name}" for word, name in zip(self.directions, self.names, strict=True)),
            storage=self.storage or f"sqlite:///{self.sweep_folder / 'search.db'}",
            directions=self.directions,
            load_if_exists=True,
        )
        seed = self.seed + len(study.trials)  # a resumed search does not draw the same again
        if self.sampler is not None:
            study.sampler = self.sampler(seed=seed)
        else:
            study.sampler = optuna.samplers.TPESampler(seed=seed)
        for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            if trial.user_attrs.get("sweep") == str(self.sweep_folder):  # a killed process left it: it goes on first
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                study.enqueue_trial(trial.params)
        failed = 0
        while (missing := self.trials - self._finished(optuna, study)) > 0:
            batch = [study.ask(space) for _ in range(min(self.batch, missing))]
            failed += self._run(optuna, study, batch, fixed)
            if failed > self.trials:
                raise CompactHydraException(f"{failed} trials failed: python -m pwfn.report status {self.sweep_folder}")
        self._write(study)

    def _finished(self, optuna: Any, study: Any) -> int:
        return len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))

    def _run(self, optuna: Any, study: Any, batch: Sequence[Any], fixed: list[str]) -> int:
        """Launch a batch of trials and tell how they ended; the number of those that failed."""
        from hydra_plugins.pwfn_optuna._space import overrides_of

        from pwfn.rundir.naming import run_name, swept_keys

        overrides = [[*fixed, *overrides_of(trial.params)] for trial in batch]
        self.validate_batch_is_legal(overrides)
        folders = []
        for trial, override in zip(batch, overrides, strict=True):
            cfg = self.hydra_context.config_loader.load_sweep_config(self.config, override)
            folders.append(self.sweep_folder / run_name(cfg, swept_keys(self.config)))
            trial.set_user_attr("sweep", str(self.sweep_folder))
            trial.set_user_attr("folder", folders[-1].name)
        self.launcher.launch(overrides, initial_job_idx=batch[0].number)
        failed = 0
        for trial, folder in zip(batch, folders, strict=True):
            values = self._values(folder)
            if values is None:
                failed += 1
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, values)
                log.info("trial %d: %s", trial.number, values)
        return failed

    def _values(self, folder: Path) -> list[float] | None:
        """The objectives of a run; None if it did not finish."""
        from pwfn.experiment.objective import objective_of
        from pwfn.rundir.files import read_json

        if (read_json(folder / "summary.json") or {}).get("status") != "finished":
            return None
        try:
            values = objective_of(folder, self.names)
        except ValueError as error:
            raise CompactHydraException(f"{error}") from error
        return [values] if isinstance(values, float) else [*values]

    def _write(self, study: Any) -> None:
        from pwfn.rundir.files import write_json

        best = [
            {"folder": trial.user_attrs["folder"], "values": trial.values, "params": trial.params}
            for trial in study.best_trials
        ]
        write_json(self.sweep_folder / "search.json", {"objective": self.names, "best": best})
        for entry in best:
            log.info("best: %s %s", entry["values"], entry["folder"])

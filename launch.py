"""Run one experiment, or a sweep of them: ``python launch.py [GROUP=OPTION] [KEY=VALUE] ...``

``python launch.py --help`` lists the choices.
"""

from __future__ import annotations

import csv
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parent
PLUGINS = str(ROOT / "pwfn" / "plugins")
if PLUGINS not in sys.path:  # the launchers of this checkout, whether it or another one is installed
    sys.path.insert(1, PLUGINS)


def _sweep_name(*, _root_: DictConfig) -> str:
    from pwfn.rundir.naming import sweep_name

    return sweep_name(_root_)


def _run_name(*, _root_: DictConfig) -> str:
    from pwfn.rundir.naming import run_name

    return run_name(_root_)


OmegaConf.register_new_resolver("root", lambda: str(ROOT), replace=True)
OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("sweep_name", _sweep_name, replace=True)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | tuple[float, ...]:
    """Carry out the configured run; Hydra's optimising sweepers see what ``objective`` names, one value or several."""
    from lightning.pytorch.utilities import rank_zero_only

    from pwfn.experiment.objective import objective
    from pwfn.experiment.prepare import prepare
    from pwfn.experiment.run import execute
    from pwfn.report import console  # after composition: `--help` and mistyped options answer at once

    # Lightning's tips and hints; its warnings stay
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", message=".*LeafSpec|The `srun` command|.*does not have many workers|The number of training"
    )
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        experiment = prepare(cfg, folder)
    except (InstantiationException, ValueError, OSError) as error:
        raise CompactHydraException(f"{_cause(error)}") from error
    try:
        summary = execute(experiment)
    except FloatingPointError as error:
        raise CompactHydraException(f"{error}") from error
    rank_zero_only(console.print_summary)(summary, folder)
    with (folder / "rounds.csv").open(newline="") as rounds:
        rows = [*csv.DictReader(rounds)]
    try:
        return objective(summary, rows, cfg.objective)
    except ValueError as error:
        raise CompactHydraException(f"{error}") from error


def _cause(error: BaseException) -> Any:
    """What was wrong with the input, without the frames of instantiation around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


if __name__ == "__main__":
    if any(argument.startswith("evaluate=") for argument in sys.argv[1:]):
        from pwfn.report.__main__ import main as report

        folder = next(a for a in sys.argv[1:] if a.startswith("evaluate=")).partition("=")[2]
        print(f"evaluate= has moved: python -m pwfn.report evaluate {folder}", file=sys.stderr)
        raise SystemExit(report(["evaluate", folder, *(a for a in sys.argv[1:] if not a.startswith("evaluate="))]))
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None

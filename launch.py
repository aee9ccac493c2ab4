"""Run one experiment, or a sweep of them: ``python launch.py [GROUP=OPTION] [KEY=VALUE] ...``

``python launch.py --help`` lists the choices.
"""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    InstantiationException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

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

    from pwfn.experiment.build import sentence
    from pwfn.experiment.objective import objective_of
    from pwfn.experiment.prepare import prepare
    from pwfn.experiment.process import process
    from pwfn.experiment.run import execute
    from pwfn.report import console  # after composition: `--help` and mistyped options answer at once

    # Lightning's tips and hints; its warnings stay
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", message=".*LeafSpec|The `srun` command|.*does not have many workers|The number of training"
    )
    folder = Path(HydraConfig.get().runtime.output_dir)
    alone = HydraConfig.get().mode is RunMode.RUN
    try:
        experiment = prepare(cfg, folder)
    except (InstantiationException, ValueError, OSError) as error:
        raise (SystemExit if alone else CompactHydraException)(sentence(error)) from error
    try:
        with process(folder) if alone else nullcontext():
            summary = execute(experiment)
    except FloatingPointError as error:
        raise CompactHydraException(f"{error}") from error
    rank_zero_only(console.print_summary)(summary, folder)
    try:
        return objective_of(folder, cfg.objective)
    except ValueError as error:
        raise (SystemExit if alone else CompactHydraException)(sentence(error)) from error


USAGE = (ConfigCompositionException, OmegaConfBaseException, OverrideParseException)
"""Errors of the command line itself: options and keys that do not exist, overrides that cannot be read."""


def command_line(arguments: list[str]) -> int:
    """Carry a command line out; gives the exit code: 2 where it cannot be understood, 1 for other errors."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a letter shows ? instead of ending the run
    if "--version" in arguments:
        from pwfn import __version__

        print(f"pwfn {__version__}")
        return 0
    if {"--help", "-h"} & {*arguments}:
        from pwfn.report.options import help_text

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --help | head
        print(help_text(ROOT / "conf", arguments))
        return 0
    if "-sc" in arguments and any(argument.startswith("query=") for argument in arguments):
        from pwfn.report.options import completions

        words = completions(ROOT / "conf", os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", 0))])
        if words is not None:
            print(" ".join(words))
            return 0
    if any(argument.startswith("evaluate=") for argument in arguments):
        from pwfn.report.__main__ import main as report

        folder = next(a for a in arguments if a.startswith("evaluate=")).partition("=")[2]
        print(f"evaluate= has moved: python -m pwfn.report evaluate {folder}", file=sys.stderr)
        return report(["evaluate", folder, *(a for a in arguments if not a.startswith("evaluate="))])
    traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on, instead of adding advice about itself
    try:
        main()
    except (CompactHydraException, OmegaConfBaseException) as error:
        if traceback:
            raise
        print(_answer(error), file=sys.stderr)
        return 2 if isinstance(error, USAGE) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _answer(error: BaseException) -> str:
    """What was wrong with the command line, in at most three lines."""
    from pwfn.experiment.validation import explanation
    from pwfn.rundir.unset import ask_for

    missing = re.search(r"Missing mandatory value: (\S+)", str(error))
    if missing:
        return ask_for([missing[1]])
    message = str(error).partition("Config search path:")[0].strip()
    lines = message.splitlines()
    if isinstance(error.__cause__, OmegaConfBaseException):  # Hydra says which override, it says why
        message += f"\n{error.__cause__}"
        lines += str(error.__cause__).splitlines()[:1]
    return explanation(message) or ("\n".join(lines) if len(lines) <= 3 else " ".join(" ".join(lines).split()))


if __name__ == "__main__":
    raise SystemExit(command_line(sys.argv[1:]))

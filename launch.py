"""Run one experiment, or a sweep of them: ``python launch.py [GROUP=OPTION] [KEY=VALUE] ...``

``python launch.py --help`` lists the choices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parent
OmegaConf.register_new_resolver("root", lambda: str(ROOT), replace=True)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Carry out the configured run; its test accuracy is the value that Hydra's optimising sweepers see."""
    from pwfn import console, run  # after composition: `--help` and mistyped options answer at once

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        experiment = run.prepare(cfg, folder)
    except (InstantiationException, ValueError, OSError) as error:
        raise CompactHydraException(f"{_cause(error)}") from error
    summary = run.execute(experiment)
    console.print_summary(summary, folder)
    return float(summary["acc1"])


def _cause(error: BaseException) -> Any:
    """What was wrong with the input, without the frames of instantiation around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


if __name__ == "__main__":
    main()

"""What sweepers hear from the launchers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from hydra_plugins.pwfn_launcher.composition import freeze
from omegaconf import OmegaConf

from pwfn.rundir.files import append_json, write_csv, write_json
from pwfn.rundir.naming import run_name, sweep_name


@pytest.fixture
def launcher(root: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``make(*overrides)``: the launcher on this machine as ``launch.py`` gets it, with its sweep in ``tmp_path``."""
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
    OmegaConf.register_new_resolver("sweep_name", lambda *, _root_: sweep_name(_root_), replace=True)
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):

        def make(*overrides: str) -> Any:
            asked = [*overrides, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path}", "hydra.job.name=launch"]
            config = compose("config", overrides=asked, return_hydra_config=True)
            context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=None)
            return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=print, config=config)

        yield make


def finish(launcher: Any, overrides: list[str], folder: Path, accuracy: float, entropy: float) -> None:
    """Leave what a finished run leaves, where the launcher looks for the run."""
    cfg = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, overrides)
    freeze(cfg, folder, 0, [])
    name = cfg.hydra.sweep.subdir
    write_json(folder / name / "summary.json", {"status": "finished", "acc1": 99.0, "entropy": entropy})
    write_csv(folder / name / "rounds.csv", [{"round": 0, "acc1_after": accuracy}])
    append_json(folder / "jobs.jsonl", {"folder": name, "cluster": "local", "job": None, "overrides": overrides})


@pytest.mark.parametrize(
    ("objective", "heard"),
    [("acc1", [60.5, 70.5]), ("entropy", [3.0, 2.0]), ("[entropy,acc1]", [(3.0, 60.5), (2.0, 70.5)])],
)
def test_a_sweeper_hears_the_objective(objective: str, heard: list[Any], launcher: Any, tmp_path: Path) -> None:
    local = launcher()
    points = [[f"objective={objective}", f"seed={seed}"] for seed in (1, 2)]
    for point, figures in zip(points, ((60.5, 3.0), (70.5, 2.0)), strict=True):
        finish(local, point, tmp_path, *figures)
    assert [ended.return_value for ended in local.launch(points, 0)] == heard


def test_a_figure_that_runs_lack_is_named(launcher: Any, tmp_path: Path) -> None:
    local, point = launcher(), ["objective=ensemble_acc1"]
    finish(local, point, tmp_path, 60.5, 3.0)
    with pytest.raises(HydraException, match="a run has no figure 'ensemble_acc1': change objective"):
        local.launch([point], 0)

"""A run is its configuration: what any sweep has finished is not computed again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra_plugins.pwfn_launcher.queueing import sort_out
from omegaconf import DictConfig, OmegaConf, open_dict

import pwfn
from pwfn.report.__main__ import main
from pwfn.rundir.naming import config_hash, run_name, sweep_name
from pwfn.rundir.reuse import EARLIER, present_code
from pwfn.rundir.status import status


@pytest.fixture
def composed(root: Path) -> Iterator[Any]:
    """``composed(*overrides)`` with Hydra's part."""
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
    OmegaConf.register_new_resolver("sweep_name", lambda *, _root_: sweep_name(_root_), replace=True)
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        yield lambda *overrides: compose("config", overrides=list(overrides), return_hydra_config=True)


def finish(sweep: Path, name: str, cfg: DictConfig, version: str = pwfn.__version__) -> Path:
    """The folder of a finished run, as a sweep leaves it."""
    folder = sweep / f"{name}_{config_hash(cfg)}"
    (folder / ".hydra").mkdir(parents=True)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(own))
    figures = {
        "acc1": 98.0,
        "unique": 9,
        "entropy": 2.0,
        "config_hash": config_hash(cfg),
        "versions": {"pwfn": version},
    }
    (folder / "summary.json").write_text(json.dumps({"status": "finished", "seed": cfg.seed, **figures}))
    (folder / "rounds.csv").write_text("round,acc1_after\n0,97.5\n")
    entry = {"folder": folder.name, "cluster": "local", "job": "7", "overrides": [f"seed={cfg.seed}"]}
    with (sweep / "jobs.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    return folder


def named(cfg: DictConfig, *keys: str) -> DictConfig:
    with open_dict(cfg.hydra):
        cfg.hydra.sweep.subdir = run_name(cfg, keys)
    return cfg


@pytest.mark.parametrize(
    ("points", "settings"),
    [
        (["seed=2"], 1),
        (["seed=1,2", "prior=pow2"], 1),
        (["seed=3,1", "method=pwfn"], 1),
        (["seed=1,2,3", "prior=pow2,constant"], 2),
    ],
)
def test_a_run_finished_elsewhere_is_not_computed_again(
    root: Path, tmp_path: Path, composed: Any, points: list[str], settings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (tmp_path / "outputs" / "sweeps" / name for name in ("seeds", "constant"))
    for seed in (1, 2, 3):
        finish(first, f"seed-{seed}", composed(f"seed={seed}", "dataset.limit=200"))
        finish(second, f"seed-{seed}", composed(f"seed={seed}", "dataset.limit=200", "prior=constant"))
    sweep = tmp_path / "outputs" / "other"
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'pwfn' / 'plugins'}", "COLUMNS": "200"}
    command = [sys.executable, str(root / "launch.py"), "-m", *points, "dataset.limit=200", f"hydra.sweep.dir={sweep}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = status(sweep)
    assert f"{len(runs)} runs, 0 to start" in done.stdout and {run.state for run in runs} == {"finished"}
    assert all(run.folder.is_symlink() and not os.path.isabs(os.readlink(run.folder)) for run in runs)
    assert main(["compare", str(sweep)]) == 0
    shown = capsys.readouterr().out
    assert f"{len(runs)} runs: {len(runs)} finished in {settings} settings" in shown
    assert ("prior" in shown and "constant" in shown and "pow2" in shown) == (settings == 2)


def test_a_sweep_outside_the_repository(root: Path, tmp_path: Path, composed: Any) -> None:
    mine = tmp_path / "mine" / "sweeps" / "two.yaml"
    mine.parent.mkdir(parents=True)
    head = "# @package _global_\ndefaults:\n  - override /prior: constant\nhydra:\n  mode: MULTIRUN\n"
    mine.write_text(f"{head}  sweeper:\n    params:\n      seed: 1,2\n")
    for seed in (1, 2):
        finish(tmp_path / "outputs" / "first", f"seed-{seed}", composed(f"seed={seed}", "prior=constant"))
    sweep = tmp_path / "outputs" / "two"
    command = [sys.executable, str(root / "launch.py"), "--config-dir", str(tmp_path / "mine"), "sweeps=two"]
    done = subprocess.run([*command, f"hydra.sweep.dir={sweep}"], cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "2 runs, 0 to start" in done.stdout, done.stdout + done.stderr
    assert json.loads((sweep / "sweep.json").read_text())["name"] == "two"


def test_a_second_axis_computes_what_is_new(tmp_path: Path, composed: Any) -> None:
    for seed in (1, 2, 3):
        finish(tmp_path / "first", f"seed-{seed}", composed(f"seed={seed}"))
    sweep = tmp_path / "second"
    sweep.mkdir()
    points = [(seed, prior) for seed in (1, 2, 3) for prior in ("pow2", "constant")]
    cfgs = [named(composed(f"seed={seed}", f"prior={prior}"), "seed", "prior") for seed, prior in points]
    todo, linked = sort_out(sweep, cfgs, rerun=False)
    assert (todo, linked) == (cfgs[1::2], cfgs[::2])


def test_other_code_is_told_and_computed_again_on_demand(
    tmp_path: Path, composed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    there = finish(tmp_path / "first", "seed-2", composed("seed=2"), version="0.0.1")
    sweep = tmp_path / "second"
    sweep.mkdir()
    cfg = named(composed("seed=2"), "seed")
    caplog.set_level("INFO")
    todo, linked = sort_out(sweep, [cfg], rerun=False)
    place = sweep / cfg.hydra.sweep.subdir
    assert (todo, len(linked), place.resolve()) == ([], 1, there)
    assert "1 of them made with pwfn 0.0.1; hydra.launcher.rerun=true" in caplog.text
    assert present_code().startswith(pwfn.__version__)

    (sweep / "jobs.jsonl").write_text(json.dumps({"folder": place.name, "cluster": "local", "job": None}) + "\n")
    todo, linked = sort_out(sweep, [cfg], rerun=True)
    assert (len(todo), linked) == (1, []) and not place.is_symlink() and there.exists()


def test_a_finished_run_that_is_computed_again_is_kept(tmp_path: Path, composed: Any) -> None:
    cfg = named(composed("seed=2"), "seed")
    there = finish(tmp_path / "sweep", "seed-2", cfg)
    assert there.name == cfg.hydra.sweep.subdir
    todo, _ = sort_out(tmp_path / "sweep", [cfg], rerun=True)
    assert len(todo) == 1 and not there.exists()
    assert len(list((tmp_path / "sweep" / EARLIER).glob("*/*/summary.json"))) == 1


def test_a_link_to_nothing_is_computed(tmp_path: Path, composed: Any) -> None:
    cfg = named(composed("seed=2"), "seed")
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / cfg.hydra.sweep.subdir).symlink_to("../gone")
    assert len(sort_out(sweep, [cfg], rerun=False)[0]) == 1
    assert not (sweep / cfg.hydra.sweep.subdir).is_symlink()

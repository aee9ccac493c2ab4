"""The launcher's quick composition of a sweep's runs is Hydra's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra_plugins.pwfn_launcher.composition import Compositions, freeze
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from pwfn.rundir.naming import run_name, sweep_name

AXES = [
    ["seed=1", "seed=2", "seed=3"],
    ["prior=pow2", "prior=constant"],
    ["fixing.delta_start=0.5", "fixing.delta_start=1.0"],
    ["fixing.fractions=[0.5,1.0]", "fixing.fractions=[0.5,0.9,1.0]"],
    ["dataset.limit=null", "dataset.limit=50"],
    ["name='a b'", "name=c"],
]
FIXED = ["+dataset.data_config.note=x", "hydra/launcher=slurm", "hydra.launcher.mem_gb=3", "sweeps=seeds"]


@pytest.fixture
def master(root: Path) -> Iterator[Any]:
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
    OmegaConf.register_new_resolver("sweep_name", lambda *, _root_: sweep_name(_root_), replace=True)
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        yield compose("config", overrides=["hydra.mode=MULTIRUN"], return_hydra_config=True)


def content(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)


def test_configurations_and_names_are_hydras(master: DictConfig) -> None:
    loader = GlobalHydra.instance().config_loader()
    quick = Compositions(loader)
    points = [[*point, *FIXED] for point in itertools.product(*AXES)]
    for point in points:
        quick(master, point)  # the sweeper's check
    assert len(quick.models) == 2  # Hydra composed once for each prior, and nothing else
    for point in points[::5]:
        mine, hydras = quick(master, point), loader.load_sweep_config(master, point)
        assert content(mine) == content(hydras)
        assert run_name(mine) == run_name(hydras)
    assert len({run_name(quick(master, point)) for point in points}) == len(points) // 2  # `name` is no part of it


@pytest.mark.parametrize(
    "pair",
    [
        ["baseline.optimizer.lr=0.1", "baseline.optimizer={lr:0.2}"],
        ["baseline.optimizer={lr:0.2}", "baseline.optimizer.lr=0.1"],
        ["seed=1", "seed=2"],
    ],
)
def test_settings_inside_each_other_keep_their_order(master: DictConfig, pair: list[str]) -> None:
    loader = GlobalHydra.instance().config_loader()
    quick = Compositions(loader)
    for value in ("0.3", "0.4"):
        point = [*pair, f"fixing.delta_start={value}"]
        assert content(quick(master, point)) == content(loader.load_sweep_config(master, point))


@pytest.mark.parametrize("wrong", ["sed=1", "seed.x=1", "prior=pow3", "hydra.launcher.nope=1"])
def test_mistakes_are_hydras(master: DictConfig, wrong: str) -> None:
    quick = Compositions(GlobalHydra.instance().config_loader())
    quick(master, ["seed=1"])
    with pytest.raises(HydraException):
        quick(master, [wrong])


def test_frozen_configurations_are_the_resolved_ones(master: DictConfig, tmp_path: Path) -> None:
    loader = GlobalHydra.instance().config_loader()
    experiments = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml"))
    for experiment in experiments:
        point = [f"experiment={experiment}", "dataset.limit=50", "++dataset.root=/data"]
        before = loader.load_sweep_config(master, point)
        own = OmegaConf.masked_copy(before, [key for key in before if key != "hydra"])
        with read_write(before), open_dict(before):
            before.merge_with(OmegaConf.to_container(own, resolve=True))
        frozen = loader.load_sweep_config(master, point)
        freeze(frozen, tmp_path, 7, ["dataset.limit"])
        assert content(frozen) | {"hydra": None} == content(before) | {"hydra": None}
        assert frozen.hydra.sweep.subdir == run_name(before, ["dataset.limit"])

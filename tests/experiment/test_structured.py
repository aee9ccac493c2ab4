"""Hydra itself refuses wrong types, unknown words and unknown keys, and the answer says what may stand there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pwfn.experiment.method_settings import METHODS
from pwfn.experiment.rules import NODES
from pwfn.experiment.settings import CLOSED, FIXING, Fixing, Schedule
from pwfn.experiment.structured import rules
from pwfn.experiment.validation import explanation
from pwfn.rundir.naming import config_hash, to_dict
from tests.experiment.test_validation import values


@pytest.fixture(autouse=True)
def resolvers(root: Path) -> None:
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)


REFUSED = [
    ("fixing.delta_start=abc", "fixing.delta_start must be a number from 0.000001 to 1000000, got abc"),
    ("fixing.schedule=jiont", "fixing.schedule must be one of joint, alternate, halves, sigma_only, got jiont"),
    ("fixing.rest_epochs=some", "fixing.rest_epochs must be a whole number from 0 to 100000, got some"),
    ("fixing.recluster=some", "fixing.recluster must be one of all, free, got some"),
    ("fixing.max_unique=2.5", "fixing.max_unique must be null or a whole number above 0, got 2.5"),
    ("fixing.zero_fix=maybe", "fixing.zero_fix must be true or false, got maybe"),
    ("evaluation.draws=5", "evaluation.draws must be a list of whole numbers from 1 to 10000, got 5"),
    ("evaluation.draws=[a]", "evaluation.draws must be a list of whole numbers from 1 to 10000, got a"),
    ("evaluation.seed=null", "evaluation.seed must be a whole number from 0 to 4294967295, got null"),
    ("export.foo=true", "export.foo is no setting: export has codes, coreml, onnx, openvino, shift_list"),
    ("method=wfn method.distance=x", "method.distance must be one of relative, euclidean, got x"),
    ("method=apot method.bits=3.5", "method.bits must be one of 2, 3, 4, 5, got 3.5"),
    (
        "method=wfn method.bits=3",
        "method.bits is no setting: method has alpha, delta, distance, gaussian, name, zero_distance",
    ),
    (
        "method=rate_distortion fixing.straight_through.rmp=0.5",
        "fixing.straight_through.rmp is no setting: fixing.straight_through has every, feedback_images, feedback_last,"
        " fisher_images, freeze, power, ramp, start",
    ),
]


@pytest.mark.parametrize(("overrides", "told"), REFUSED, ids=[overrides for overrides, _ in REFUSED])
def test_composition_refuses(root: Path, overrides: str, told: str) -> None:
    with (
        initialize_config_dir(str(root / "conf"), version_base="1.3"),
        pytest.raises(ConfigCompositionException) as refused,
    ):
        compose("config", overrides.split())
    assert explanation(f"{refused.value}\n{refused.value.__cause__}") == told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("delta_start: abc", "In 'fixing/mine': fixing.delta_start must be a number from 0.000001 to 1000000, got abc"),
        ("delta_strat: 1.0", "In 'fixing/mine': fixing.delta_strat is no setting: fixing has delta_end, delta_start, "),
    ],
)
def test_a_file_of_ones_own_is_refused_by_name(root: Path, tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "fixing").mkdir()
    (tmp_path / "fixing" / "mine.yaml").write_text(f"defaults: [paper, _self_]\n{content}\n")
    command = [sys.executable, str(root / "launch.py"), "--config-dir", str(tmp_path), "fixing=mine"]
    done = subprocess.run([*command, "--cfg", "job"], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told) and len(done.stderr.splitlines()) == 1


def test_what_the_table_does_not_know_is_left_to_hydra() -> None:
    assert explanation("Could not override 'foo'.\nKey 'foo' is not in struct\n    full_key: foo") is None


SETTINGS = [(node, *row) for group, node in NODES for row in rules(node, group) if row[0].count(".") == 1]
NAMES = [f"{node.__name__}-{key}" for node, key, _, _ in SETTINGS]


@pytest.mark.parametrize(("node", "key", "allowed", "wanted"), SETTINGS, ids=NAMES)
def test_types_let_pass_what_rules_allow(node: type, key: str, allowed: Any, wanted: str) -> None:
    """And what they let pass beyond it the rules refuse, but for what OmegaConf reads as the type: "no" is false."""
    good, bad = values(wanted)
    name = key.partition(".")[2]
    for value in good:
        cfg = OmegaConf.structured(node)
        cfg[name] = value
        assert allowed(OmegaConf.to_container(cfg, enum_to_str=True)[name]), value
    for value in bad:
        cfg = OmegaConf.structured(node)
        try:
            cfg[name] = value
        except OmegaConfBaseException:
            continue
        taken = OmegaConf.to_container(cfg, enum_to_str=True)[name]
        assert not allowed(taken) or type(taken) is not type(value), value


def test_each_option_has_its_structured_config(root: Path) -> None:
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        for name, node in METHODS.items():
            cfg = compose("config", [f"method={name}"])
            assert OmegaConf.get_type(cfg.method) is node
            assert {group: OmegaConf.get_type(cfg[group]) for group in CLOSED} == {
                **CLOSED,
                "fixing": FIXING["straight_through"] if name == "rate_distortion" else Fixing,
            }
        for path in (root / "conf" / "fixing").glob("*.yaml"):
            cfg = compose("config", [f"fixing={path.stem}"])
            assert OmegaConf.get_type(cfg.fixing) is FIXING.get(path.stem, Fixing)
    assert {path.stem for path in (root / "conf" / "method").glob("*.yaml")} == METHODS.keys()


def test_words_are_texts_wherever_they_are_written(root: Path) -> None:
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        cfg = compose("config", ["fixing.schedule=halves"])
    assert cfg.fixing.schedule is Schedule.halves and cfg.fixing.schedule == "halves"
    assert f"{cfg.fixing.schedule} {cfg.fixing.first_schedule!s}" == "halves halves"
    assert json.loads(json.dumps(to_dict(cfg)["fixing"]))["schedule"] == "halves"
    assert type(to_dict(cfg)["fixing"]["schedule"]) is str
    assert yaml.safe_load(OmegaConf.to_yaml(cfg.fixing))["schedule"] == "halves"


def test_a_number_is_the_same_run_however_it_is_written(root: Path) -> None:
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        runs = [compose("config", ["method=rate_distortion", f"method.bits={bits}"]) for bits in ("3", "3.0", "3e0")]
    assert len({config_hash(cfg) for cfg in runs}) == 1

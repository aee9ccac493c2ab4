"""Files written before modules moved into folders: the files beside this test were made by that code."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from hydra.utils import get_object

import pwfn
from pwfn import scope
from pwfn.rundir.moved import MOVED, current, current_path

OLD = Path(__file__).parent / "written_by_0.1.0"


def targets(config: object) -> list[str]:
    if isinstance(config, dict):
        own = [v for k, v in config.items() if k in ("_target_", "path") and isinstance(v, str)]
        return own + [t for value in config.values() for t in targets(value)]
    return [t for value in config for t in targets(value)] if isinstance(config, list) else []


def test_an_old_compressed_file_loads() -> None:
    model = pwfn.load(OLD / "model.pwfn")
    weights = torch.cat([model.state_dict()[name].flatten() for name in scope.names_in_scope(model, scope.conv_linear)])
    assert type(model).__module__ == "pwfn.model.cifar_resnet"
    assert weights.unique().tolist() == [-0.25, 0.0, 0.375]
    assert float(weights.sum()) == 169.375  # as it was when the file was written


def test_an_old_configuration_names_what_exists() -> None:
    old = yaml.safe_load((OLD / "config.yaml").read_text())
    assert "pwfn.dataset.digits" in targets(old) and "pwfn.tracking.wandb_logger" in targets(old)
    for target in targets(current(old)):
        assert callable(get_object(target)), target


def test_only_what_moved_is_renamed() -> None:
    assert current_path("pwfn.cifar_resnet.CifarResNet") == "pwfn.model.cifar_resnet.CifarResNet"
    assert current_path("pwfn.cifar_resnets.X") == "pwfn.cifar_resnets.X"
    for new in MOVED.values():
        assert current_path(new) == new
    assert current({"path": 3, "a": [{"_target_": "pwfn.attraction.Attraction"}]}) == {
        "path": 3,
        "a": [{"_target_": "pwfn.learning.Attraction"}],
    }

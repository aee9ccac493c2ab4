"""Networks are rebuilt from words; words that would run or fetch anything else are refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from pwfn.model import architecture


def test_timm_name() -> None:
    network = architecture.build({"name": "test_resnet", "kwargs": {"num_classes": 3, "pretrained": False}})
    assert type(network) is timm.models.ResNet and network.get_classifier().out_features == 3


def test_targets() -> None:
    function = {"_target_": "torchvision.models.squeezenet1_1", "kwargs": {"num_classes": 3}}
    assert type(architecture.build(function)).__name__ == "SqueezeNet"
    made = architecture.build(
        {"_target_": "torch.nn.Linear", "kwargs": {"in_features": 2, "out_features": 3}}, ["torch"]
    )
    assert isinstance(made, nn.Linear) and made.weight.shape == torch.Size([3, 2])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "timmy.Network",  # a prefix is whole components
        "pwfn",
        "timm",
        "timm.",
        "timm..models.ResNet",
        "timm.no_such_module.ResNet",
        "timm.models.no_such_class",
        "torchvision.datasets.utils.os.system",
        "torchvision.datasets.utils.hashlib",
        "torchvision.datasets.utils.download_url",
        "torchvision.datasets.MNIST",
        "timm.models.load_checkpoint",
        "timm.models.resnet.nn.Linear",
        "timm.create_model",
        "timm.models._factory.create_model",
        "pwfn.artifact.file.load",
    ],
)
def test_refused_targets(target: str) -> None:
    with pytest.raises(ValueError, match=r"refused|cannot import"):
        architecture.build({"_target_": target, "kwargs": {}})


def test_refused_target_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr("os.system", called.append)
    for target in ("os.system", "torchvision.datasets.utils.os.system"):
        with pytest.raises(ValueError):
            architecture.build({"_target_": target, "kwargs": {"command": "true"}})
    assert called == []


@pytest.mark.parametrize("key", ["pretrained", "checkpoint_path", "weights", "pretrained_cfg", "weights_backbone"])
def test_arguments_must_not_fetch_weights(key: str) -> None:
    with pytest.raises(ValueError, match="must not fetch weights"):
        architecture.build({"name": "test_resnet", "kwargs": {key: "somewhere"}})


@pytest.mark.parametrize("name", ["hf-hub:someone/resnet18", "local-dir:/etc", "no_such_model", "../resnet18"])
def test_only_registered_names(name: str) -> None:
    with pytest.raises(ValueError, match="no model"):
        architecture.build({"name": name})


@pytest.mark.parametrize(
    "description",
    [
        {},
        [],
        ["name"],
        {"name": 3},
        {"name": "test_resnet", "kwargs": []},
        {"name": "test_resnet", "_target_": "timm.models.ResNet"},
        {"name": "test_resnet", "code": "1"},
        {"name": "test_resnet", "kwargs": {"num_classes": object()}},
        {"name": "test_resnet", "kwargs": {"no_such_argument": 1}},
        {"name": "test_resnet", "kwargs": {"in_chans": "three"}},
    ],
)
def test_malformed_descriptions(description: Any) -> None:
    with pytest.raises(ValueError):
        architecture.build(description)

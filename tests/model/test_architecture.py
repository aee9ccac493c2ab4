"""Networks are rebuilt from words that choose from closed lists; nothing else is built, imported or fetched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pwfn.model import architecture, cifar_resnet
from pwfn.model.arguments import refused


def test_timm_name() -> None:
    network = architecture.build({"name": "test_resnet", "kwargs": {"num_classes": 3, "pretrained": False}})
    assert type(network) is timm.models.ResNet and network.get_classifier().out_features == 3


@pytest.mark.parametrize(
    "description",
    [
        {"name": "cifar_resnet20", "kwargs": {"num_classes": 3, "in_chans": 1}},
        {"_target_": "pwfn.cifar_resnet.cifar_resnet20", "kwargs": {"num_classes": 3, "in_chans": 1}},
        {"_target_": "pwfn.model.cifar_resnet.CifarResNet", "kwargs": {"blocks": 3, "num_classes": 3, "in_chans": 1}},
    ],
)
def test_networks_of_ours_by_name_and_by_their_paths(description: dict[str, Any]) -> None:
    state = architecture.build(description).state_dict()
    expected = cifar_resnet.cifar_resnet20(num_classes=3, in_chans=1).state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in expected.items()}


TINY_VIT = {
    "img_size": [32, 64],
    "patch_size": 16,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 2.5,
    "num_classes": 7,
    "in_chans": 1,
    "drop_rate": 0.1,
    "drop_path_rate": 0.1,
    "global_pool": "avg",
    "class_token": False,
    "qkv_bias": True,
    "init_values": None,
}


def test_arguments_that_shape_a_network() -> None:
    network = architecture.build({"name": "vit_tiny_patch16_224.augreg_in21k", "kwargs": TINY_VIT})
    assert network.pos_embed.shape == (1, 8, 24) and network.head.out_features == 7


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "resnet18", "swin_tiny_patch4_window7_224", "deit_tiny_patch16_224"]
)
def test_shapes_alone_take_no_memory(name: str) -> None:
    shapes = architecture.build({"name": name, "kwargs": {"num_classes": 5}}, meta=True).state_dict()
    network = architecture.build({"name": name, "kwargs": {"num_classes": 5}}).state_dict()
    assert {tensor.device.type for tensor in shapes.values()} == {"meta"}
    assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in network.items()}


TARGETS = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.nn.Linear",
    "torch.utils.cpp_extension.load_inline",
    "torchvision.models.resnet18",
    "timm.models.ResNet",
    "timm.create_model",
    "timm.models._factory.create_model",
    "timm.models.resnet.nn.Linear",
    "pwfn.load",
    "pwfn.artifact.file.load",
    "pwfn.model.architecture.build",
    "pwfn.model.cifar_resnet.BasicBlock",
    "pwfn.model.cifar_resnet.nn.Linear",
    "pwfn.model.cifar_resnet.cifar_resnet20.__globals__",
    "pwfn.cifar_resnet",
    "cifar_resnet20",
    "antigravity.nothing",
    "",
    ".",
    "..",
    "a" * 10_000,
]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_imported_because_a_file_says_so(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("imported")

    before = set(sys.modules)
    monkeypatch.setattr("importlib.import_module", refuse)
    for kwargs in ({}, {"command": "true"}, {"_target_": "os.system"}, {"num_classes": 3}):
        with pytest.raises(ValueError, match="not imported") as caught:
            architecture.build({"_target_": target, "kwargs": kwargs})
        assert len(str(caught.value)) < 200
    assert set(sys.modules) == before


NAMES = [
    "hf-hub:someone/resnet18",
    "hf_hub:someone/resnet18",
    "HF-HUB:someone/resnet18",
    "local-dir:/etc",
    "local-dir:resnet18",
    "timm/resnet18",
    "no_such_model",
    "../resnet18",
    "resnet18.a1_in1k/../..",
    "resnet18.hf-hub:x/y",
    "resnet18.a1_in1k.b",
    "resnet18\n",
    "resnet18 ",
    "RESNET18",
    "résnet18",
    "",
    ".",
    "https://example.org/resnet18",
    "file:///etc/passwd",
    "C:\\resnet18",
    "CifarResNet.x",
    "BasicBlock",
]


@pytest.mark.parametrize("name", NAMES)
def test_only_registered_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("built"))
    with pytest.raises(ValueError, match="no model"):
        architecture.build({"name": name})


def test_unknown_tag_of_a_known_network() -> None:
    with pytest.raises(ValueError, match="cannot be built"):
        architecture.build({"name": "resnet18.no_such_tag"})


ARGUMENTS: list[tuple[str, Any]] = [
    ("pretrained", True),
    ("pretrained", 1),
    ("pretrained", 0),
    ("pretrained_cfg", {"file": "/etc/passwd", "custom_load": True}),
    ("pretrained_cfg", "a1_in1k"),
    ("pretrained_cfg_overlay", {"url": "https://example.org/x.pth"}),
    ("pretrained_strict", False),
    ("pretrained_model_args", {}),
    ("pretrained_filter_fn", "os.system"),
    ("checkpoint_path", "x.pth"),
    ("cache_dir", "/tmp/x"),
    ("state_dict", {}),
    ("weights", "DEFAULT"),
    ("model_cfg", {}),
    ("feature_cfg", {"feature_cls": "fx"}),
    ("features_only", True),
    ("kwargs_filter", []),
    ("pruned", True),
    ("scriptable", True),
    ("exportable", True),
    ("no_jit", True),
    ("device", "cuda"),
    ("dtype", "float16"),
    ("act_layer", "torch.nn.ReLU"),
    ("norm_layer", "os.system"),
    ("block", "builtins.exec"),
    ("block_args", {"attn_layer": "x"}),
    ("weight_init", "jax"),
    ("cfg", {}),
    ("model_name", "resnet50"),
    ("self", 1),
    ("__class__", "x"),
    ("no_such_argument", 1),
    ("global_pool", "os.system"),
    ("global_pool", ["avg"]),
    ("num_classes", -1),
    ("num_classes", True),
    ("num_classes", 3.0),
    ("num_classes", "3"),
    ("num_classes", 10**12),
    ("num_classes", {"_target_": "os.system"}),
    ("num_classes", [3]),
    ("in_chans", 0),
    ("in_chans", 10**9),
    ("img_size", 10**6),
    ("img_size", [224, 10**9]),
    ("img_size", []),
    ("img_size", [[224]]),
    ("img_size", [224] * 1000),
    ("embed_dim", 10**6),
    ("embed_dim", -1),
    ("depth", 10**6),
    ("mlp_ratio", 1e9),
    ("drop_rate", 1.5),
    ("drop_rate", -0.1),
    ("drop_rate", "0.1"),
    ("qkv_bias", "yes"),
    ("qkv_bias", 1),
]


@pytest.mark.parametrize(("key", "value"), ARGUMENTS)
def test_arguments_come_from_closed_lists(key: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("built"))
    assert refused({key: value, "num_classes": 3} if key != "num_classes" else {key: value}) == [key]
    with pytest.raises(ValueError, match=f"no such argument as '{key}' from a file"):
        architecture.build({"name": "test_vit", "kwargs": {key: value}})


@pytest.mark.parametrize("kwargs", [{"blocks": 10**6}, {"blocks": 1, "num_classes": 10**9}, {"blocks": True}, {"x": 1}])
def test_arguments_of_our_networks_are_bounded(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such argument"):
        architecture.build({"name": "CifarResNet", "kwargs": kwargs})


def test_a_file_names_no_weights_even_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(timm, "create_model", lambda name, **kwargs: asked.append(kwargs) or nn.Identity())
    architecture.build({"name": "test_resnet"})
    architecture.build({"name": "test_resnet", "kwargs": {"pretrained": None}})
    assert asked == [{"pretrained": False}] * 2


@pytest.mark.parametrize(
    "description",
    [
        {},
        [],
        ["name"],
        None,
        "test_resnet",
        {"name": 3},
        {"name": None},
        {"name": ["test_resnet"]},
        {"name": "test_resnet", "kwargs": []},
        {"name": "test_resnet", "kwargs": None},
        {"name": "test_resnet", "kwargs": {1: 2}},
        {"name": "test_resnet", "_target_": "timm.models.ResNet"},
        {"name": "test_resnet", "code": "1"},
        {"name": "test_resnet", 3: "1"},
        {"name": "test_resnet", "kwargs": {"num_classes": object()}},
        {"name": "test_resnet", "kwargs": {"drop_rate": float("nan")}},
        {"_target_": "mine.network", "kwargs": {"folder": Path()}},
        {"_target_": "mine.network", "kwargs": {"rate": float("inf")}},
    ],
)
def test_malformed_descriptions(description: Any) -> None:
    with pytest.raises(ValueError):
        architecture.check(description)
    with pytest.raises(ValueError):
        architecture.build(description)


def test_descriptions_of_own_networks_may_be_written() -> None:
    architecture.check({"_target_": "mine.network", "kwargs": {"any": ["JSON", {"at": None}]}})
    assert architecture.refusal({"name": "test_resnet"}) is None


def test_older_timm_reads_numbers_from_linspace() -> None:
    with torch.device("meta"), architecture._DropPathRates():
        assert [x.item() for x in torch.linspace(0, 1, 3)] == [0, 0.5, 1]
        assert torch.empty(3).device.type == "meta"

"""Exports: a shift list that rebuilds every value, an ONNX graph that computes what torch computes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from odd import odd
from torch import nn

from pwfn.artifact import export


def fix(network: nn.Module, levels: int = 8) -> list[str]:
    """Round every convolution and linear weight to ``levels`` powers of two of each sign, and zero."""
    grid = torch.tensor(sorted({s * 2.0**-k for k in range(2, 2 + levels) for s in (1, -1)} | {0.0}))
    names = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data = grid[torch.bucketize(module.weight.data, (grid[1:] + grid[:-1]) / 2)]
            names.append(f"{name}.weight")
    return names


def test_shift_list_by_hand() -> None:
    state = {
        "a": torch.tensor([[0.75, 0.0], [-0.0, 0.75]]),
        "b": torch.tensor([-4.0, 0.75]),
        "c": torch.ones(1) / 3,
    }
    listed = export.shift_list({**state, "tied": state["a"]}, ["a", "b", "tied"])
    assert listed == {
        "index_dtype": "uint8",
        "values": [
            {"value": -4.0, "sign": -1, "exponents": [2], "order": 1, "count": 1},
            {"value": 0.0, "sign": 0, "exponents": [], "order": 0, "count": 2},
            {"value": 0.75, "sign": 1, "exponents": [-1, -2], "order": 2, "count": 3},
        ],
        "tensors": {
            "a": {"shape": [2, 2], "values": [1, 2], "counts": [2, 2]},
            "b": {"shape": [2], "values": [0, 2], "counts": [1, 1]},
        },
    }
    assert "-0.0" not in json.dumps(listed)


def test_shift_list_rebuilds_every_value() -> None:
    weight = torch.randint(-63, 64, (400,)) / 256
    listed = export.shift_list({"w": weight}, ["w"])
    for entry in listed["values"]:
        assert entry["sign"] * sum(2.0**e for e in entry["exponents"]) == entry["value"]
    assert sum(entry["count"] for entry in listed["values"]) == 400


def test_shift_list_refuses_other_values() -> None:
    state = {"w": torch.tensor([0.5, 0.1, 0.2])}
    with pytest.raises(ValueError, match=r"2 of 3 values are not sums of at most 8 powers of two"):
        export.shift_list(state, ["w"])
    with pytest.raises(ValueError, match="at most 1 powers"):
        export.shift_list({"w": torch.tensor([0.75])}, ["w"], max_order=1)
    with pytest.raises(ValueError, match="finite"):
        export.shift_list({"w": torch.tensor([float("nan")])}, ["w"])


@pytest.mark.parametrize(("unique", "dtype"), [(256, "uint8"), (257, "uint16"), (65537, "uint32")])
def test_index_dtype(unique: int, dtype: str) -> None:
    assert export.shift_list({"w": torch.arange(unique) / 1024}, ["w"], max_order=17)["index_dtype"] == dtype


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(name: str, *_: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[onnx\]'"):
        export.onnx(nn.Linear(2, 2).eval(), tmp_path / "m.onnx", torch.zeros(1, 2), ["weight"])


@pytest.fixture
def runtime() -> Any:
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason="the extra `onnx` is not installed")
    return pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")


def run(runtime: Any, path: Path, example: torch.Tensor) -> torch.Tensor:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: example.numpy()})[0])


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_onnx_computes_what_torch_computes(name: str, runtime: Any, tmp_path: Path) -> None:
    import onnx

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10).eval()
    shared, example = fix(network), torch.randn(2, 3, 160, 160)
    assert set(export.onnx(network, tmp_path / "m.onnx", example, shared)) == set(shared)
    with torch.no_grad():
        assert torch.allclose(run(runtime, tmp_path / "m.onnx", example), network(example), atol=1e-4, rtol=1e-4)

    graph = onnx.load(tmp_path / "m.onnx").graph
    held = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    values = held["pwfn.codebook"]
    assert not set(shared) & set(held) and len(values) == len(set(values.tolist())) <= 17
    for key in shared:
        indices = held[f"{key}.indices"]
        assert indices.dtype == np.uint8
        assert np.array_equal(values[indices], network.state_dict()[key].numpy())


def test_onnx_is_small(runtime: Any, tmp_path: Path) -> None:
    network = nn.Linear(1000, 1000).eval()
    export.onnx(network, tmp_path / "m.onnx", torch.zeros(1, 1000), fix(nn.Sequential(network)) and ["weight"])
    assert (tmp_path / "m.onnx").stat().st_size < 1_000_000 + 4_000 + 3_000


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_onnx_of_a_whole_network(name: str, fixed: Any, runtime: Any, tmp_path: Path) -> None:
    """Logits to 1e-5 of the largest for any number of images, in a third of the float graph's bytes."""
    network, shared, _ = fixed(100, name)
    example = torch.randn(2, 3, *((224, 224) if name.startswith("vit") else (64, 64)))
    export.onnx(network, tmp_path / "m.onnx", example, shared)
    for images in (example, example[:1], torch.cat([example, example[:1]])):
        with torch.no_grad():
            logits = network(images)
        assert (run(runtime, tmp_path / "m.onnx", images) - logits).abs().max() <= 1e-5 * max(1, logits.abs().max())
    torch.onnx.export(network, (example,), tmp_path / "float.onnx", dynamo=True, verbose=False, external_data=False)
    assert (tmp_path / "m.onnx").stat().st_size < 0.35 * (tmp_path / "float.onnx").stat().st_size


@pytest.mark.parametrize(("unique", "dtype"), [(300, np.uint16), (70_000, np.int32)])
def test_onnx_with_many_values(unique: int, dtype: type, runtime: Any, tmp_path: Path) -> None:
    import onnx

    network = nn.Linear(unique, 2, bias=False).eval()
    network.weight.data = torch.arange(2 * unique).view(2, unique) % unique / 2.0**17
    example = torch.randn(1, unique)
    export.onnx(network, tmp_path / "m.onnx", example, ["weight"])
    held = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert held["weight.indices"].dtype == dtype
    assert torch.allclose(run(runtime, tmp_path / "m.onnx", example), network(example), rtol=1e-3, atol=1e-3)


def test_onnx_refusals(runtime: Any, tmp_path: Path) -> None:
    network, example = nn.Linear(2, 2), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="training mode"):
        export.onnx(network, tmp_path / "m.onnx", example, ["weight"])
    with pytest.raises(ValueError, match="none of the shared"):
        export.onnx(network.eval(), tmp_path / "m.onnx", example, ["nowhere"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "why"), [("matrix_exp", "linalg_matrix_exp"), ("branch", "data-dependent")])
def test_a_layer_that_onnx_refuses_is_named(kind: str, why: str, runtime: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"does not take the layer middle\.1 \(Odd\): .*{why}") as told:
        export.onnx(odd(kind), tmp_path / "m.onnx", torch.zeros(1, 1, 4, 4), ["first.weight"])
    assert len(str(told.value).splitlines()) == 1 and len(str(told.value)) < 300
    assert list(tmp_path.iterdir()) == []

"""What each consumer makes of a fixed ResNet-18 with 201 values: version, size beside float32, difference of logits.

``python -m pytest tests/benchmarks/test_consumers_benchmark.py -s`` prints the table of the README.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import pwfn
from pwfn.artifact import codes, coreml, export, file, openvino
from pwfn.scope import conv_linear, names_in_scope

LEVELS = 100
ARCHITECTURE = {"name": "resnet18", "kwargs": {"num_classes": 10}}


def size(*paths: Path) -> int:
    """Bytes of some files and of all files in some folders."""
    files = [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def run_openvino(path: Path, images: Tensor) -> Tensor:
    package = importlib.import_module("openvino")
    compiled = package.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([images.numpy()])[0].copy())


def run_onnx(path: Path, images: Tensor) -> Tensor:
    session = importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


def rebuilt(state: dict[str, Tensor], images: Tensor) -> Tensor:
    network = timm.create_model(ARCHITECTURE["name"], **ARCHITECTURE["kwargs"])
    network.load_state_dict(state)
    return network.eval()(images)


@torch.no_grad()
def test_consumers(tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxscript", "openvino", "coremltools"):
        pytest.importorskip(name, reason="an extra is not installed")
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("resnet18", num_classes=10).eval()
    names, state = names_in_scope(network, conv_linear), network.state_dict()
    for name in names:
        state[name].copy_((state[name].clamp(-0.5, 0.5) * 2 * LEVELS).round() / (2 * LEVELS) + 0.0)
    images = torch.randn(1, 3, 224, 224)
    logits = network(images)
    save_file(state, tmp_path / "model.safetensors")
    float32 = size(tmp_path / "model.safetensors")

    file.save(tmp_path / "model.pwfn", state, names, architecture=ARCHITECTURE)
    codes.write(tmp_path / "codes.safetensors", state, names, architecture=ARCHITECTURE)
    export.onnx(network, tmp_path / "model.onnx", images, names)
    openvino.save(network, tmp_path / "model.xml", images, names)
    coreml.save(network, tmp_path / "model.mlpackage", images, names)
    rows: list[tuple[str, int, Tensor | None]] = [
        (f"`model.onnx`: onnxruntime {version('onnxruntime')}", size(tmp_path / "model.onnx"),
         run_onnx(tmp_path / "model.onnx", images)),
        (f"`model.xml`, `.bin`: OpenVINO {version('openvino')}",
         size(tmp_path / "model.xml", tmp_path / "model.bin"),
         run_openvino(tmp_path / "model.xml", images)),
        (f"`model.mlpackage`: coremltools {version('coremltools')}", size(tmp_path / "model.mlpackage"), None),
        (f"`codes.safetensors`: torch {version('torch')}", size(tmp_path / "codes.safetensors"),
         rebuilt(codes.read(tmp_path / "codes.safetensors")[2], images)),
        (f"`hf-hub:`, `model.safetensors`: timm {version('timm')}", float32, rebuilt(dict(state), images)),
        ("`hf://`, `model.pwfn`: pwfn", size(tmp_path / "model.pwfn"),
         pwfn.load(tmp_path / "model.pwfn")(images)),
    ]  # fmt: skip
    print(f"\nlargest logit {logits.abs().max():.3g}; float32 {float32 / 1e6:.2f} MB")
    print("| consumer | MB | of float32 | largest difference of a logit |\n|---|---:|---:|---:|")
    for name, count, found in rows:
        worst = "not run" if found is None else f"{(found - logits).abs().max():.1e}"
        print(f"| {name} | {count / 1e6:.2f} | {count / float32:.3f} | {worst} |")
        assert found is None or (found - logits).abs().max() <= 1e-5 * max(1, logits.abs().max())

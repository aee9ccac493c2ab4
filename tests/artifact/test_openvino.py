"""OpenVINO computes what torch computes, from a graph that holds the shared values once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd import odd

from pwfn.artifact import export as onnx_export
from pwfn.artifact import openvino as export

openvino = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
pytest.importorskip("onnx", reason="the extra `onnx` is not installed")


@pytest.mark.parametrize(("levels", "dtype", "part"), [(100, np.uint8, 0.3), (200, np.uint16, 0.55)])
def test_openvino_computes_what_torch_computes(
    levels: int, dtype: type, part: float, fixed: Any, tmp_path: Path
) -> None:
    network, shared, _ = fixed(levels)
    example = torch.randn(2, 3, 64, 64)
    assert set(export.save(network, tmp_path / "m.xml", example, shared)) == set(shared)
    core = openvino.Core()
    graph = core.read_model(tmp_path / "m.xml")
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for images in (example, example[:1]):
        with torch.no_grad():
            logits = network(images)
        found = torch.from_numpy(compiled([images.numpy()])[0].copy())
        assert (found - logits).abs().max() <= 1e-5 * max(1, logits.abs().max())

    held = {op.get_friendly_name(): op.data for op in graph.get_ops() if op.get_type_name() == "Constant"}
    widest = {held[f"{name}.indices"].dtype for name in shared}
    assert np.dtype(dtype) in widest and widest <= {np.dtype(np.uint8), np.dtype(np.uint16)}
    state = network.state_dict()
    for name in shared:
        assert np.array_equal(held["pwfn.codebook"][held[f"{name}.indices"]], state[name].numpy())
    size = sum((tmp_path / name).stat().st_size for name in ("m.xml", "m.bin"))
    assert size < part * sum(tensor.nbytes for tensor in state.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml"]


def test_refusals(fixed: Any, tmp_path: Path) -> None:
    network, shared, _ = fixed(4)
    with pytest.raises(ValueError, match=r"end in \.xml"):
        export.save(network, tmp_path / "m.bin", torch.zeros(1), shared)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_openvino_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"OpenVINO .* does not take the layer middle\.1 \(Odd\): .*Det") as told:
        export.save(odd("det"), tmp_path / "m.xml", torch.zeros(1, 1, 4, 4), ["first.weight"])
    assert len(str(told.value).splitlines()) == 1
    with pytest.raises(ValueError, match=r"ONNX's export does not take the layer middle\.1"):
        export.save(odd(), tmp_path / "m.xml", torch.zeros(1, 1, 4, 4), ["first.weight"])
    assert list(tmp_path.iterdir()) == []


def test_a_folded_gather_is_refused(fixed: Any, tmp_path: Path) -> None:
    """``convert_model`` folds the gathers of the graph that ``read_model`` keeps."""
    network, shared, _ = fixed(4)
    names = onnx_export.onnx(network, tmp_path / "m.onnx", torch.zeros(1, 3, 64, 64), shared)
    export._require_gathers(openvino.Core().read_model(tmp_path / "m.onnx"), names)
    with pytest.raises(ValueError, match=r"keeps no gather from pwfn\.codebook for \S+\.weight: export it to ONNX"):
        export._require_gathers(openvino.convert_model(tmp_path / "m.onnx"), names)

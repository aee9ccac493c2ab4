"""Core ML packages hold the network's own values in palettes; read back from the file, without Apple's runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from odd import odd

from pwfn.artifact import coreml as export

coremltools = pytest.importorskip("coremltools", reason="the extra `coreml` is not installed")


def palettes(path: Path) -> list[torch.Tensor]:
    """The weights that the palettes of a package stand for, decompressed by coremltools."""
    from coremltools.converters.mil.frontend.milproto.load import load

    held = coremltools.models.MLModel(str(path), skip_model_load=True)
    spec = held.get_spec()
    program = load(spec, spec.specificationVersion, held.weights_dir)
    operations = program.functions["main"].operations
    found = [op.materialized_val_inference() for op in operations if op.op_type == "constexpr_lut_to_dense"]
    return [torch.from_numpy(weights) for weights in found]


def test_every_weight_is_in_the_package(fixed: Any, tmp_path: Path) -> None:
    network, shared, _ = fixed(100)
    written = export.save(network, tmp_path / "m.mlpackage", torch.randn(1, 3, 64, 64), shared)
    state = network.state_dict()
    assert set(written) == {name for name in shared if state[name].numel() >= 512}
    found = palettes(tmp_path / "m.mlpackage")
    for name in written:
        assert any(w.shape == state[name].shape and torch.equal(w, state[name]) for w in found), name
    size = sum(path.stat().st_size for path in (tmp_path / "m.mlpackage").rglob("*") if path.is_file())
    assert size < 0.27 * sum(tensor.nbytes for tensor in state.values())


def test_refusals(fixed: Any, tmp_path: Path) -> None:
    network, shared, _ = fixed(200)
    with pytest.raises(ValueError, match=r"\.weight has \d+ values and a palette of Core ML at most 256"):
        export.save(network, tmp_path / "m.mlpackage", torch.zeros(1, 3, 64, 64), shared)
    with pytest.raises(ValueError, match=r"end in \.mlpackage"):
        export.save(network, tmp_path / "m", torch.zeros(1, 3, 64, 64), shared)
    with pytest.raises(ValueError, match="training mode"):
        export.save(network.train(), tmp_path / "m.mlpackage", torch.zeros(1, 3, 64, 64), shared)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "why"), [("matrix_exp", "linalg_matrix_exp"), ("branch", "data-dependent")])
def test_a_layer_that_core_ml_refuses_is_named(kind: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"does not take the layer middle\.1 \(Odd\): .*{why}") as told:
        export.save(odd(kind), tmp_path / "m.mlpackage", torch.zeros(1, 1, 4, 4), ["first.weight"])
    assert len(str(told.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []

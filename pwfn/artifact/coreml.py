"""A fixed network for Core ML: an ML program whose shared weights are palettes (lookup tables) of their own values."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pwfn.artifact.refusal import explained

__all__ = ["MAX_VALUES", "save"]

MAX_VALUES = 256
"""A palette of Core ML has at most so many values."""

_SMALLEST = 512  # weights; coremltools' indices and table outweigh the floats of smaller tensors, such as biases


def save(model: nn.Module, path: str | Path, example: Tensor, shared: Iterable[str]) -> tuple[str, ...]:
    """Write ``model`` as an ``.mlpackage`` in which every shared tensor is a palette and narrow indices.

    Weights keep their values (-0.0 becomes 0), in float32; tensors of fewer than 512 weights stay as they are.
    Batch norms are not folded into convolutions, which would give each channel values of its own.

    Args:
        model: the fixed network, in evaluation mode, on the CPU.
        path: the package to write.
        example: an input; the program takes inputs of its shape.
        shared: names, in the model's state dict, of the tensors whose values are shared (float32).

    Returns:
        The names of the tensors that are palettes.

    Raises:
        ImportError: if the package of the extra ``coreml`` is not installed.
        ValueError: if the network is in training mode or cannot be converted, or a layer has too many values.
    """
    path = Path(path)
    if path.suffix != ".mlpackage":
        raise ValueError(f"Core ML's packages end in .mlpackage: change {path.name}")
    if model.training:
        raise ValueError("the network is in training mode; call eval() before exporting it")
    state = model.state_dict()
    tensors = {name: state[name] for name in shared if state[name].numel() >= _SMALLEST}
    for name, tensor in tensors.items():
        unique = len(tensor.unique())
        if unique > MAX_VALUES:
            raise ValueError(
                f"{name} has {unique} values and a palette of Core ML at most {MAX_VALUES}: set fixing.max_unique"
            )
    program = _converted(model, example)
    palettes = sum(op.op_type == "constexpr_lut_to_dense" for op in program._mil_program.functions["main"].operations)
    if palettes < len(tensors):
        raise ValueError(
            f"coremltools made {palettes} palettes of {len(tensors)} tensors, {next(iter(tensors))} and others: "
            "export to ONNX instead"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        program.save(str(Path(folder, path.name)))
        shutil.rmtree(path, ignore_errors=True)
        Path(folder, path.name).rename(path)
    return tuple(tensors)


def _converted(model: nn.Module, example: Tensor) -> Any:
    """The network as an ML program with palettes."""
    try:
        package = importlib.import_module("coremltools")
        optimize = importlib.import_module("coremltools.optimize.coreml")
    except ImportError as error:
        raise ImportError("exporting to Core ML needs its package: pip install -e '.[coreml]'") from error
    passes = package.PassPipeline.DEFAULT
    passes.remove_passes({"common::fuse_conv_batchnorm"})
    with explained(f"coremltools {package.__version__}", model):
        program = package.convert(
            torch.export.export(model, (example,)).run_decompositions({}),
            convert_to="mlprogram",
            compute_precision=package.precision.FLOAT32,
            minimum_deployment_target=package.target.iOS16,  # the first with palettes
            pass_pipeline=passes,
            skip_model_load=True,
        )
        palettizer = optimize.OpPalettizerConfig(mode="unique", weight_threshold=_SMALLEST)
        return optimize.palettize_weights(program, optimize.OptimizationConfig(global_config=palettizer))

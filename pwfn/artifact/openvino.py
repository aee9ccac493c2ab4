"""A fixed network for OpenVINO: an IR graph (``.xml`` and ``.bin``) that holds each shared value once."""

from __future__ import annotations

import ast
import importlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pwfn.artifact import codes, export
from pwfn.artifact.refusal import described

__all__ = ["save"]

SCOPES = "pkg.torch.onnx.name_scopes"
"""Under this key torch notes for each node of an ONNX graph the layers, from outside in, and the operator."""


def save(model: nn.Module, path: str | Path, example: Tensor, shared: Iterable[str]) -> tuple[str, ...]:
    """Write ``model`` as OpenVINO's IR, in which every shared tensor is a ``Gather`` of narrow indices.

    The graph is that of :func:`pwfn.artifact.export.onnx`, as OpenVINO reads it. Its weights keep their bits, and
    OpenVINO folds the gathers when it compiles the graph.

    Args:
        model, example, shared: as for :func:`pwfn.artifact.export.onnx`.
        path: the ``.xml`` file to write; the ``.bin`` file lies beside it.

    Returns:
        The names of the tensors that are gathered.

    Raises:
        ImportError: if the packages of the extra ``openvino`` are not installed.
        ValueError: if the path does not end in ``.xml``, OpenVINO does not take a layer or folded its gather, or
            ONNX's export refuses.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(f"OpenVINO's graphs end in .xml: change {path.name}")
    package = _package()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        gathered = export.onnx(model, Path(folder, "m.onnx"), example, shared)
        graph = _read(package, Path(folder, "m.onnx"), model)
        _require_gathers(graph, gathered)
        package.serialize(graph, Path(folder, path.name))
        for written in (path.with_suffix(".bin"), path):
            os.replace(Path(folder, written.name), written)
    return gathered


def _read(package: Any, path: Path, model: nn.Module) -> Any:
    """An ONNX file as OpenVINO reads it; ``convert_model`` would fold the gathers."""
    try:
        return package.Core().read_model(path)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1].strip("- ")
        unknown = re.findall(r"[A-Za-z]\w*", said.rpartition(":")[2])  # such as Det, or Det-20 with its version
        nodes = importlib.import_module("onnx").load(path).graph.node
        scopes = [p.value for n in nodes if n.op_type in unknown for p in n.metadata_props if p.key == SCOPES]
        layer = ast.literal_eval(scopes[0])[-2] if scopes else ""
        raise ValueError(f"OpenVINO {package.__version__} does not take {described(model, layer)}: {said}") from error


def _package() -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ImportError("exporting to OpenVINO needs its packages: pip install -e '.[openvino]'") from error


def _require_gathers(graph: Any, names: Iterable[str]) -> None:
    """Refuse a graph in which a shared tensor is no gather from the codebook any more."""
    held = {op.get_friendly_name() for op in graph.get_ops() if op.get_type_name() == "Gather"}
    for name in names:
        if name not in held:
            raise ValueError(f"OpenVINO keeps no gather from {codes.CODEBOOK} for {name}: export it to ONNX instead")

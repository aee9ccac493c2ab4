"""A fixed network for others: a shift list for hardware, an ONNX graph that holds each shared value once."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pwfn.apot import order_of, terms
from pwfn.artifact import codebook, codes
from pwfn.artifact.refusal import explained
from pwfn.model.ties import owners
from pwfn.rundir.files import atomic

__all__ = ["onnx", "shift_list"]


def shift_list(
    state_dict: Mapping[str, Tensor], shared: Iterable[str], *, max_order: int = codebook.MAX_ORDER
) -> dict[str, Any]:
    """The shared values as signs and exponents, ready for JSON: ``weight = sign * (2**e1 + 2**e2 + ...)``.

    Multiplying by a value takes as many shifts as it has exponents and one addition fewer; 0 has none.
    -0.0 is listed as 0.

    Args:
        state_dict: a plain state dict.
        shared: names of the tensors whose values are shared; a tied tensor is named and counted once.
        max_order: the most powers of two that a value may have.

    Returns:
        ``index_dtype``: smallest of uint8, uint16, uint32 that can index ``values``;
        ``values``: one ``{value, sign, exponents, order, count}`` per distinct value, ascending;
        ``tensors``: name -> ``{shape, values, counts}``, indices of the values that it uses, and how often.

    Raises:
        ValueError: if a value is not finite or needs more than ``max_order`` powers of two.
    """
    owner = owners(state_dict)
    names = dict.fromkeys(owner[name] for name in shared)
    tensors = {name: state_dict[name].detach().cpu().float() for name in names}
    flat = torch.cat([t.flatten() for t in tensors.values()]) if tensors else torch.empty(0)
    values, counts = torch.unique(flat, return_counts=True)
    orders = order_of(values)
    if (orders > max_order).any():
        worst = values[orders.argmax()].item()
        raise ValueError(
            f"{int((orders > max_order).sum())} of {len(values)} values are not sums of at most {max_order} "
            f"powers of two, such as {worst!r} of order {int(orders.max())}"
        )
    return {
        "index_dtype": _index_dtype(len(values)),
        "values": [
            {"value": v, "sign": (v > 0) - (v < 0), "exponents": terms(v), "order": order, "count": count}
            for v, order, count in zip((values + 0.0).tolist(), orders.tolist(), counts.tolist(), strict=True)
        ],
        "tensors": {name: _usage(tensor, values) for name, tensor in tensors.items()},
    }


def onnx(model: nn.Module, path: str | Path, example: Tensor, shared: Iterable[str]) -> tuple[str, ...]:
    """Write ``model`` as an ONNX graph in which every shared value is held once.

    One float32 initializer holds the values; each shared tensor becomes integer indices into it (uint8 where
    its indices stay below 256, then uint16, then int32) and a ``Gather``, by which every weight keeps its bits.
    Runtimes fold the gathers when they load the graph.

    Args:
        model: the fixed network; exported in evaluation mode, and left in the mode it was in.
        path: the file to write, in one step.
        example: some images; the graph takes any number of images of their shape.
        shared: names, in the model's state dict, of the tensors whose values are shared (float32).

    Returns:
        The names of the tensors that are gathered: ``shared`` without those that the forward never reads and
        the second names of tied tensors.

    Raises:
        ImportError: if the packages of the extra ``onnx`` are not installed.
        ValueError: if the network is in training mode, a layer cannot be exported, or nothing of ``shared`` is found
            in the graph.
    """
    package = _package()
    if model.training:
        raise ValueError("the network is in training mode; call eval() before exporting it")
    batch = ({0: "batch"},)
    with explained("ONNX's export", model):
        program = torch.onnx.export(model, (example,), dynamo=True, optimize=False, verbose=False, dynamic_shapes=batch)
    if program is None:
        raise ValueError("torch exported no ONNX program")
    proto = program.model_proto
    gathered = _gather(package, proto.graph, set(shared))
    package.checker.check_model(proto)
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(proto.SerializeToString())
    return gathered


def _package() -> Any:
    try:
        importlib.import_module("onnxscript")  # torch's exporter works through it
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError("exporting to ONNX needs its packages: pip install -e '.[onnx]'") from error


def _gather(package: Any, graph: Any, shared: set[str]) -> tuple[str, ...]:
    """Replace the shared initializers of an ONNX graph by gathers from one codebook, in place."""
    helper = package.numpy_helper
    tensors = {i.name: torch.tensor(helper.to_array(i)) for i in graph.initializer if i.name in shared}
    if not tensors:
        raise ValueError("the ONNX graph holds none of the shared tensors")
    values, coded = codes.encode(tensors)
    initializers, nodes = [helper.from_array(values.numpy(), codes.CODEBOOK)], []
    for name, code in coded.items():  # a graph may keep them narrow and cast: Gather takes none below int32
        narrow, wide = f"{name}.indices", f"{name}.indices_int32"
        initializers.append(helper.from_array(code.numpy(), narrow))
        cast = package.helper.make_node("Cast", [narrow], [wide], to=package.TensorProto.INT32)
        nodes += [cast, package.helper.make_node("Gather", [codes.CODEBOOK, wide], [name])]
    kept = [initializer for initializer in graph.initializer if initializer.name not in tensors]
    rest = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept + initializers)
    graph.node.extend(nodes + rest)
    return tuple(tensors)


def _index_dtype(unique: int) -> str:
    return "uint8" if unique <= 2**8 else "uint16" if unique <= 2**16 else "uint32"


def _usage(tensor: Tensor, values: Tensor) -> dict[str, Any]:
    found, counts = torch.unique(tensor, return_counts=True)
    used = torch.searchsorted(values, found)
    return {"shape": list(tensor.shape), "values": used.tolist(), "counts": counts.tolist()}

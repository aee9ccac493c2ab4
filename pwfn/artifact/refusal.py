"""Saying in one sentence which layer of a network a converter refuses."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from torch import fx, nn

__all__ = ["described", "explained"]


@contextmanager
def explained(converter: str, model: nn.Module) -> Iterator[None]:
    """Turn what a converter raises into one sentence that names the layer.

    The layer is the one whose node of torch's graph was being converted, or whose ``forward`` was being traced.

    Args:
        converter: what to call it.
        model: the network that is converted.

    Raises:
        ValueError: in place of the converter's error.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(". ")
        raise ValueError(f"{converter} does not take {described(model, _layer(error, model))}: {said}") from error


def described(model: nn.Module, name: str) -> str:
    """A layer by its name and kind; the whole network if the name is empty or none of its layers'."""
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    return f"the layer {name} ({kinds[name]})" if name in kinds and name else f"the network ({kinds['']})"


def _layer(error: BaseException, model: nn.Module) -> str:
    """The name of the innermost layer that the frames of an error and its causes deal with; empty if there is none."""
    names = {id(module): name for name, module in model.named_modules() if name}
    found = ""
    link: BaseException | None = error
    while link is not None:
        for frame, _ in traceback.walk_tb(link.__traceback__):
            found = _of_node(frame) or names.get(id(frame.f_locals.get("self")), found)
        link = link.__cause__
    return found


def _of_node(frame: FrameType) -> str:
    """The layer of the graph's node that a frame has in its hands; empty if none."""
    node = frame.f_locals.get("node")
    stack = node.meta.get("nn_module_stack") if isinstance(node, fx.Node) else None
    return str([*stack.values()][-1][0]) if stack else ""

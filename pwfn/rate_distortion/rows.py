"""The rows of a layer's weight, and the inputs that they are multiplied with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad, unfold

__all__ = ["has_rows", "matrix", "multiplies", "patches"]


def has_rows(module: nn.Module, key: str) -> bool:
    """Whether the rows of this parameter are multiplied with inputs that can be observed."""
    if isinstance(module, nn.MultiheadAttention):
        return key == "in_proj_weight"
    return key == "weight" and isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)


def matrix(module: nn.Module, weight: Tensor) -> Tensor:
    """View of a weight as ``[G, R, K]``: groups, rows of a group, columns of a row."""
    groups = getattr(module, "groups", 1)
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def patches(module: nn.Module, x: Tensor, thin: int = 1, offset: tuple[int, int] = (0, 0)) -> Tensor:
    """The inputs that the rows of a layer see.

    Args:
        module: a linear layer, convolution or attention.
        x: its input, ``[B, ..., K]``, or ``[B, channels, ...]`` of a convolution.
        thin: take every so-manieth position, in each direction of an image.
        offset: the first position taken, below ``thin`` (the second number along tokens or the last axis).

    Returns:
        ``[B, G, K, P]`` with P positions.
    """
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        x = x if x.dim() > 2 else x[:, None]
        return x.flatten(1, -2)[:, offset[1] :: thin].transpose(1, 2)[:, None]
    kernel, stride, dilation = (tuple(n) for n in (module.kernel_size, module.stride, module.dilation))
    border = _border(module, x.shape[2:])
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = pad(x, border, mode=mode) if any(border) else x
    if x.dim() == 3:
        x, kernel, stride, dilation = x[:, :, None], (1, *kernel), (1, *stride), (1, *dilation)
        offset = (0, offset[1])
    x = x[:, :, offset[0] * stride[0] :, offset[1] * stride[1] :]
    if kernel == (1, 1):
        columns = x[:, :, :: stride[0] * thin, :: stride[1] * thin].flatten(2)
    else:
        columns = unfold(x, kernel, dilation, stride=(stride[0] * thin, stride[1] * thin))
    return columns.unflatten(1, (module.groups, -1))


def _border(module: nn.Conv1d | nn.Conv2d, size: Sequence[int]) -> list[int]:
    """Padding in the order of torch.nn.functional.pad; timm's same-padding layers do it in their forward."""
    spans = [d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    if "Same" in type(module).__name__:
        both = [
            max((math.ceil(n / s) - 1) * s + span + 1 - n, 0)
            for n, s, span in zip(size, module.stride, spans, strict=True)
        ]
    elif module.padding == "same":
        both = spans
    else:
        if isinstance(module.padding, str):  # "valid"
            return [0, 0] * len(size)
        return [n for end in reversed(module.padding) for n in (end, end)]
    return [n for total in reversed(both) for n in (total // 2, total - total // 2)]


def multiplies(module: nn.Module, weight: Tensor, columns: Tensor, output: Tensor) -> bool:
    """Whether a layer's output is its weight times these columns plus its bias.

    It is not where a layer does something else with its weight, such as standardising it.

    Args:
        module: the layer.
        weight: its weight.
        columns: ``[B, G, K, P]``, see :func:`patches`.
        output: ``[B, G, R, P]``, the layer's output at the same positions.
    """
    bias = getattr(module, "bias", None)
    found = matrix(module, weight.detach())[None] @ columns
    if bias is not None:
        found = found + bias.detach().reshape(1, found.shape[1], -1, 1)
    return bool((found - output).abs().max() <= 1e-3 * output.abs().max() + 1e-6)

"""A whole timm network whose convolutions and linear layers share a few values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pwfn.scope import conv_linear, names_in_scope

Fixed = tuple[nn.Module, list[str], dict[str, Any]]


@pytest.fixture
def fixed() -> Callable[..., Fixed]:
    """``fixed(levels)``: a network that shares 2 * levels + 1 values and -0.0, its names in scope, its architecture."""

    def make(levels: int, name: str = "resnet10t") -> Fixed:
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=10).eval()
        names = names_in_scope(network, conv_linear)
        state = network.state_dict()
        for key in names:
            w = state[key]  # small negative weights become -0.0
            w.copy_((w.clamp(-0.5, 0.5) * 2 * levels).round() / (2 * levels))
        return network, names, {"name": name, "kwargs": {"num_classes": 10}}

    return make

"""Layers whose weights are computed from other parameters are named, not skipped."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn import utils

from pwfn.gaussian import to_gaussian
from pwfn.scope import all as everything
from pwfn.scope import conv_linear, conv_linear_norm


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize(
    "wrap",
    [utils.weight_norm, utils.spectral_norm, utils.parametrizations.weight_norm, utils.parametrizations.spectral_norm],
)
def test_weights_computed_from_others_are_named(wrap: object) -> None:
    assert callable(wrap)
    model = nn.Sequential(nn.Conv2d(2, 2, 1), wrap(nn.Conv2d(2, 2, 1)), nn.BatchNorm2d(2), wrap(nn.Linear(2, 2)))
    for scope in (conv_linear, conv_linear_norm):
        with pytest.raises(ValueError, match=r"1, 3 compute their weights .*: remove it first"):
            to_gaussian(model, scope=scope)
    assert len(list(everything(model))) >= 8
    with pytest.raises(ValueError, match="the network compute"):
        list(conv_linear(wrap(nn.Linear(2, 2))))

"""``pwfn.save`` and ``pwfn.load`` are each other's counterpart, for networks of any origin."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import pwfn
from pwfn.scope import all as everything


def shared(model: nn.Module) -> nn.Module:
    """Round every parameter to quarters."""
    for parameter in model.parameters():
        parameter.data = (parameter.data * 4).round() / 4
    return model.eval()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


@pytest.mark.skipif(not hasattr(timm.create_model("test_resnet"), "_model_args"), reason="timm keeps no arguments")
def test_a_network_of_timm_is_described_by_itself(tmp_path: Path) -> None:
    model = shared(timm.create_model("test_vit", num_classes=3, img_size=(32, 32)))
    sizes = pwfn.save(model, tmp_path / "f", scope=everything)
    loaded = pwfn.load(tmp_path / "f")
    assert type(loaded) is type(model) and same(model, loaded)
    assert sizes.entropy_coded == (tmp_path / "f").stat().st_size and sizes.unquantised == 0
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), model(images))


def test_what_a_file_may_not_rebuild_asks_for_its_architecture(tmp_path: Path) -> None:
    def altered() -> nn.Module:
        model = timm.create_model("test_resnet", num_classes=3)
        model.fc = nn.Linear(model.num_features, 5)
        return model

    def without_activation() -> nn.Module:
        model = timm.create_model("test_resnet")
        model.act1 = nn.Identity()
        return model

    for make in (
        altered,
        without_activation,
        lambda: nn.Linear(4, 4),
        lambda: timm.create_model("test_resnet", act_layer=nn.SiLU),
    ):
        model = shared(make())
        pwfn.save(model, tmp_path / "f")
        with pytest.raises(ValueError, match="architecture="):
            pwfn.load(tmp_path / "f")
        assert same(model, pwfn.load(tmp_path / "f", architecture=make))


def test_networks_that_are_not_fixed_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not shared: fix the network first"):
        pwfn.save(nn.Linear(300, 300), tmp_path / "f")
    with pytest.raises(ValueError, match=r"call pwfn\.to_deterministic before saving"):
        pwfn.save(pwfn.to_gaussian(nn.Sequential(nn.Linear(3, 3))), tmp_path / "f")
    assert not (tmp_path / "f").exists()

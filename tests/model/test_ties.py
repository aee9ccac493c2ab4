"""A tie stays a tie: in memory, in safetensors files, in the compressed file and in every figure of its size."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, load_model, save_model
from torch import nn

from pwfn.artifact import file as artifact
from pwfn.model.network import load_weights, read_weights, save_weights
from pwfn.model.ties import owners, tie, untie


class Tied(nn.Module):
    """Three layers, two of which share a weight of 4096 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.middle, self.decoder = nn.Linear(64, 64), nn.Linear(64, 2), nn.Linear(64, 64)
        self.decoder.weight = self.encoder.weight


def test_owners_of_tied_tensors() -> None:
    tied = torch.ones(4)
    state = {"a": tied, "b": tied.clone(), "c": tied, "d": tied[:2], "e": torch.empty(0), "f": torch.empty(0)}
    assert owners(state) == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "e", "f": "f"}


def test_untied_and_tied_again() -> None:
    state = Tied().state_dict()
    kept, tied = untie(state)
    assert tied == {"decoder.weight": "encoder.weight"} and "decoder.weight" not in kept
    again = tie(kept, {**tied, "model": "tied", "x": "nowhere", "encoder.bias": "encoder.weight"})
    assert again.keys() == state.keys() and again["decoder.weight"] is again["encoder.weight"]
    assert again["encoder.bias"] is state["encoder.bias"]


def test_a_tied_tensor_is_written_once_and_read_under_each_name(tmp_path: Path) -> None:
    model, path = Tied(), tmp_path / "model.safetensors"
    save_weights(path, model.state_dict(), model="tied")
    assert path.stat().st_size < 4 * 4096 * 1.2
    weights = read_weights(path)
    assert weights["decoder.weight"] is weights["encoder.weight"]
    loaded, other = Tied(), Tied()
    load_weights(loaded, path)
    assert torch.equal(loaded.encoder.weight, model.encoder.weight)
    load_model(other, path)
    assert torch.equal(other.decoder.weight, model.decoder.weight) and torch.equal(other.middle.bias, model.middle.bias)


def test_files_of_safetensors_own_making(tmp_path: Path) -> None:
    """It keeps the name that comes first in the alphabet, and the network's own ties fill the other."""
    model, loaded, path = Tied(), Tied(), tmp_path / "model.safetensors"
    save_model(model, str(path))
    assert "encoder.weight" not in load_file(path)
    load_weights(loaded, path)
    assert torch.equal(loaded.encoder.weight, model.encoder.weight)


def test_a_network_without_ties_loads_strictly_into_timm(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", num_classes=10)
    save_weights(tmp_path / "model.safetensors", model.state_dict())
    timm.create_model("test_resnet", num_classes=10).load_state_dict(load_file(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("shared", [["encoder.weight"], []])
def test_sizes_count_a_tied_tensor_once_after_a_trip_through_a_file(tmp_path: Path, shared: list[str]) -> None:
    model = Tied()
    model.encoder.weight.data = torch.randint(-3, 4, (64, 64)) / 4
    save_weights(tmp_path / "model.safetensors", model.state_dict())
    weights, numbers = read_weights(tmp_path / "model.safetensors"), sum(p.numel() for p in model.parameters())
    sizes = artifact.save(tmp_path / "f", weights, shared, architecture={"_target_": "mine.Tied"})
    assert sizes.float32 == 4 * numbers and sizes.unquantised == 4 * (numbers - 4096 * len(shared))
    loaded = artifact.load(tmp_path / "f", architecture=Tied)
    assert torch.equal(loaded.decoder.weight, model.encoder.weight)
    assert loaded.decoder.weight is loaded.encoder.weight

"""Checkpoints as timm, Lightning, DDP and torch.compile write them are read by name, and never run code."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from pwfn.model.network import load_weights, read_weights


class Small(nn.Module):
    """A network whose layers are called as wrappers call theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 3)
        self.model = nn.Linear(3, 2)


def named(model: nn.Module, prefix: str, **more: Tensor) -> dict[str, Tensor]:
    return OrderedDict({f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()} | more)


def loads(model: nn.Module, content: Any, path: Path) -> None:
    """The file holds the weights of ``model``, and they are loaded into another of its kind."""
    torch.save(content, path)
    other = type(model)()
    load_weights(other, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model._orig_mod.module.",
        "model.model.",
    ],
)
def test_prefixes_of_wrappers(prefix: str, tmp_path: Path) -> None:
    model = Small()
    loads(model, named(model, prefix), tmp_path / "wrapped.pt")
    loads(model, {"state_dict": named(model, prefix), "epoch": 3}, tmp_path / "checkpoint.ckpt")


def test_layers_compiled_one_by_one(tmp_path: Path) -> None:
    model = Small()
    names = {name.replace("stem.", "stem._orig_mod."): tensor for name, tensor in model.state_dict().items()}
    loads(model, names, tmp_path / "compiled.pt")


def test_what_wraps_a_network_is_left_out(tmp_path: Path) -> None:
    """A loss beside the network of a Lightning module, and the count of averaged weights."""
    model = Small()
    loads(model, {"state_dict": named(model, "model.", **{"loss.weight": torch.ones(2)})}, tmp_path / "lightning.ckpt")
    averaged = torch.optim.swa_utils.AveragedModel(model)
    loads(model, averaged.state_dict(), tmp_path / "averaged.pt")


@pytest.mark.parametrize("entry", ["state_dict", "state_dict_ema", "model", "model_ema", "model_state_dict"])
def test_entries_of_checkpoints(entry: str, tmp_path: Path) -> None:
    model = Small()
    content = {"epoch": 3, "arch": "small", entry: named(model, "module."), "args": Namespace(lr=0.1), "metric": 1.0}
    loads(model, {**content, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, tmp_path / "last.pth.tar")


def test_averaged_weights_come_first_as_in_timm(tmp_path: Path) -> None:
    averaged, model = Small(), Small()
    content = {"state_dict": model.state_dict(), "state_dict_ema": averaged.state_dict()}
    loads(averaged, content, tmp_path / "checkpoint.pth")


def test_a_checkpoint_of_lightning(tmp_path: Path) -> None:
    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"lr": 0.1})
            self.model = Small()

    module = Module()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = Small()
    load_weights(other, tmp_path / "last.ckpt")
    assert torch.equal(other.stem.weight, module.model.stem.weight)


def test_prefixes_do_not_hide_what_is_missing(tmp_path: Path) -> None:
    torch.save({"model.stem.weight": torch.zeros(3, 2)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt does not fit .*missing stem\.weight.*change model\.checkpoint"):
        load_weights(Small(), tmp_path / "w.pt")
    torch.save(named(Small(), "model.", **{"model.extra": torch.zeros(1)}), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="unexpected extra"):
        load_weights(Small(), tmp_path / "w.pt")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


def test_code_in_a_checkpoint_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Small().state_dict(), "args": Namespace(hidden=Harmful())}, "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt holds more than tensors.*torch\.save\(model\.state_dict\(\), path\)"):
        read_weights("w.pt")
    assert not Path("harmed").exists()


def test_the_advice_is_the_callers(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read.*: delete it"):
        load_weights(Small(), tmp_path / "w.safetensors", advice="delete it")

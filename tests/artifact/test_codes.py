"""Codes into one codebook: read by a few lines of torch and safetensors that know nothing of pwfn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pwfn.artifact import codes

LOADER = """
import json

import timm
from safetensors import safe_open


def load(path):
    with safe_open(path, "pt") as file:
        about = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    codebook = state.pop("pwfn.codebook")
    for name in json.loads(about["scope"]):
        state[name] = codebook[state[name].long()]
    architecture = json.loads(about["architecture"])
    network = timm.create_model(architecture["name"], **architecture["kwargs"])
    network.load_state_dict(state)
    return network.eval()
"""
"""The loader that the README shows."""

CHECK = """
import sys
import torch
from safetensors.torch import load_file

network, wanted = load(sys.argv[1]), load_file(sys.argv[2])
state = network.state_dict()
assert state.keys() == wanted.keys()
assert all(torch.equal(v.flatten().view(torch.uint8), wanted[k].flatten().view(torch.uint8)) for k, v in state.items())
assert "pwfn" not in sys.modules
"""


@pytest.mark.parametrize(("levels", "widest"), [(100, torch.uint8), (200, torch.uint16)])
def test_plain_torch_reads_every_bit(levels: int, widest: torch.dtype, fixed: Any, tmp_path: Path) -> None:
    network, names, architecture = fixed(levels)
    state = network.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    codes.write(tmp_path / "codes.safetensors", state, names, architecture=architecture)
    assert len(LOADER.strip().splitlines()) <= 30
    script = tmp_path / "check.py"
    script.write_text(LOADER + CHECK)
    files = [str(tmp_path / name) for name in ("codes.safetensors", "model.safetensors")]
    done = subprocess.run([sys.executable, str(script), *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    held = load_file(tmp_path / "codes.safetensors")
    dtypes = {held[name].dtype for name in names}
    assert widest in dtypes <= {torch.uint8, torch.uint16}
    assert torch.signbit(held[codes.CODEBOOK][held[codes.CODEBOOK] == 0]).any()
    small, large = (Path(file).stat().st_size for file in files)
    assert small < large * (0.27 if levels == 100 else 0.51)


def test_reading_gives_what_was_written(fixed: Any, tmp_path: Path) -> None:
    network, names, architecture = fixed(4)
    codes.write(tmp_path / "c", network.state_dict(), names, architecture=architecture)
    about, scope, state = codes.read(tmp_path / "c")
    assert about == architecture and scope == names
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_codes_by_hand() -> None:
    values, coded = codes.encode({"a": torch.tensor([[0.5, 2.0], [2.0, -0.0]]), "b": torch.tensor([2.0])})
    assert values.tolist()[0] == 2.0 and set(values.tolist()) == {2.0, 0.5, 0.0} and torch.signbit(values).any()
    assert coded["a"].shape == (2, 2) and coded["a"][0, 1] == coded["b"][0] == 0 and coded["b"].dtype == torch.uint8
    rare = torch.cat([torch.arange(300).repeat_interleave(2), torch.tensor([1000])]).float()
    _, wide = codes.encode({"common": torch.arange(200).float().repeat(3), "rare": rare})
    assert wide["common"].dtype == torch.uint8 and wide["rare"].dtype == torch.uint16
    assert codes.encode({})[1] == {}


@pytest.mark.parametrize("damage", ["format", "scope", "code", "bytes"])
def test_what_is_not_such_a_file_is_refused(damage: str, tmp_path: Path) -> None:
    tensors = {
        codes.CODEBOOK: torch.tensor([1.0]),
        "w": torch.tensor([3 if damage == "code" else 0], dtype=torch.uint8),
    }
    about: dict[str, Any] = {"format": codes.FORMAT, "architecture": "{}", "scope": json.dumps(["w"])}
    about |= {"format": "other"} if damage == "format" else {"scope": '["v"]'} if damage == "scope" else {}
    save_file(tensors, tmp_path / "f", metadata=about)
    if damage == "bytes":
        (tmp_path / "f").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no file of codes"):
        codes.read(tmp_path / "f")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unlike"):
        codes.write(tmp_path / "f", {"w": torch.zeros(2).half()}, ["w", "v"], architecture={})
    with pytest.raises(ValueError, match="rename it"):
        codes.write(tmp_path / "f", {codes.CODEBOOK: torch.zeros(2)}, [], architecture={})
    assert not (tmp_path / "f").exists()

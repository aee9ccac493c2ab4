"""A run's folder for the Hugging Face Hub, uploaded to a server on this machine and read by timm and by pwfn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
import zstandard
from hub_server import serving
from packaging.version import Version
from timm.data import resolve_model_data_config

import pwfn
from pwfn.artifact import container, file, hub
from pwfn.model.network import save_weights
from pwfn.report.__main__ import main
from pwfn.rundir.files import write_json
from pwfn.scope import conv_linear, names_in_scope

ARCHITECTURE = {"name": "test_resnet", "kwargs": {"num_classes": 10, "in_chans": 1}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run on digits."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=10, in_chans=1).eval()
    names, state = names_in_scope(network, conv_linear), network.state_dict()
    for name in names:
        state[name].copy_((state[name] * 16).round() / 16)
    folder = tmp_path / "run"
    sizes = file.save(folder / "model.pwfn", state, names, architecture=ARCHITECTURE)
    save_weights(folder / "model.safetensors", state)
    summary = {"status": "finished", "method": "pwfn", "model": "test_resnet", "dataset": "digits", "seed": 1}
    summary |= {"params": 1000, "params_in_scope": 900, "unique": 12, "entropy": 2.5, "acc1": 91.25}
    write_json(folder / "summary.json", {**summary, "baseline_acc1": 93.5, "sizes": sizes.summary()})
    (folder / ".hydra").mkdir()
    data = {"input_size": [1, 32, 32], "mean": [0.5], "std": [0.25], "crop_pct": 1.0}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"dataset": {"data_config": data}}))
    return folder


@pytest.mark.skipif(
    Version(timm.__version__) < Version("1.0.26"), reason="timm before 1.0.26 reads a folder's safetensors as a pickle"
)
def test_timm_loads_the_folder(run: Path) -> None:
    folder = hub.prepare(run, "me/digits-fixed")
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    mine, images = pwfn.load(folder / "model.pwfn"), torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), mine(images))
    config = resolve_model_data_config(network)
    assert tuple(config["input_size"]) == (1, 32, 32) and tuple(config["mean"]) == (0.5,) and config["crop_pct"] == 1.0


def test_the_card_tells_the_measured_figures(run: Path) -> None:
    card = (hub.prepare(run, "me/digits-fixed") / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "timm"
    sizes = json.loads((run / "summary.json").read_text())["sizes"]
    for figure in ("91.25", "93.50", "2.50", "900 of its 1,000", f"{sizes['entropy_coded']:,} (`model.pwfn`)"):
        assert figure in text
    assert 'pwfn.load("hf://me/digits-fixed")' in text and 'timm.create_model("hf-hub:me/digits-fixed"' in text


@pytest.mark.parametrize("argument", [{"checkpoint_path": "weights.pth"}, {"pretrained_cfg": {"file": "x.npz"}}])
def test_a_crafted_file_is_not_built_for_the_hub(argument: dict[str, object], run: Path) -> None:
    """What a file asks of timm goes through the closed list of arguments here, too."""
    sections = container.split((run / "model.pwfn").read_bytes())
    header = json.loads(zstandard.decompress(sections[0]))
    header["architecture"]["kwargs"] |= argument
    sections[0] = zstandard.compress(json.dumps(header).encode())
    (run / "model.pwfn").write_bytes(container.join(sections))
    with pytest.raises(ValueError, match=f"takes no such argument as '{next(iter(argument))}' from a file"):
        hub.prepare(run, "me/digits-fixed")


def test_dry_run_lists_what_would_be_uploaded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "me/digits-fixed", "--dry-run"]) == 0
    said = capsys.readouterr().out
    names = {"README.md", "config.json", "model.pwfn", "model.safetensors", "summary.json"}
    assert {path.name for path in (run / "hub").iterdir()} == names
    assert all(name in said for name in names) and "me/digits-fixed" in said


def test_a_network_that_timm_does_not_know_has_no_config(run: Path) -> None:
    _, state = file.read(run / "model.pwfn")
    target = {"_target_": "pwfn.model.cifar_resnet.cifar_resnet20", "kwargs": {}}
    file.save(run / "model.pwfn", state, [], architecture=target)
    folder = hub.prepare(run, "me/x")
    assert not (folder / "config.json").exists() and "timm" not in (folder / "README.md").read_text()


def test_mistakes_are_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for repo in ("a/b/c", "alone", "me/wrong name"):
        assert main(["push", str(run), repo, "--dry-run"]) == 1
    (run / "model.pwfn").unlink()
    assert main(["push", str(run), "me/x", "--dry-run"]) == 1
    assert "holds no finished run to push" in " ".join(capsys.readouterr().err.split())


def test_load_from_the_hub(run: Path, tmp_path: Path) -> None:
    """huggingface_hub itself finds the file, in a cache that holds it, offline."""
    commit, place = "0" * 40, tmp_path / "cache" / "models--me--digits-fixed"
    for folder in (place / "refs", place / "snapshots" / commit):
        folder.mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copyfile(run / "model.pwfn", place / "snapshots" / commit / "model.pwfn")
    code = "import pwfn; n = pwfn.load('hf://me/digits-fixed'); print(type(n).__name__, n.training)"
    code += "\ntry: pwfn.load('hf://me/other')\nexcept OSError as error: print('none')"
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout.split() == ["ResNet", "False", "none"], done.stderr[-2000:]


READ = """
import sys

import timm
import torch

import pwfn

theirs = timm.create_model("hf-hub:me/digits-fixed", pretrained=True).eval().state_dict()
mine = pwfn.load("hf://me/digits-fixed").state_dict()
assert theirs.keys() == mine.keys() and all(torch.equal(theirs[name], mine[name]) for name in mine)
torch.save(mine, sys.argv[1])
"""


def test_push_and_load_through_a_server(run: Path, tmp_path: Path) -> None:
    """huggingface_hub and timm themselves talk to a server, and afterwards without one to their cache."""
    command = [sys.executable, "-m", "pwfn.report", "push", str(run), "me/digits-fixed"]
    home = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        home.pop(name, None)
    with serving() as hub:
        online = {**home, "HF_ENDPOINT": hub.address}
        pushed = subprocess.run(command, capture_output=True, text=True, timeout=240, env=online)
        assert pushed.returncode == 0, pushed.stderr[-3000:] + str(hub.asked)
        assert f"{hub.address}/me/digits-fixed" in pushed.stdout.replace("\n", "")
        held = {path.name: path.read_bytes() for path in (run / "hub").iterdir()}
        assert hub.files["me/digits-fixed"] == held and "model.safetensors" in held
        assert hub.created["name"] == "digits-fixed" and not hub.created.get("private")
        assert {told for path, told in hub.asked if "commit" in path} == {"Bearer hf_secret"}
        read = [sys.executable, "-c", READ, str(tmp_path / "state.pt")]
        done = subprocess.run(read, capture_output=True, text=True, timeout=240, env=online)
        assert done.returncode == 0, done.stderr[-3000:] + str(hub.asked)
    offline = {**home, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(read, capture_output=True, text=True, timeout=240, env=offline)
    assert done.returncode == 0, done.stderr[-3000:]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=240, env=offline)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr, refused.stderr[-3000:]
    state = pwfn.load(run / "model.pwfn").state_dict()
    read_back = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(torch.equal(read_back[name], state[name]) for name in state)

"""What the README and RESULTS.md say is true: Python runs, overrides compose, CI runs the two commands."""

from __future__ import annotations

import re
from pathlib import Path

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, TensorDataset

from pwfn import compression, scope


def blocks(root: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)


def test_the_lightning_example(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = next(block for block in blocks(root, "python") if "WeightFixing" in block)
    assert len(example.splitlines()) < 20
    quiet = L.Trainer.__init__
    monkeypatch.setattr(
        L.Trainer,
        "__init__",
        lambda self, **k: quiet(
            self, **k, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
        ),
    )
    loader = DataLoader(TensorDataset(torch.randn(80, 3, 32, 32), torch.arange(80) % 10), 4)
    names = {"train_loader": loader}
    exec(compile(example, "README.md", "exec"), names)
    model = names["model"]
    assert type(model).__name__ == "ResNet"
    shared = torch.cat([getattr(m, key).flatten() for _, m, key in scope.conv_linear(model)])
    assert compression.unique(shared) < 400


@pytest.mark.parametrize("name", ["README.md", ".github/RESULTS.md"])
def test_overrides_in_the_text_compose(root: Path, name: str) -> None:
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)
    text = (root / name).read_text().replace("\\\n", " ")
    for shorthand, meaning in re.findall(r'^([A-Z])="([^"]*)"', text, re.MULTILINE):
        text = re.sub(rf"(?<= )\${shorthand}(?= |$)", meaning.replace("\n", " "), text, flags=re.MULTILINE)
    calls = re.findall(r"^(?:srun )?python launch\.py ([^\n#]*)", text, re.MULTILINE)
    assert len(calls) >= 3
    for call in calls:
        overrides = [
            o
            for o in call.replace("'", "").split()
            if "=" in o and "(" not in o and not o.startswith(("hydra", "evaluate", "-"))
        ]
        overrides = [re.sub(r"=([^\[{]*?),.*", r"=\1", o) for o in overrides if "evaluation" not in o]
        with initialize_config_dir(str(root / "conf"), version_base="1.3"):
            compose("config", overrides)


def test_the_table_of_flags_composes(root: Path) -> None:
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)
    rows = re.findall(r"^\| `--[^|]*\|([^|]*)\|$", (root / "README.md").read_text(), re.MULTILINE)
    settings = [s for row in rows for s in re.findall(r"`([^`]*=[^`]*)`", row)]
    assert len(settings) > 15
    for setting in settings:
        with initialize_config_dir(str(root / "conf"), version_base="1.3"):
            compose("config", ["dataset=imagenet"] * setting.startswith("dataset.") + setting.split())

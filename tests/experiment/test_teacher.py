"""Runs that learn from another network: model@distillation.teacher=NAME."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

SMALL = [
    "model.name=test_resnet",
    "baseline.epochs=12",
    "dataset.limit=400",
    "dataset.batch_size=32",
    "method=floating",
    "fixing.fractions=[1.0]",
    "fixing.first_epochs=4",
    "fixing.first_fraction=1",
    "optimizer.lr=0.05",
    "logger=csv",
    "evaluation.draws=[]",
    "evaluation.noise=[]",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]
TEACHER = ["model@distillation.teacher=timm", "distillation.teacher.name=test_byobnet", "distillation.weight=1"]


def launch(root: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    places = [f"hydra.run.dir={folder / 'run'}", f"baseline.folder={folder / 'baselines'}"]
    command = [sys.executable, str(root / "launch.py"), *SMALL, *overrides, *places]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def says_three(path: Path) -> None:
    """Write the weights of a network that takes every digit for a 3."""
    network = timm.create_model("test_byobnet", num_classes=10, in_chans=1)
    head = network.get_classifier()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.eye(10)[3] * 20)
    save_file(network.state_dict(), path)


def test_a_network_answers_as_its_teacher(root: Path, tmp_path: Path) -> None:
    says_three(tmp_path / "three.safetensors")
    checkpoint = f"distillation.teacher.checkpoint={tmp_path / 'three.safetensors'}"
    done = launch(root, tmp_path, *TEACHER, checkpoint, "distillation.teacher.pretrained=false")
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["baseline_acc1"] > 30  # it knew better
    assert summary["acc1"] == pytest.approx(10, abs=3)  # the share of threes


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], "distillation.teacher.pretrained=false or distillation.teacher.checkpoint"),
        (["distillation.teacher.pretrained=false"], "set distillation.teacher.checkpoint"),
        (["distillation.weight=0"], "distillation.weight=0"),
        (["distillation.teacher.name=test_bybnet"], "near to it: test_byobnet"),
        (["distillation.teacher.checkpoint=none.pt"], "no file none.pt: change distillation.teacher.checkpoint"),
        (["+distillation.teacher.kwargs.drop_rate=x"], "distillation.teacher.kwargs.drop_rate=x"),
        (["distillation.teacher.pretrained=5"], "distillation.teacher.pretrained must be true or false"),
    ],
)
def test_bad_teachers_are_refused(root: Path, tmp_path: Path, overrides: list[str], told: str) -> None:
    done = launch(root, tmp_path, *TEACHER, *overrides)
    assert done.returncode == 1 and told in done.stderr, done.stderr[-2000:]
    assert len(done.stderr.strip().splitlines()) == 1 and "model." not in done.stderr.replace("teacher model.", "")
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {"launch.log"}  # what timm told

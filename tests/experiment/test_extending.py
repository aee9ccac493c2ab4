"""A prior, a method and a dataset of one's own: a module and a YAML each, outside the repository, in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

FILES = {
    "my_prior.py": """
from torch import Tensor


def proportional(mu: Tensor, *, share: float) -> Tensor:
    return (share * mu.abs()).clamp(min=1e-6)
""",
    "my_method.py": """
import math

from torch import Tensor

from pwfn.assignment import Assignment, Pick, from_picks
from pwfn.rounds import Round


def grid(mu: Tensor, sigma: Tensor, round: Round, *, step: float) -> Assignment:
    values, group = (mu / step).round().unique(return_inverse=True)
    farthest = (mu - step * values[group]).abs().argsort()[math.ceil(round.fraction * len(mu)) :]
    group = group.int()
    group[farthest] = -1
    counts = (group + 1).bincount(minlength=len(values) + 1)[1:]
    picks = [Pick(step * value, count, 1, 0.0) for value, count in zip(values.tolist(), counts.tolist())]
    return from_picks(mu, group, picks)
""",
    "my_dataset.py": """
import numpy as np
from PIL import Image

from pwfn.dataset.images import Images


def stripe(index: int) -> Image.Image:
    image = np.zeros((8, 8), np.uint8)
    image[index % 8] = 255
    return Image.fromarray(image if index % 2 else image.T)


def stripes(*, count: int) -> tuple[Images, Images]:
    labels = [index % 2 for index in range(count)]
    return Images(stripe, labels, place="stripes"), Images(stripe, labels[:40], place="stripes")
""",
    "conf/prior/proportional.yaml": """
_target_: my_prior.proportional
_partial_: true
share: 0.01
""",
    "conf/method/grid.yaml": """
name: grid
gaussian: true
rounds: ${fixing.rounds}
penalty: null
step: 0.125
assign: {_target_: my_method.grid, _partial_: true, step: "${method.step}"}
""",
    "conf/dataset/stripes.yaml": """
defaults: [digits, _self_]
name: stripes
source: {_target_: my_dataset.stripes, count: 160}
num_classes: 2
data_config: {input_size: [1, 32, 32], mean: [0.125], std: [0.33]}
batch_size: 32
""",
}

SETTINGS = [
    "model.name=test_resnet",
    "baseline.epochs=1",
    "fixing.fractions=[0.5,1.0]",
    "evaluation.draws=[2]",
    "evaluation.noise=[]",
    "logger=csv",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run made of nothing but one's own parts, from a directory of one's own."""
    own = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    paths = os.pathsep.join(filter(None, (str(own), os.environ.get("PYTHONPATH"))))
    choices = ["prior=proportional", "method=grid", "dataset=stripes", f"hydra.searchpath=[file://{own}/conf]"]
    done = subprocess.run(
        [sys.executable, str(root / "launch.py"), *choices, *SETTINGS, "hydra.run.dir=run", "baseline.folder=base"],
        cwd=own,
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return own / "run"


def test_the_run_is_made_of_them(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["method"], summary["dataset"]) == ("finished", "grid", "stripes")
    assert summary["fixed_fraction"] == 1


def test_the_method_chose_the_values(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    shared = torch.cat([weights[name].flatten() for name in load_file(run / "sigma.safetensors")])
    assert torch.equal(shared, (shared / 0.125).round() * 0.125)


def test_the_run_is_read_back_without_them(run: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pwfn.report", "run", str(run)], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stripes" in done.stdout and (run / "plots" / "accuracy.png").exists()

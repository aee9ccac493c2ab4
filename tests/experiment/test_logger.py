"""What the logger sends to W&B, read back from an offline run's files by W&B's own reader."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pwfn.experiment import logger as logs

SUMMARY = {"method": "pwfn", "model": "resnet18.a1_in1k", "dataset": "torch/cifar10", "entropy": 2.96, "acc1": 91.5}


def artifacts(folder: Path) -> list[dict[str, Any]]:
    """The artifacts of the offline W&B run of a folder."""
    (run,) = folder.glob("wandb/offline-run-*")
    wandb = shutil.which("wandb", path=str(Path(sys.executable).parent)) or "wandb"
    said = subprocess.run([wandb, "leet", "inspect", "--json", str(run)], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    return [record["artifact"] for record in records if record["type"] == "artifact"]


def test_the_model_is_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "model.pwfn").write_bytes(b"weights")
    (tmp_path / "codebook.csv").write_text("value,count\n0.5,3\n")
    logger = logs.wandb_logger(tmp_path, {}, name="n", job_type="pwfn", project="pwfn")()
    summary = {**SUMMARY, "sizes": {"float32": 4}}
    logs.log_model(logger, tmp_path, summary)
    logs.finish(logger, summary)

    (artifact,) = artifacts(tmp_path)
    assert artifact["type"] == "model" and artifact["name"] == "resnet18.a1_in1k-torch-cifar10"
    assert {"pwfn", "3.0bits"} <= set(artifact["aliases"])
    assert artifact["run_id"] == (tmp_path / "wandb_id").read_text()
    assert json.loads(artifact["metadata"]) == SUMMARY
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    assert set(files) == {"model.pwfn", "codebook.csv", "summary.json"}
    assert all(tmp_path in path.parents for path in files.values()), "a copy lies outside the run directory"
    assert files["model.pwfn"].read_bytes() == b"weights"
    assert json.loads(files["summary.json"].read_text()) == summary


def test_a_folder_that_is_moved_keeps_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder, moved = tmp_path / "before" / "run", tmp_path / "after" / "run"
    folder.mkdir(parents=True)
    logger = logs.wandb_logger(folder, {}, name="n", job_type="pwfn", project="pwfn")()
    born = logger.experiment.id
    folder.parent.rename(moved.parent)  # while it is open, as by somebody who tidies up
    again = logs.wandb_logger(moved, {}, name="n", job_type="pwfn", project="pwfn")()
    assert again.experiment.id == born
    logs.finish(again, SUMMARY)
    # W&B numbers the folders of one second
    names = [path.name for path in moved.glob("wandb/offline-run-*")]
    assert names and all(f"-{born}" in name for name in names)


def test_other_loggers_log_no_model(tmp_path: Path) -> None:
    logs.log_model(logs.csv_logger(tmp_path, {})(), tmp_path, SUMMARY)
    logs.log_model(None, tmp_path, SUMMARY)


OPEN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from pwfn.experiment.logger import wandb_logger
wandb_logger(Path(sys.argv[1]), {}, name="n", job_type="pwfn", project="pwfn")()
os.kill(os.getpid(), signal.SIGKILL)
"""

START_TWICE = """
import os, subprocess, sys
import wandb
wandb.init(project="pwfn", dir=sys.argv[1]).finish()
assert "WANDB_SERVICE" in os.environ
codes = [subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]]).returncode for _ in range(2)]
sys.exit(f"ended with {codes}")
"""


def test_a_killed_run_opens_again_under_a_process_that_uses_wandb(tmp_path: Path) -> None:
    """W&B's service of the parent would keep the killed run open: "run ID … is in use"."""
    said = subprocess.run(
        [sys.executable, "-c", START_TWICE, str(tmp_path), OPEN_AND_DIE],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
    )
    assert f"ended with {[-signal.SIGKILL] * 2}" in said.stderr, said.stderr

"""Runs of eight tasks, and of two nodes, on a real SLURM, with processes on CPUs in place of GPUs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from sweep import Sweep

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

OVERRIDES = "trainer=ddp trainer.accelerator=cpu dataset.batch_size=4 hydra.launcher.partition=wide "
OVERRIDES += "hydra.launcher.mem_gb=auto hydra.launcher.mem_gb_per_device=1 logger=csv"


@pytest.fixture
def wide() -> None:
    """A partition of two nodes with eight CPUs each, which .ci/slurm.sh makes."""
    command = ["sinfo", "--noheader", "--partition=wide", "--format=%D %c"]
    if subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() != ["2", "8"]:
        pytest.skip("there is no partition wide of two nodes with eight CPUs each (.ci/slurm.sh makes one)")


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("trainer", "nodes", "ranks"),
    [("trainer.devices=8", 1, 8), ("trainer.devices=2 trainer.num_nodes=2", 2, 4)],
    ids=["eight tasks", "two nodes"],
)
def test_a_run_of_many_ranks(root: Path, tmp_path: Path, trainer: str, nodes: int, ranks: int) -> None:
    sweep = Sweep(root, tmp_path / "sweep", "seed=1", *OVERRIDES.split(), *trainer.split())
    code, text = sweep.run(patience=900)
    assert code == 0 and "1 runs: 1 finished" in text, text
    (run,) = sweep.runs().values()
    shown = subprocess.run(["scontrol", "show", "job", str(run.job)], capture_output=True, text=True, check=True).stdout
    assert f"NumNodes={nodes} " in shown and f"NumTasks={ranks} " in shown
    log = (run.folder / "launch.log").read_text()
    assert {*re.findall(r"GLOBAL_RANK: \d+, MEMBER: \d+/\d+", log)} == {
        f"GLOBAL_RANK: {rank}, MEMBER: {rank + 1}/{ranks}" for rank in range(ranks)
    }

"""Ctrl-C, SIGTERM and a full disk in the stages of a run: one line says how to go on, to the same weights.

A stage is known by what it has left: training of the baseline by what it prints, the rounds by ``rounds.csv``,
the measurement by the fixed network's weights.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    "model.name=test_resnet",
    "baseline.epochs=3",
    "dataset.limit=600",
    "dataset.workers=0",
    "fixing.fractions=[0.5,1.0]",
    "fixing.rest_epochs=2",
    "evaluation.draws=[40]",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "logger=csv",
]
STAGES: dict[str, Callable[[Path, str], bool]] = {
    "baseline": lambda folder, said: "training the baseline" in said,
    "rounds": lambda folder, said: (folder / "rounds.csv").exists(),
    "measurement": lambda folder, said: (folder / "model.safetensors").exists(),
}


class Run:
    """A run in ``place``, with a baseline of its own there."""

    def __init__(self, place: Path) -> None:
        self.folder, self.log = place / "run", place.parent / f"{place.name}.log"
        places = [f"hydra.run.dir={self.folder}", f"baseline.folder={place / 'baselines'}"]
        self.command = [sys.executable, str(ROOT / "launch.py"), *SETTINGS, *places]

    def start(self) -> subprocess.Popen[bytes]:
        """Start it as a shell does that has a terminal: SIGINT is not ignored."""
        with self.log.open("wb") as log:
            return subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def until(self, stage: str) -> subprocess.Popen[bytes]:
        """Start it, and stop its process with SIGSTOP once it is in the stage."""
        process = self.start()
        while not STAGES[stage](self.folder, self.said()):
            assert process.poll() is None, f"ended before its {stage}: {self.said()}"
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        assert not (self.folder / "evaluation.json").exists()
        return process

    def finish(self) -> bytes:
        process = self.start()
        assert process.wait(600) == 0, self.said()
        assert not [path for path in self.folder.rglob(".*") if path.name.endswith(".tmp")]
        return (self.folder / "model.safetensors").read_bytes()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an undisturbed run ends with."""
    return Run(tmp_path_factory.mktemp("undisturbed") / "place").finish()


def test_interruption(weights: bytes, tmp_path: Path) -> None:
    run = Run(tmp_path / "place")
    ends = {"baseline": (signal.SIGINT, 130), "rounds": (signal.SIGTERM, 143), "measurement": (signal.SIGINT, 130)}
    for stage, (ending, code) in ends.items():
        process = run.until(stage)
        for sign in (ending, signal.SIGCONT):
            process.send_signal(sign)
        assert process.wait(120) == code, (stage, run.said())
        word = "interrupted" if ending == signal.SIGINT else "terminated"
        assert run.said().splitlines()[-1] == (
            f"{word}: the same command with hydra.run.dir={run.folder} goes on from here"
        )
        assert "Traceback" not in run.said()
    assert run.finish() == weights


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_full_disk(weights: bytes, small_disk: Path) -> None:
    run, ballast = Run(small_disk), small_disk / "ballast"
    for stage in STAGES:
        process = run.until(stage)
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        process.send_signal(signal.SIGCONT)
        assert process.wait(300) == 1, (stage, run.said())
        assert "No space left on device" in run.said() and "Traceback" not in run.said(), (stage, run.said())
        assert run.said().splitlines()[-1] == (
            f"(the same command with hydra.run.dir={run.folder} goes on once there is room)"
        )
        ballast.unlink()
    assert run.finish() == weights

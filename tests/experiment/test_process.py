"""How a run's process ends: its exit code, what it says, and that it is alone in its folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors import SafetensorError

from pwfn.experiment.process import process

RUST = "Error while serializing: I/O error: No space left on device (os error 28)"
"""How safetensors tells it."""


def test_what_a_run_raises_for_its_user_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended, process(tmp_path):
        raise ValueError("last.ckpt is damaged")
    said = str(ended.value.code)
    assert said.splitlines()[0] == "last.ckpt is damaged" and len(said.splitlines()) == 2
    assert "Traceback" in (tmp_path / "launch.log").read_text() and str(tmp_path / "launch.log") in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "last.ckpt"), "[Errno 28] No space left on device: 'last.ckpt'"),
        (SafetensorError(RUST), RUST),
    ],
)
def test_a_full_disk_says_that_the_run_goes_on(tmp_path: Path, error: Exception, said: str) -> None:
    with pytest.raises(SystemExit) as ended, process(tmp_path):
        raise error
    first, second = str(ended.value.code).splitlines()
    assert first == said
    assert second == f"(the same command with hydra.run.dir={tmp_path} goes on once there is room)"
    assert not (tmp_path / "launch.log").exists()


def test_the_error_of_a_loader_worker_is_told_without_its_traceback(tmp_path: Path) -> None:
    text = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\nValueError: bad image: a.png"
    )
    with pytest.raises(SystemExit) as ended, process(tmp_path):
        raise ValueError(text)
    assert str(ended.value.code).splitlines()[0] == "bad image: a.png"


def test_an_error_of_the_program_itself_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(AttributeError), process(tmp_path):
        raise AttributeError("a bug")


def test_sigterm_ends_with_its_code_and_says_how_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, process(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    out, err = capsys.readouterr()
    assert out == f"run folder: {tmp_path}\n"
    assert err == f"terminated: the same command with hydra.run.dir={tmp_path} goes on from here\n"


def test_in_training_sigterm_is_left_to_lightning(tmp_path: Path) -> None:
    reached = []
    with pytest.raises(SystemExit) as ended, process(tmp_path):
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)
        signal.signal(signal.SIGTERM, lambda *of: ours(*of))  # Lightning's handler calls the one before it
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("the end of the batch")
        raise SIGTERMException
    assert reached and ended.value.code == 143


@pytest.mark.parametrize("caught", [False, True], ids=["anywhere", "in training"])
def test_ctrl_c(caught: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start tests with it ignored
    try:
        with pytest.raises(SystemExit) as ended, process(tmp_path):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            except KeyboardInterrupt:
                if not caught:
                    raise
                sys.exit(1)  # as Lightning does
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"interrupted: the same command with hydra.run.dir={tmp_path} goes on from here\n"


def test_the_second_process_in_a_folder_leaves(tmp_path: Path) -> None:
    code = "import sys, time; from filelock import FileLock; l = FileLock(sys.argv[1]).acquire(); print(1, flush=True);"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{code} time.sleep(60)", tmp_path / ".lock"], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "1\n"
    with pytest.raises(SystemExit) as ended, process(tmp_path):
        raise AssertionError("two processes in one folder")
    assert str(ended.value.code) == f"another process works in {tmp_path}: wait for it, or choose another hydra.run.dir"
    other.kill()
    other.wait()
    with process(tmp_path), pytest.raises(TimeoutError):
        FileLock(tmp_path / ".lock").acquire(timeout=0)

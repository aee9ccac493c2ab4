"""`launch.py --help` shows every choice, the settings of those in force, and what the files say of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pwfn
from pwfn.report.options import completions, help_text


def test_every_option_and_its_comment(root: Path) -> None:
    text = help_text(root / "conf", [])
    for path in (root / "conf").rglob("*.yaml"):
        if path.parent != root / "conf":
            assert f" {path.stem} " in f"{text} ".replace("\n", " \n").replace("/", " "), path
    assert "  * pow2                         Relative distance to the neighbouring powers of two (the paper)" in text
    assert "hydra/launcher=slurm" in text and "evaluation:" in text
    for line in ("  growth: 2.0             # of the reach, when more weights are wanted", "  rest_epochs: 1"):
        assert line in text.splitlines()
    assert "partition:" not in text


def test_the_settings_of_what_is_asked_for(root: Path) -> None:
    text = help_text(root / "conf", ["hydra/launcher=slurm", "prior=constant"])
    assert "  partition: null           # SLURM's default" in text.splitlines()
    assert "  * constant " in text and "  * pow2 " not in text and "  sigma: 1.0e-4" in text


def test_help_and_version_answer_at_once(root: Path) -> None:
    for argument, expected in (("--version", f"pwfn {pwfn.__version__}\n"), ("--help", "Choices, GROUP=OPTION:")):
        done = subprocess.run(
            [sys.executable, str(root / "launch.py"), argument], capture_output=True, text=True, timeout=120, check=True
        )
        assert expected in done.stdout and not done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("experiment=", ["experiment=cifar10/resnet20", "experiment=post_training"]),
        ("seed=1 experiment=cifar10/", ["experiment=cifar10/resnet20"]),
        ("+experiment=post", ["+experiment=post_training"]),
        ("experiment=nothing", []),
        ("method=wf", ["method=wfn"]),
        ("experiment=cifar10/resnet20 fixing.rest_e", ["fixing.rest_epochs="]),
    ],
)
def test_what_a_shell_completes(words: str, expected: list[str], root: Path) -> None:
    """Bash asks as here; options in folders come from us, the rest from Hydra."""
    line = f"python launch.py {words}"
    done = subprocess.run(
        [sys.executable, str(root / "launch.py"), "-sc", "query=bash"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))},
    )
    found = done.stdout.split()
    assert set(expected) <= set(found)
    assert all(word.startswith(words.split()[-1]) for word in found) and bool(found) == bool(expected)


def test_what_hydra_completes(root: Path) -> None:
    for line in ("python launch.py seed=", "python launch.py prior=", "python launch.py exp", "python launch.py "):
        assert completions(root / "conf", line) is None

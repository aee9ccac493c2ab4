"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data kept beside the repository (too large for it); skips where it is missing."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data not found: {folder.name}/ beside the repository")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-slurm", action="store_true", help="fail where tests marked slurm would be skipped")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process of ``pytest -n`` whole files, whose fixtures are made once, and SLURM's to one of them."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "slurm" if "mark.slurm" in (config.rootpath / file).read_text() else file

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked ``slurm`` where there is none, and say why."""
    items.sort(key=lambda item: "slurm" not in item.keywords)  # the longest, and mostly waiting, begin first
    marked = [item for item in items if "slurm" in item.keywords]
    reason = _no_slurm() if marked else None
    if reason is None:
        return
    if config.getoption("--require-slurm"):
        raise pytest.UsageError(f"--require-slurm: {reason}")
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=reason))


def _no_slurm() -> str | None:
    """Why no SLURM can be used here; None if one can."""
    for program in ("sbatch", "srun", "sinfo", "scontrol"):
        if shutil.which(program) is None:
            return f"{program} is not installed (.ci/slurm.sh starts a SLURM)"
    try:
        answer = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=5)
    except subprocess.TimeoutExpired:
        return "SLURM's controller does not answer"
    if answer.returncode != 0:
        return f"SLURM's controller does not answer: {answer.stderr.strip()}"
    usable = {"idle", "mixed", "allocated", "completing"} & set(answer.stdout.split())
    return None if usable else f"no SLURM node is usable: {answer.stdout.split()}"

"""The code that a run was made with: its commit, its uncommitted changes, and the copy that queued jobs run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pwfn.rundir.files import atomic, write_json

__all__ = ["git_state", "snapshot", "write"]

PACKAGE = Path(__file__).resolve().parents[1]


def git_state(package: Path) -> tuple[dict[str, Any], str] | None:
    """Read commit, dirty flag and untracked files of the repository that tracks a package, and the diff to the commit.

    Returns:
        None where the package is no part of a repository (an installed copy) or git is missing.
    """
    if shutil.which("git") is None:
        return None
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(package, "rev-parse", "HEAD")
    if tracked is None or commit is None:
        return None
    diff = _git(package, "diff", "HEAD") or ""
    untracked = (_git(package, "ls-files", "--others", "--exclude-standard", "--full-name", ":/") or "").splitlines()
    return {"commit": commit.strip(), "dirty": bool(diff or untracked), "untracked": untracked}, diff


def write(folder: Path) -> None:
    """Write ``git.json`` and ``git.diff`` of the running code to a run's folder, as far as they are known."""
    frozen = PACKAGE.parent / "git.json"
    if frozen.exists():  # the running code is a snapshot
        state, diff = json.loads(frozen.read_text()), frozen.with_suffix(".diff").read_text()
    else:
        found = git_state(PACKAGE)
        if found is None:
            return
        state, diff = found
    write_json(folder / "git.json", state)
    with atomic(folder / "git.diff") as temporary:
        temporary.write_text(diff)


def snapshot(folder: Path, plugin: Path) -> Path:
    """Copy the running code to ``folder``, for jobs that start later and must not see it edited.

    Args:
        folder: goes to the head of the jobs' module search path.
        plugin: the launcher's package in the namespace ``hydra_plugins``; ours beside it are copied, too.
    """
    skip = shutil.ignore_patterns("__pycache__", "plugins")
    shutil.copytree(PACKAGE, folder / "pwfn", ignore=skip)
    for package in plugin.parent.glob("pwfn_*"):  # a job unpickles the classes of all plugins
        shutil.copytree(package, folder / "hydra_plugins" / package.name, ignore=skip)
    write(folder)
    return folder


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command, None if it failed."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, errors="replace")
    return done.stdout if done.returncode == 0 else None

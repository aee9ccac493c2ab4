"""Who may import whom: the mathematics knows nothing of the framework around it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pwfn

TENSORS_ONLY = {
    "apot",
    "assignment",
    "chunks",
    "clustering",
    "compression",
    "deterministic",
    "intervals",
    "method",
    "nearest",
    "prior",
    "regulariser",
    "rounding",
    "rounds",
    "sigma_join",
    "softmin",
    "wfn",
}
"""Modules that may import torch, the standard library and each other, nothing else."""

HYDRA = {"experiment", "run", "naming", "report", "compare", "results", "status", "validation", "workspace"}
"""Modules that may know hydra or omegaconf, beside launch.py."""

WANDB = {"tracking", "workspace"}
"""Modules that may know wandb."""


def imports(path: Path) -> set[str]:
    """Every module that a file imports, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(root: Path) -> dict[str, set[str]]:
    return {path.stem: imports(path) for path in (root / "pwfn").glob("*.py") if path.stem != "__init__"}


def top(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_mathematics_imports_torch_only(root: Path) -> None:
    for name, found in modules(root).items():
        if name in TENSORS_ONLY:
            own = {n.split(".")[1] for n in found if n.startswith("pwfn.")}
            assert own <= TENSORS_ONLY, f"{name} imports {own - TENSORS_ONLY}"
            others = top(found) & {"lightning", "hydra", "omegaconf", "wandb", "timm", "torchvision", "torchmetrics"}
            assert not others, f"{name} imports {others}"


def test_gaussian_knows_torch_and_the_choices(root: Path) -> None:
    assert top(modules(root)["gaussian"]) <= {"__future__", "collections", "typing", "torch", "pwfn"}
    assert {n.split(".")[1] for n in modules(root)["gaussian"] if n.startswith("pwfn.")} <= {"noise", "prior", "scope"}


def test_fixing_and_classifier_do_not_know_each_other(root: Path) -> None:
    found = modules(root)
    assert not any("classifier" in name for name in found["fixing"] | found["learning"])
    assert not any("fixing" in name or "learning" in name for name in found["classifier"])


@pytest.mark.parametrize(
    ("packages", "allowed"), [({"hydra", "omegaconf"}, HYDRA), ({"wandb", "wandb_workspaces"}, WANDB)]
)
def test_frameworks_stay_at_the_edge(root: Path, packages: set[str], allowed: set[str]) -> None:
    knowing = {name for name, found in modules(root).items() if top(found) & packages}
    assert knowing <= allowed, f"{knowing - allowed} import {packages}"


def test_files_stay_short(root: Path) -> None:
    long = {p.name: n for p in (root / "pwfn").rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_reports_and_launchers_do_not_wait_for_torch() -> None:
    code = "import sys, pwfn.report, pwfn.status, pwfn.naming; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_the_package_gives_what_it_announces() -> None:
    assert {name: getattr(pwfn, name).__name__ for name in pwfn.__all__} == {name: name for name in pwfn.__all__}
    assert set(pwfn.__all__) <= set(dir(pwfn))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pwfn.nothing  # noqa: B018

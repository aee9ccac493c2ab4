"""Who may import whom: the mathematics knows nothing of the framework around it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pwfn

WORDS = {"apot", "assignment", "clustering", "compression", "prior", "regulariser", "rounding", "rounds", "scope"}
WORDS |= {"grid", "scaled_apot", "sigma_join", "wfn"}
"""The paper's words: pure functions of tensors."""

NETWORKS = {"gaussian", "learning", "released", "fixing", "callback", "classifier", "method", "record", "ranks"}
NETWORKS |= {
    "apot_learning",
    "gaussian_weight",
    "distillation",
    "post_training",
    "pull",
    "refusal",
    "scheduler",
    "sensitivity",
    "straight_through",
}
"""Networks and callbacks."""

SCIENCE = {"torch", "lightning", "torchmetrics", "numpy"}

ALLOWED: dict[str, tuple[set[str], set[str] | None]] = {
    "kernels": (set(), {"torch"}),
    "words": ({"words", "kernels"}, {"torch", "numpy"}),  # numpy: see test_numpy_is_for_ties
    "rate_distortion": ({"words", "kernels"}, {"torch"}),
    "networks": ({"networks", "rate_distortion", "words", "kernels"}, SCIENCE),
    "dataset": (set(), None),
    "rundir": (set(), None),
    "model": ({"rundir"}, None),
    "artifact": ({"words", "model", "rundir"}, None),
    "report": ({"rundir"}, None),
    "experiment": (
        {"networks", "rate_distortion", "words", "kernels", "dataset", "rundir", "model", "artifact", "report"},
        None,
    ),
    "plugins": ({"rundir"}, None),
}
"""For each place: the other places of ours, and the packages beside the standard library (None: any), it may import."""

SEARCHING = {
    "plugins.hydra_plugins.pwfn_launcher.base",
    "plugins.hydra_plugins.pwfn_launcher.checks",
    "plugins.hydra_plugins.pwfn_optuna.sweeper",
}
"""A search looks at the objective of a run, a launcher at the rules of its settings."""

KNOWING = {
    "torch": {"kernels", "words", "rate_distortion", "networks", "dataset", "model", "artifact", "experiment"},
    "hydra": {"experiment.prepare", "experiment.build", "experiment.start", "experiment.training", "plugins"},
    "omegaconf": {
        "experiment.prepare",
        "experiment.build",
        "experiment.start",
        "experiment.training",
        "experiment.shared_learning",
        "experiment.structured",
        "experiment.teacher",
        "rundir.naming",
        "plugins",
    },
    "wandb": {"experiment.logger", "experiment.wandb_mode"},
    "timm": {"dataset", "model", "experiment.build", "artifact.hub"},
    "huggingface_hub": {"artifact.hub", "model.reachable"},
    "optuna": {"plugins"},
}
"""Packages that only these places, or modules, may import."""


def imports(path: Path) -> set[str]:
    """Every module that a file imports when it is run, dotted; what only type checkers see is left out."""
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return found


def place(module: str) -> str:
    """The place of a module, given below ``pwfn``: ``rundir.files`` lies in ``rundir``, ``apot`` among the words."""
    head = module.split(".")[0]
    return "words" if head in WORDS else "networks" if head in NETWORKS else head


def modules(root: Path) -> dict[str, set[str]]:
    """What each module of the package imports, by its dotted name below ``pwfn``."""
    paths = [path for path in (root / "pwfn").rglob("*.py") if path.stem != "__init__"]
    return {".".join(path.relative_to(root / "pwfn").with_suffix("").parts): imports(path) for path in paths}


def ours(names: set[str]) -> set[str]:
    """The places of ours that some imported names lie in."""
    return {place(name.removeprefix("pwfn.")) for name in names if name.startswith("pwfn.")} - {"__version__"}


def others(names: set[str]) -> set[str]:
    """The packages that some imported names lie in, neither ours nor the standard library's."""
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"pwfn", "hydra_plugins"}


def test_every_module_has_a_place(root: Path) -> None:
    assert {place(name) for name in modules(root)} == set(ALLOWED)


def test_who_imports_whom(root: Path) -> None:
    for name, found in modules(root).items():
        places, packages = ALLOWED[place(name)]
        if name == "report.__main__":  # `evaluate` measures a run anew, `push` uploads its network, `check-data` reads
            places = places | {"experiment", "artifact", "dataset"}
        if name in SEARCHING:
            places = places | {"experiment"}
        assert ours(found) <= places | {place(name)}, f"{name} imports {ours(found) - places - {place(name)}}"
        assert packages is None or others(found) <= packages, f"{name} imports {others(found) - (packages or set())}"


@pytest.mark.parametrize("package", KNOWING)
def test_packages_stay_where_they_belong(root: Path, package: str) -> None:
    knowing = {name for name, found in modules(root).items() if package in others(found)}
    allowed = {name for name in knowing if name in KNOWING[package] or place(name) in KNOWING[package]}
    assert knowing == allowed, f"{knowing - allowed} import {package}"
    for entry in KNOWING[package]:
        assert any(entry in (name, place(name)) for name in knowing), f"{entry} may import {package} and does not"


def test_numpy_is_for_ties(root: Path) -> None:
    knowing = {name for name, found in modules(root).items() if place(name) == "words" and "numpy" in others(found)}
    assert knowing == {"wfn"}  # the released code's ties are those of numpy.argsort


def test_fixing_and_classifier_do_not_know_each_other(root: Path) -> None:
    found = modules(root)
    assert not any("classifier" in name for name in found["fixing"] | found["callback"] | found["learning"])
    assert not any(word in name for word in ("fixing", "callback", "learning") for name in found["classifier"])


def test_files_stay_short(root: Path) -> None:
    lengths = {p.relative_to(root / "pwfn"): len(p.read_text().splitlines()) for p in (root / "pwfn").rglob("*.py")}
    assert {path.as_posix() for path, lines in lengths.items() if lines > 200} == set()
    assert max(lengths.values()) <= 300


def test_reports_and_launchers_do_not_wait_for_torch() -> None:
    modules = "pwfn.report.__main__, pwfn.rundir.status, pwfn.rundir.naming, pwfn.experiment.validation"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_modules_come_with_the_package() -> None:
    code = "import pwfn; print(pwfn.rate_distortion.fix.__name__, pwfn.clustering.assign.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["fix", "assign"]


def test_the_package_gives_what_it_announces() -> None:
    assert {name: getattr(pwfn, name).__name__ for name in pwfn.__all__} == {name: name for name in pwfn.__all__}
    assert set(pwfn.__all__) <= set(dir(pwfn))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pwfn.nothing  # noqa: B018

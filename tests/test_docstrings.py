"""Everything public says what it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ELSEWHERE = {("learning.py", "Schedule"), ("artifact/container.py", "VERSION"), ("model/architecture.py", "ALLOW")}
"""Names that a comment at their place explains, or that explain themselves."""


def documented(tree: ast.Module) -> dict[str, bool]:
    """For each definition of a module, whether a docstring follows it."""
    found: dict[str, bool] = {}
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.get_docstring(node) is not None
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                found |= {name.id: text for name in names if isinstance(name, ast.Name)}
    return found


def public(tree: ast.Module) -> list[str]:
    """The content of a module's ``__all__``."""
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ] or [ast.List(elts=[])]
    return list(ast.literal_eval(value))


def test_every_public_name_has_a_docstring(root: Path) -> None:
    lacking = set()
    for path in (root / "pwfn").rglob("*.py"):
        tree, name = ast.parse(path.read_text()), path.relative_to(root / "pwfn").as_posix()
        assert ast.get_docstring(tree) or path.stem == "__init__", f"{name} has no docstring"
        lacking |= {(name, key) for key in public(tree) if documented(tree).get(key) is False}
    assert lacking <= ELSEWHERE


def test_every_module_says_what_is_public(root: Path) -> None:
    for path in (root / "pwfn").rglob("*.py"):
        assert path.stem == "__init__" or "plugins" in path.parts or public(ast.parse(path.read_text())), path


def test_the_table_of_the_launchers_names_tests_that_exist(root: Path) -> None:
    launcher = root / "pwfn" / "plugins" / "hydra_plugins" / "pwfn_launcher" / "launcher.py"
    shown = re.findall(r"((?:\w+/)?test_\w+)(?:: ([\w, ]+))?", ast.get_docstring(ast.parse(launcher.read_text())) or "")
    assert len(shown) > 15
    for module, names in shown:
        text = (root / "tests" / ("" if "/" in module else "plugins") / f"{module}.py").read_text()
        assert all(f"\ndef test_{name}" in text for name in names.split(", ") if name), (module, names)

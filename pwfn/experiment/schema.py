"""The table of settings as JSON schemas, by which editors complete and check YAML files of configurations.

``python -m pwfn.experiment.schema`` writes them to ``.vscode/schema/``: ``config.json`` for whole configurations, and
one for the files of each config group. ``.vscode/settings.json`` says which of them a file follows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from pwfn.experiment.rules import NODES, RULES, Rule
from pwfn.experiment.settings import CLOSED
from pwfn.rundir.files import atomic

__all__ = ["schemas", "write"]

DRAFT = "http://json-schema.org/draft-07/schema#"
UNRESOLVED = {"type": "string", "pattern": r"^\?\?\?$|\$\{.*\}"}
"""What stands for a value in a file: the mark of a mandatory one, an interpolation."""


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schemas by file name; those of groups are references into ``config.json``."""
    whole = {"title": "a configuration of pwfn", **_settings(RULES), "definitions": {"unresolved": UNRESOLVED}}
    groups = [name for name, content in whole["properties"].items() if "properties" in content]
    return {
        "config.json": {"$schema": DRAFT, **whole},
        **{f"{name}.json": {"$schema": DRAFT, "$ref": f"config.json#/properties/{name}"} for name in groups},
    }


def write(folder: Path) -> None:
    """Write :func:`schemas` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in schemas().items():
        with atomic(folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")


def _settings(rules: Iterable[Rule], group: str = "") -> dict[str, Any]:
    """Describe the settings of a group: those with a rule, and any others where what is built takes its arguments."""
    leaves: dict[str, Any] = {}
    below: dict[str, list[Rule]] = {}
    for key, allowed, wanted in rules:
        name, _, rest = key.partition(".")
        if rest:
            below.setdefault(name, []).append((rest, allowed, wanted))
        else:
            leaves[name] = {"anyOf": [allowed.schema, {"$ref": "#/definitions/unresolved"}], "description": wanted}
    nested = {name: _settings(rows, name) for name, rows in below.items()}
    properties = {name: {**nested.get(name, {}), **leaves.get(name, {})} for name in (leaves | nested)}
    if group not in CLOSED:
        return {"properties": properties}
    known = (item.name for name, node in NODES if name == group for item in fields(node))
    others: dict[str, Any] = {name: {} for name in ("defaults", *known)}
    return {"properties": {**others, **properties}, "additionalProperties": False}


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else ".vscode/schema"))

"""The JSON schemas for editors say what the table of settings says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from pwfn.experiment.allowed import Allowed
from pwfn.experiment.rules import RULES
from pwfn.experiment.schema import schemas, write

TRIED = [
    *(None, True, False, 0, 1, -1, 2, 3, 0.5, 1e-5, 9999999.5, 10**12, -math.inf, math.inf),
    *("text", "", "auto", "0,1", "acc1", "sgd", {}, {"a": 1}),
    *([], [1], [0.5, 1.0], [2, 1], [3, 8, 8], [0, 0], ["acc1", "loss"], ["a", "b"], [None]),
]


def validator(name: str) -> Draft7Validator:
    found = schemas()
    return Draft7Validator(
        found[name], registry=Registry().with_resources((n, Resource.from_contents(s)) for n, s in found.items())
    )


@pytest.mark.parametrize(("allowed", "wanted"), [(a, w) for _, a, w in RULES], ids=[key for key, _, _ in RULES])
def test_schema_and_test_agree(allowed: Allowed, wanted: str) -> None:
    schema = Draft7Validator(allowed.schema)
    for value in TRIED:
        if "smaller one first" in wanted and value == [2, 1]:
            continue  # no schema tells the order of a list
        assert schema.is_valid(value) == allowed(value), value


def test_every_file_follows_its_schema(root: Path) -> None:
    chosen = json.loads((root / ".vscode" / "settings.json").read_text())["yaml.schemas"]
    seen = set()
    for name, patterns in chosen.items():
        follows = validator(Path(name).name)
        for path in (path for pattern in patterns for path in root.glob(pattern)):
            errors = [f"{path}: {error.message}" for error in follows.iter_errors(yaml.safe_load(path.read_text()))]
            assert not errors
            seen.add(path)
    ruled = {key.partition(".")[0] for key, _, _ in RULES} | {"experiment", "sweeps", "config.yaml"}
    for path in (root / "conf").rglob("*.yaml"):
        inside = path.relative_to(root / "conf").parts
        assert path in seen or inside[0] not in ruled or "wandb" in inside, path


@pytest.mark.parametrize(
    ("name", "content", "valid"),
    [
        ("fixing.json", {"delta_start": "abc"}, False),
        ("fixing.json", {"delta_start": "${..x}", "schedule": "joint"}, True),
        ("fixing.json", {"schedule": "jiont"}, False),
        ("fixing.json", {"straight_through": {"ramp": 2}}, False),
        ("config.json", {"evaluation": {"drows": [1]}}, False),
        ("config.json", {"distillation": {"teacher": {"checkpoint": 5}}}, False),
        ("config.json", {"dataset": {"root": "???", "data_config": {"mean": "${x}"}}, "defaults": ["x"]}, True),
        ("dataset.json", {"data_config": {"input_size": [3, 0, 8]}}, False),
        ("optimizer.json", {"_target_": "a.B", "lr": 0.1, "own": 5}, True),
    ],
)
def test_examples(name: str, content: Any, valid: bool) -> None:
    assert validator(name).is_valid(content) == valid


def test_the_files_are_those_of_the_table(root: Path, tmp_path: Path) -> None:
    write(tmp_path)
    kept = root / ".vscode" / "schema"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {p.name: p.read_text() for p in kept.iterdir()}, (
        "python -m pwfn.experiment.schema writes them anew"
    )
    for content in schemas().values():
        Draft7Validator.check_schema(content)

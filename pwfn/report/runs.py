"""Run directories, read back: configuration, figures and how far each run got."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pwfn.rundir.files import file_digest
from pwfn.rundir.naming import interpolated

__all__ = ["MISSING", "RunFolder", "find"]

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, where there is one, reads hundreds of configurations in a second."""

MISSING = "–"
"""A setting that a run does not have."""


@dataclass(frozen=True)
class RunFolder:
    """Holds what one run directory says.

    Attributes:
        folder: where it is.
        status: ``finished``, ``failed``, or ``unfinished`` (running, interrupted or never started).
        summary: ``summary.json``, as far as it got; nested keys joined by dots.
        settings: its configuration, nested keys joined by dots.
        derived: the settings that were written as interpolations, and so only follow from others.
        rounds: how many rounds ``rounds.csv`` holds.
    """

    folder: Path
    status: str
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]
    derived: frozenset[str]
    rounds: int

    def setting(self, key: str) -> str:
        """Return a setting as text, functions by their bare names; a dash where this run has no such setting."""
        return _text(key, self.settings.get(key, self.summary.get(key.removesuffix(".name"), MISSING)))

    @property
    def seed(self) -> Any:
        """The seed that the run was made with."""
        return self.settings.get("seed", self.summary.get("seed"))


def find(folders: Iterable[Path]) -> list[RunFolder]:
    """Find every run at or below some folders, by path; a run is a folder with ``.hydra/`` or ``summary.json``.

    Raises:
        ValueError: if a folder does not exist.
    """
    places: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no folder {folder}")
        for pattern in ("**/.hydra/config.yaml", "**/summary.json"):
            for path in folder.glob(pattern):
                if path.parts[-2:] == ("files", "summary.json") and path.parents[2].name == "wandb":
                    continue  # W&B's copy of a run's
                places.add((path.parent.parent if path.parent.name == ".hydra" else path.parent).resolve())
    return [_run(place) for place in sorted(places)]


def _run(folder: Path) -> RunFolder:
    summary = _load(folder / "summary.json", json.loads)
    settings = _load(folder / ".hydra" / "config.yaml", partial(yaml.load, Loader=YAML))
    status = summary.get("status")
    file, digest = folder / ".hydra" / "config.yaml", summary.get("config_digest")
    if status == "finished" and digest and file.exists() and file_digest(file) != digest:
        status, summary = "failed", {**summary, "error": ".hydra/config.yaml has been changed since the run"}
    rounds = folder / "rounds.csv"
    done = max(0, len(rounds.read_text().splitlines()) - 1) if rounds.exists() else 0
    if "error" in settings:  # no configuration, but a reason to show
        summary, settings = {**settings, **summary}, {}
    resolved = _Settings(settings)
    return RunFolder(
        folder,
        status if status in ("finished", "failed") else "unfinished",
        dict(_flat(summary)),
        resolved,
        resolved.derived,
        done,
    )


class _Settings(Mapping[str, Any]):
    """Holds a configuration, nested keys joined by dots; resolves an interpolation when it is asked for.

    Most are never asked for, and resolving all of them takes longer than reading the files.
    """

    def __init__(self, nested: dict[str, Any]) -> None:
        self.nested = nested
        self.flat = dict(_flat(nested))
        self.derived = frozenset(key for key, value in self.flat.items() if isinstance(value, str) and "${" in value)
        self.known: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self.derived:
            return self.flat[key]
        if key not in self.known:
            self.known |= interpolated(self.nested, [key])
        return self.known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.flat)

    def __len__(self) -> int:
        return len(self.flat)


def _load(path: Path, parse: Any) -> dict[str, Any]:
    """Read the content of a file; nothing where it is missing, or was left half written by another program."""
    if not path.exists():
        return {}
    try:
        content = parse(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        return {"error": f"{path.name} cannot be read: {error}"}
    return content if isinstance(content, dict) else {}


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(key: str, value: Any) -> str:
    if key.endswith(("_target_", ".path")) and isinstance(value, str):
        return value.rpartition(".")[2]
    return json.dumps(value) if isinstance(value, list | dict | bool) or value is None else str(value)

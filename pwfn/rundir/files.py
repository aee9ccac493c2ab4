"""The files of a run directory, each written whole or not at all."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "append_json",
    "atomic",
    "file_digest",
    "read_json",
    "text_digest",
    "write_csv",
    "write_json",
    "write_rows_of_round",
]

STALE_SECONDS = 3600
"""A temporary file that nobody has written to for so long belonged to a process that was killed."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it replaces ``path`` on leaving without an error.

    Temporary files that killed processes left of ``path`` are removed, see :data:`STALE_SECONDS`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # the content reaches the disk before the name does
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        try:
            stale = time.time() - left.stat().st_mtime > STALE_SECONDS
        except FileNotFoundError:  # its writer has just finished
            continue
        if stale:
            left.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text_digest(text: str) -> str:
    """The SHA-256 of the file that a text makes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file, None where there is no such file.

    Raises:
        ValueError: if the file is damaged; naming it.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (it holds no dictionary): delete it")
    return content


def append_json(path: Path, content: Mapping[str, Any]) -> None:
    """Add ``content`` to a file of JSON lines, on a line of its own also where the last writer was cut off."""
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        cut = file.tell() > 0
        if cut:
            file.seek(-1, os.SEEK_END)
            cut = file.read(1) != b"\n"
        file.write(b"\n" * cut + json.dumps(content).encode() + b"\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under a header of all their columns, in order of appearance; missing values stay empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue())


def write_rows_of_round(path: Path, round: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a round's rows, which have a column ``round``, below those of the rounds before it.

    What an interrupted try left of this round and of later ones goes. Without any rows, no file is written.
    """
    kept: list[Mapping[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if int(row["round"]) < round]
    if kept or rows:
        write_csv(path, [*kept, *rows])

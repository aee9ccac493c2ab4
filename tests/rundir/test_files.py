"""Files of a run directory that were cut off or damaged are named, and lock nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pwfn.rundir.entries import jobs_of
from pwfn.rundir.files import STALE_SECONDS, append_json, atomic, read_json, write_json
from pwfn.rundir.status import status


def test_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "last[1].ckpt"
    old, fresh, other = (tmp_path / f".{name}.tmp" for name in ("last[1].ckpt.a1", "last[1].ckpt.b2", "else.ckpt.c3"))
    for left in (old, fresh, other):
        left.write_text("half")
    for left in (old, other):
        os.utime(left, (time.time() - STALE_SECONDS - 9,) * 2)
    with atomic(path) as temporary:
        assert temporary.match(".*.tmp")
        temporary.write_text("whole")
    assert not old.exists() and fresh.exists() and other.exists() and path.read_text() == "whole"


@pytest.mark.parametrize("content", ["", "{", '{"status": "fin', "[1, 2]", "null", "\0\0\0"])
def test_damaged_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=r"summary\.json is damaged .*: delete it"):
        read_json(tmp_path / "summary.json")
    assert read_json(tmp_path / "nothing.json") is None


def entry(name: str) -> dict[str, object]:
    return {"folder": name, "cluster": "local", "job": "77", "overrides": [f"seed={name}"]}


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_was_cut_off_locks_nothing(tmp_path: Path, cut: int) -> None:
    """The runs are shown without it, and the next line begins anew."""
    listed = tmp_path / "jobs.jsonl"
    append_json(listed, entry("a"))
    append_json(listed, entry("b"))
    listed.write_bytes(listed.read_bytes()[:-cut])
    if cut > 1:  # without its line feed alone a line is whole
        with pytest.warns(UserWarning, match=r"jobs\.jsonl: line 2 is damaged and left out"):
            assert [run.folder.name for run in status(tmp_path)] == ["a"]
    append_json(listed, entry("c"))
    assert json.loads(listed.read_text().splitlines()[-1]) == entry("c")
    if cut > 1:
        with pytest.warns(UserWarning, match="line 2"):
            assert [run.folder.name for run in status(tmp_path)] == ["a", "c"]
    else:
        assert [run.folder.name for run in status(tmp_path)] == ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore:.*damaged")
@pytest.mark.parametrize("line", ["3", "null", "[]", "{}", '{"folder": "x"}', "\0", "\ufffd"])
def test_lines_that_are_no_entries(tmp_path: Path, line: str) -> None:
    (tmp_path / "jobs.jsonl").write_text(f"{line}\n\n{json.dumps(entry('a'))}\n")
    assert [run.folder.name for run in status(tmp_path)] == ["a"]
    assert jobs_of(tmp_path / "a") == ["77"] and jobs_of(tmp_path / "x") == []


def test_a_damaged_summary_is_shown_beside_the_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        append_json(tmp_path / "jobs.jsonl", entry(name))
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "summary.json", {"status": "finished", "acc1": 98.0})
    (tmp_path / "b" / "summary.json").write_text('{"status": "finis')
    first, second = status(tmp_path)
    assert (first.state, second.state) == ("finished", "stopped")
    assert "summary.json is damaged" in second.reason and second.reason.endswith("delete it")

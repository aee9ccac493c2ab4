"""The W&B workspace, built and read back without a key or a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pwfn.report import __main__ as report
from pwfn.report import panels, plots, workspace

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed: pip install -e '.[workspace]'")


def test_json_round_trip() -> None:
    board = workspace.build("someone", "pwfn", swept=["prior._target_", "fixing.delta_start"])
    text = workspace.to_json(board)
    again = workspace.from_json(text)
    assert [section.name for section in again.sections] == [section.name for section in board.sections]
    assert [len(section.panels) for section in again.sections] == [len(section.panels) for section in board.sections]
    first, second = json.loads(text), json.loads(workspace.to_json(again))
    assert _without_ids(first) == _without_ids(second)


def test_sections_show_what_runs_log() -> None:
    """Metrics of the rounds, cost scatter, the swept keys as W&B addresses them, codebook tables, every plot."""
    text = workspace.to_json(workspace.build("someone", "pwfn", swept=["fixing.delta_start"]))
    for wanted in ("fixing/acc1_after", "fixing/unique", "fixing/entropy", "config:fixing.value.delta_start"):
        assert wanted in text
    for wanted in ("summary:entropy", "summary:sizes.entropy_coded", "codebook", "fixing/centroids"):
        assert wanted in text
    assert set(panels.PLOTS) == set(plots.PLOTS)
    assert all(f"plots/{name}" in text for name in plots.PLOTS)


def test_command_line_writes_it_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    assert report.main(["workspace", "--entity", "someone", "--project", "digits", "--json", str(path)]) == 0
    board = workspace.from_json(path.read_text())
    assert (board.entity, board.project) == ("someone", "digits")


def test_report_has_the_table_and_the_panels_of_its_sweep(tmp_path: Path) -> None:
    """Two runs of a sweep, one finished: their table stands in the report, panels show the sweep's group alone."""
    sweep, path = tmp_path / "delta", tmp_path / "report.json"
    for delta, status in ((1.0, "finished"), (2.0, "failed")):
        (sweep / str(delta) / ".hydra").mkdir(parents=True)
        config = (
            f"seed: 1\nlogger: {{group: delta 2026-01-31}}\nfixing: {{delta_start: {delta}}}\nmethod: {{name: pwfn}}\n"
        )
        config += "model: {name: net}\ndataset: {name: digits}\n"
        (sweep / str(delta) / ".hydra" / "config.yaml").write_text(config)
        summary = {"status": status, "acc1": 98.765, "unique": 99, "entropy": 3.96, "error": "out of memory"}
        (sweep / str(delta) / "summary.json").write_text(json.dumps(summary))
    arguments = ["--entity", "someone", "--project", "digits", "--name", "Reach", "--report", "--json", str(path)]
    assert report.main(["workspace", str(sweep), *arguments]) == 0
    written = json.loads(path.read_text())
    text = json.dumps(written["spec"])
    assert written["displayName"] == "Reach" and "98.77" in text and "out of memory" in text
    assert text.count("delta 2026-01-31") == len(panels.sections())
    assert all(title in text for title in panels.sections())
    assert report.main(["workspace", *arguments]) == 1  # a report is on something


def _without_ids(content: object) -> object:
    """Panels and sections get fresh identifiers whenever they are written."""
    if isinstance(content, dict):
        return {k: _without_ids(v) for k, v in content.items() if k not in ("id", "__id__", "name", "updatedAt")}
    return [_without_ids(entry) for entry in content] if isinstance(content, list) else content

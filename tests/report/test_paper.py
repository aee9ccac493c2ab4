"""The papers' figures from run directories: what is drawn, what is skipped and why."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pwfn.report import __main__ as report
from pwfn.report.paper import FIGURES, draw
from pwfn.rundir.files import write_csv

CONFIG = """
seed: 1
dataset: {{name: digits}}
model: {{name: net}}
method: {{name: {method}}}
prior: {{_target_: pwfn.prior.pow2, scale: 0.0025, largest: 0.05}}
regulariser: {{weight: 0.1, pull: {{_target_: pwfn.regulariser.{pull}}}}}
"""


def write_run(folder: Path, method: str, pull: str, *, whole: bool = True) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(CONFIG.format(method=method, pull=pull))
    summary = {"status": "finished", "method": method, "model": "net", "dataset": "digits", "config_hash": str(folder)}
    (folder / "summary.json").write_text(json.dumps(summary))
    if not whole:
        return folder
    figures = {"sigma_mean": 0.01, "order_0": 0.25, "order_1": 0.75}
    rows = [{"round": t, "fraction": f, "unique_fixed": 3 + t, **figures} for t, f in enumerate((0.5, 1.0))]
    write_csv(folder / "rounds.csv", rows)
    names = {"a.weight": 6, "b.weight": 4, "b.bias": 2}
    write_csv(folder / "layers.csv", [{"layer": k, "weights": n, "entropy": 2.0} for k, n in names.items()])
    write_csv(folder / "codebook.csv", [{"value": 0.5, "count": 12, "order": 1}])
    shapes = {"a.weight": (3, 2), "b.weight": (2, 2), "b.bias": (2,)}
    save_file({k: np.full(s, 0.5, np.float32) for k, s in shapes.items()}, folder / "model.safetensors")
    start = {k: np.linspace(0.3, 0.8, int(np.prod(s)), dtype=np.float32).reshape(s) for k, s in shapes.items()}
    save_file(start, folder / "baseline.safetensors")
    noise = {"noise": [{"scale": 0.1, "acc1": 80.0, "acc1_std": 1.0}]}
    (folder / "evaluation.json").write_text(json.dumps({"baseline": noise, "final": noise}))
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_of_runs_that_have_all(tmp_path: Path) -> None:
    for name, method, pull in (("a", "pwfn", "linear"), ("b", "pwfn", "none"), ("c", "wfn", "none")):
        write_run(tmp_path / "runs" / name, method, pull)
    assert draw([tmp_path / "runs"], tmp_path / "to") == dict.fromkeys(FIGURES)
    assert {p.stem for p in (tmp_path / "to").glob("*.png")} == {p.stem for p in (tmp_path / "to").glob("*.csv")}
    assert [float(r["fraction"]) for r in rows(tmp_path / "to" / "wfn_fraction.csv")] == [0.5, 1.0]
    used = rows(tmp_path / "to" / "wfn_most_used.csv")
    assert [r["layer"] for r in used] == ["all layers", "first: a.weight", "middle: b.weight", "last: b.weight"]
    assert all(float(r["share"]) == 1 for r in used)
    prior = rows(tmp_path / "to" / "pwfn_prior.csv")
    at = min(prior, key=lambda r: abs(float(r["mu"]) - 0.5))
    assert float(at["sigma"]) < 1e-4  # a power of two may not move
    assert len({r["run"] for r in rows(tmp_path / "to" / "pwfn_regulariser.csv")}) == 2


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", "pwfn", "linear", whole=False)
    assert report.main(["paper", str(tmp_path / "run"), "--to", str(tmp_path / "to")]) == 0
    told = capsys.readouterr().out
    assert told.count("skipped:") == len(FIGURES) and "no run has layers.csv" in told
    assert report.main(["paper", str(tmp_path / "to"), "--to", str(tmp_path / "to")]) == 1

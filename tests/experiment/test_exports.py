"""A run says in one sentence what a converter refuses, and is finished all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = [
    *("model=timm", "model._target_=odd.odd", "model.name=odd", "model.pretrained=false", "+model.kwargs.size=32"),
    *("method=apot_round", "baseline.epochs=1", "dataset.limit=100", "evaluation.draws=[1]", "evaluation.noise=[]"),
    *("export.onnx=true", "export.coreml=true", "export.shift_list=true", "logger=csv", "trainer.accelerator=cpu"),
]


def test_a_refused_export_is_one_sentence_and_the_run_is_finished(root: Path, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "coremltools"):
        pytest.importorskip(name, reason="an extra is not installed")
    places = [f"hydra.run.dir={tmp_path / 'run'}", f"baseline.folder={tmp_path / 'baselines'}"]
    path = os.pathsep.join(map(str, [root, root / "tests" / "artifact"]))
    done = subprocess.run(
        [sys.executable, str(root / "launch.py"), *SETTINGS, *places],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    for kind in ("onnx", "coreml"):
        (line,) = [line for line in said.splitlines() if f"export.{kind}=true" in line]
        assert "the layer middle.1 (Odd)" in line and "linalg_matrix_exp" in line
    assert "Traceback" not in said
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"
    assert {"model.pwfn", "shifts.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert not [*(tmp_path / "run").glob("model.onnx*"), *(tmp_path / "run").glob("model.mlpackage*")]

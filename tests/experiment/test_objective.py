"""What an optimising sweeper sees of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwfn.experiment.objective import objective, objective_of
from pwfn.rundir.files import write_csv, write_json

SUMMARY = {"acc1": 90.0, "entropy": 3.5, "unique": 12, "method": "pwfn", "sizes": {"entropy_coded": 100}}
ROWS = [{"acc1_after": "70.0"}, {"acc1_after": "80.5"}]


def test_accuracy_is_that_of_the_last_round_on_validation_images() -> None:
    assert objective(SUMMARY, ROWS, "acc1") == 80.5
    assert objective(SUMMARY, ROWS, ["acc1", "entropy"]) == (80.5, 3.5)
    assert objective(SUMMARY, ROWS, ["sizes.entropy_coded"]) == (100.0,)


def test_the_files_of_a_run_tell_the_same(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", SUMMARY)
    assert objective_of(tmp_path, "entropy") == 3.5
    with pytest.raises(ValueError, match="'acc1'"):
        objective_of(tmp_path, "acc1")
    write_csv(tmp_path / "rounds.csv", ROWS)
    assert objective_of(tmp_path, ["acc1", "entropy"]) == (80.5, 3.5)


@pytest.mark.parametrize("name", ["nothing", "method", "acc5", "sizes", "sizes.nothing"])
def test_what_is_no_figure_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"a run has no figure '{name}': change objective"):
        objective(SUMMARY, ROWS, name)


def test_without_rounds_there_is_no_validation_figure() -> None:
    with pytest.raises(ValueError, match="'acc1'"):
        objective(SUMMARY, [], "acc1")

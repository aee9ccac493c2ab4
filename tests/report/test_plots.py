"""Plots of a run, and the files that they are drawn from."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from pwfn import scope
from pwfn.artifact.rows import codebook_rows, layer_rows
from pwfn.experiment import movement
from pwfn.gaussian import Flat
from pwfn.report import plots, round_plots
from pwfn.report import style as figures
from pwfn.rundir.files import write_rows_of_round


def flat(mu: list[float], sigma: list[float], fixed: list[bool]) -> Flat:
    return Flat(torch.tensor(mu), torch.tensor(sigma), torch.tensor(fixed))


BEFORE = flat([0.3, 0.26, 0.01, 0.5, 0.7], [2**-5, 2**-5, 2**-9, 2**-7, -1.0], [False, False, False, True, False])
AFTER = flat([0.25, 0.25, 0.0, 0.5, 0.7], [2**-6, 2**-6, 2**-30, 2**-7, 2**-3], [True, True, True, True, False])
SIZES = {"a.weight": 1, "b.weight": 4}


def test_movement_known_answer() -> None:
    """Two weights of sigma 2**-5 moved by 0.05 and 0.01; the one that became 0 and the one fixed before do not
    count, and a sigma that the optimizer left below 0 is at the floor."""
    rows = {row["log2_sigma"]: row for row in movement.by_sigma(3, BEFORE, AFTER, {"a": 5})}
    assert sorted(rows) == [-30, -7, -6, -5, -3] and all(row["round"] == 3 for row in rows.values())
    assert (rows[-5]["taken"], rows[-9 if -9 in rows else -7]["taken"]) == (2, 0)
    assert rows[-5]["moved_mean"] == pytest.approx(0.03) and rows[-5]["moved_max"] == pytest.approx(0.05)
    assert [(k, rows[k]["free"], rows[k]["fixed"]) for k in (-30, -7, -6, -3)] == [
        (-30, 0, 1),
        (-7, 0, 1),
        (-6, 0, 2),
        (-3, 1, 0),
    ]


def test_movement_by_tensor() -> None:
    """The weights of the first test in two tensors: the sums over tensors are what that one finds for all."""
    rows = movement.by_sigma(3, BEFORE, AFTER, SIZES)
    taken = {row["layer"]: row["moved_mean"] for row in rows if row["taken"]}
    assert taken == {"a.weight": pytest.approx(0.05), "b.weight": pytest.approx(0.01)}
    assert [(row["layer"], row["log2_sigma"], row["fixed"]) for row in rows if row["fixed"]] == [
        ("a.weight", -6, 1),
        ("b.weight", -30, 1),
        ("b.weight", -7, 1),
        ("b.weight", -6, 1),
    ]
    (merged,) = round_plots._by_round(rows).values()
    whole = movement.by_sigma(3, BEFORE, AFTER, {"all": 5})
    names = ("log2_sigma", "free", "fixed", "taken", "moved_mean", "moved_max")
    assert [[r[k] for k in names] for r in merged] == [[pytest.approx(r[k]) for k in names] for r in whole]
    older = [{k: v for k, v in row.items() if k != "layer"} for row in whole]
    assert round_plots._by_round(older) == {3: older}


def test_movement_without_moves_or_noise() -> None:
    zeros = flat([0.0, 0.4], [2**-4, 2**-4], [True, False])
    rows = movement.by_sigma(0, flat([0.001, 0.4], [2**-4, 2**-4], [False, False]), zeros, {"a": 2})
    assert [(row["log2_sigma"], row["taken"], row["moved_mean"]) for row in rows] == [(-4, 0, 0.0)]
    silent = flat([0.5], [0.0], [True])
    assert movement.by_sigma(0, silent, silent, {"a": 1}) == []


def test_resumed_runs_replace_their_rounds(tmp_path: Path) -> None:
    path = tmp_path / "movement.csv"
    for t in (0, 1, 2, 1):
        write_rows_of_round(path, t, movement.by_sigma(t, BEFORE, AFTER, SIZES))
    with path.open() as file:
        rounds = [int(row["round"]) for row in csv.DictReader(file)]
    assert rounds == sorted(rounds) and set(rounds) == {0, 1} and rounds.count(0) == rounds.count(1) == 7


def test_codebook_and_layers_known_answer() -> None:
    state = {"a": torch.tensor([[0.0, 0.5], [0.75, 0.5]]), "b": torch.tensor([-0.5, 0.5])}
    before = {"a": torch.tensor([[0.0, 0.4], [0.8, 0.6]]), "b": torch.tensor([-0.5, 0.5])}
    assert codebook_rows(state, ["a", "b"]) == [
        {"value": -0.5, "count": 1, "order": 1, "powers": "2^-1"},
        {"value": 0.0, "count": 1, "order": 0, "powers": ""},
        {"value": 0.5, "count": 3, "order": 1, "powers": "2^-1"},
        {"value": 0.75, "count": 1, "order": 2, "powers": "2^-1+2^-2"},
    ]
    first, second = layer_rows(state, before, ["a", "b"])
    assert (first["layer"], first["weights"], first["unique"], first["baseline_unique"]) == ("a", 4, 3, 4)
    assert first["entropy"] == pytest.approx(1.5) and first["sparsity"] == 0.25
    assert (first["order_0"], first["order_1"], first["order_2"]) == (0.25, 0.5, 0.25)
    assert first["moved_rms"] == pytest.approx((0.0225 / 1.16) ** 0.5) and second["moved_rms"] == 0


def test_free_networks_have_no_codebook() -> None:
    assert codebook_rows({"a": torch.arange(70_000.0)}, ["a"]) == []


def test_names_in_scope_are_those_of_the_state_dict() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(3, 4))
    assert scope.names_in_scope(model, scope.conv_linear) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    tied = torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)])
    tied[1].weight = tied[0].weight
    assert scope.names_in_scope(tied, scope.conv_linear) == ["0.weight"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The files of a finished run of two rounds."""
    for t in (0, 1):
        write_rows_of_round(tmp_path / "movement.csv", t, movement.by_sigma(t, BEFORE, AFTER, SIZES))
    state = {"a": torch.tensor([[0.0, 0.5], [0.75, 0.5]])}
    columns: dict[str, Any] = {"acc1_before": 60.0, "acc1_after": 50.0, "unique": 9, "unique_nonzero": 8}
    columns |= {"unique_fixed": 3, "entropy": 2.5, "entropy_nonzero": 2.0}
    rounds = [{"round": t, "fraction": p, **columns} for t, p in enumerate((0.5, 1.0))]
    contents = {
        "rounds": rounds,
        "codebook": codebook_rows(state, ["a"]),
        "layers": layer_rows(state, state, ["a"]),
    }
    for name, rows in contents.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    bins = [{"count": 5.0 * (i > 10), "confidence": i / 20 + 0.02, "accuracy": i / 21} for i in range(20)]
    stage = {"acc1": 50.0, "nll": 1.0, "ece": 0.03, "reliability": bins}
    stage["noise"] = [{"scale": 0.1, "acc1": 45.0, "acc1_std": 1.0}]
    stage["ensemble"] = [{"draws": 1, "acc1": 50.0, "nll": 1.1}, {"draws": 5, "acc1": 51.0, "nll": 1.0}]
    (tmp_path / "evaluation.json").write_text(json.dumps({"baseline": stage, "final": stage}))
    facts = {"model": "resnet20", "dataset": "digits", "method": "pwfn", "baseline_val_acc1": 70.0}
    (tmp_path / "summary.json").write_text(json.dumps({**facts, "baseline_unique": 100, "baseline_entropy": 6.0}))
    return tmp_path


def test_every_plot_is_drawn(run: Path) -> None:
    drawn = plots.draw(run)
    assert set(drawn) == set(plots.PLOTS) and {p.name for p in (run / "plots").iterdir()} == {f"{n}.png" for n in drawn}
    for path in drawn.values():
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert width > 600 and height > 400


@pytest.mark.parametrize("name", list(plots.PLOTS))
def test_axes_are_labelled(run: Path, name: str) -> None:
    figure = plots.PLOTS[name](figures.read(run))
    assert isinstance(figure, Figure)
    lowest = [axes for axes in figure.axes if axes.get_subplotspec().is_last_row()]
    assert lowest and all(axes.get_xlabel() for axes in lowest)
    assert any(axes.get_ylabel() or axes.get_yticklabels() for axes in figure.axes)


def test_figures_are_those_of_the_files(run: Path) -> None:
    """Heights in the codebook are counts, the noise curve begins at the accuracy without noise."""
    files = figures.read(run)
    book = plots.codebook(files)
    assert book is not None
    points = {x: y for line in book.axes[0].lines for x, y in zip(*line.get_data(), strict=True)}
    assert points == {0.0: 1.0, 0.5: 2.0, 0.75: 1.0}
    curve = plots.noise(files)
    assert curve is not None
    assert next(list(line.get_ydata()) for line in curve.axes[0].lines if len(line.get_xdata()) == 2) == [50.0, 45.0]


def test_unfinished_runs_give_what_they_have(run: Path, tmp_path: Path) -> None:
    for name in ("evaluation.json", "codebook.csv", "layers.csv"):
        (run / name).unlink()
    assert set(plots.draw(run)) == {"accuracy", "sharing", "sigma", "movement"}
    assert plots.draw(tmp_path / "nothing") == {}

"""The papers' figures from run directories: what is drawn, what it shows, what is skipped and why."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from pwfn.report import __main__ as report
from pwfn.report import compare
from pwfn.report.figures import additive, huffman, measures, sizes
from pwfn.report.figures.shown import finish, show
from pwfn.report.paper import FIGURES, draw
from pwfn.rundir.files import write_csv

CONFIG = """
seed: {seed}
dataset: {{name: {dataset}, randomise: null}}
model: {{name: resnet18}}
method: {{name: {method}, delta: {delta}, alpha: 0.4, distance: relative}}
scope: {{path: pwfn.scope.conv_linear}}
prior: {{_target_: pwfn.prior.pow2, scale: 0.0025, largest: 0.05}}
regulariser: {{weight: 0.1, pull: {{_target_: pwfn.regulariser.{pull}}}}}
evaluation: {{round_draws: 5}}
"""
SHAPES = {"a.weight": (3, 2), "n.weight": (3,), "n.bias": (3,), "b.weight": (2, 2), "c.weight": (2, 2), "c.bias": (2,)}
SCOPE = ("a.weight", "b.weight", "c.weight", "c.bias")


def write_run(
    folder: Path, method: str, *, pull: str = "linear", delta: str = "null", seed: int = 1, **more: Any
) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    dataset = more.get("dataset", "imagenet")
    config = CONFIG.format(method=method, pull=pull, delta=delta, seed=seed, dataset=dataset)
    (folder / ".hydra" / "config.yaml").write_text(config)
    summary = {"status": "finished", "method": method, "model": "resnet18", "dataset": dataset, "seed": seed}
    summary |= {"config_hash": str(folder), "acc1": 60.0 + seed, "baseline_acc1": 70.0, "unique": 3, "entropy": 2.0}
    summary |= {"sizes": {"entropy_coded": 1000, "float32": 8000}}
    (folder / "summary.json").write_text(json.dumps(summary))
    if not more.get("whole", True):
        return folder
    figures = {"sigma_mean": 0.01 * seed, "order_0": 0.25, "order_1": 0.75, "acc1_before": 50.0}
    figures["ensemble_acc1_before"] = 52.0
    rows = [{"round": t, "fraction": f, "unique_fixed": 3 + t, **figures} for t, f in enumerate((0.5, 1.0))]
    write_csv(folder / "rounds.csv", rows)
    sizes = {name: int(np.prod(SHAPES[name])) for name in SCOPE}
    write_csv(
        folder / "layers.csv",
        [{"layer": k, "weights": n, "entropy": 2.0, "baseline_sigma": 0.01, "sigma": 0.0} for k, n in sizes.items()],
    )
    moved = {"free": 0, "fixed": 4, "moved_max": 0.5}
    octaves = [("a.weight", -5, 3, 0.1), ("a.weight", -4, 1, 0.3), ("b.weight", -30, 4, 0.2), ("c.bias", -3, 0, 0.0)]
    write_csv(
        folder / "movement.csv",
        [
            {"round": 0, "layer": layer, "log2_sigma": k, "taken": taken, "moved_mean": mean, **moved}
            for layer, k, taken, mean in octaves
        ],
    )
    write_csv(folder / "codebook.csv", [{"value": 0.5, "count": 12, "order": 1}])
    state = {k: np.full(s, 0.5, np.float32) for k, s in SHAPES.items()}
    state["b.weight"] = np.array([[0.0, 0.75], [0.75, 0.5]], np.float32)
    state["n.weight"] = np.array([1.1, 1.2, 1.3], np.float32)
    save_file(state, folder / "model.safetensors")
    start = {k: np.linspace(0.3, 0.8, int(np.prod(s)), dtype=np.float32).reshape(s) for k, s in SHAPES.items()}
    save_file(start, folder / "baseline.safetensors")
    taken = [("a", 6, 2), ("b", 1, 0), ("b", 3, 1), ("c", 4, 1), ("c", 2, 1)]
    write_csv(folder / "clusters.csv", [{"round": 0, "pick": 0, "count": n, "order": k} for _, n, k in taken])
    bins = [{"count": 0, "confidence": 0.0, "accuracy": 0.0}, {"count": 9, "confidence": 0.9, "accuracy": 0.8}]
    stage: dict[str, Any] = {"noise": [{"scale": 0.1, "acc1": 80.0, "acc1_std": 1.0}], "reliability": bins}
    stage |= {"acc1": 90.0, "ece": 0.1, "ensemble": [{"draws": 5, "acc1": 91.0}]}
    (folder / "evaluation.json").write_text(json.dumps({"baseline": stage, "final": stage}))
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The figures of eight runs that have all that any figure asks for."""
    at = tmp_path_factory.mktemp("paper")
    for seed in (1, 2):
        write_run(at / "runs" / f"pwfn{seed}", "pwfn", seed=seed)
        write_run(at / "runs" / f"none{seed}", "pwfn", pull="none", seed=seed)
        write_run(at / "runs" / f"wfn{seed}", "wfn", delta="0.01", seed=seed)
    write_run(at / "runs" / "wfn", "wfn", delta="0.02")
    write_run(at / "runs" / "apot", "apot")
    assert draw([at / "runs"], at / "to") == dict.fromkeys(FIGURES)
    return at / "to"


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_of_runs_that_have_all(drawn: Path) -> None:
    assert {p.stem for p in drawn.glob("*.png")} == {p.stem for p in drawn.glob("*.csv")} == set(FIGURES)
    assert [float(r["fraction"]) for r in rows(drawn / "wfn_fraction.csv")] == [0.5, 1.0] * 3
    used = rows(drawn / "wfn_most_used.csv")
    places = ["all layers", "first: a.weight", "middle: b.weight", "last: c.weight"]
    assert list(dict.fromkeys(r["layer"] for r in used)) == places
    assert [(float(r["value"]), float(r["share"])) for r in used[:3]] == [(0.5, 13 / 16), (0.75, 2 / 16), (0.0, 1 / 16)]
    prior = rows(drawn / "pwfn_prior.csv")
    at = min(prior, key=lambda r: abs(float(r["mu"]) - 0.5))
    assert float(at["sigma"]) < 1e-4  # a power of two may not move


def test_runs_are_named_by_what_differs_and_joined_over_seeds(drawn: Path) -> None:
    found = rows(drawn / "pwfn_regulariser.csv")
    assert {r["setting"] for r in found} == {"pwfn regulariser=linear", "pwfn regulariser=none"}
    assert {(r["seed"], float(r["sigma_mean"])) for r in found} == {("1", 0.01), ("2", 0.02)}
    over = {r["delta"]: r for r in rows(drawn / "wfn_settings.csv")}
    assert set(over) == {"0.01", "0.02"} and float(over["0.01"]["acc1"]) == 61.5 and over["0.02"]["runs"] == "1"
    assert float(over["0.01"]["acc1_std"]) == pytest.approx(0.5**0.5) and over["0.02"]["acc1_std"] == ""


def test_movement_of_a_tensor_is_weighted_by_its_weights(drawn: Path) -> None:
    """Three weights of sigma 2**-4.5 moved by 0.1, one of 2**-3.5 by 0.3; the lowest octave is 2**-30 itself."""
    first, second = rows(drawn / "pwfn_movement.csv")
    assert (first["layer"], first["position"], second["layer"], second["position"]) == (
        "a.weight",
        "0",
        "b.weight",
        "1",
    )
    assert float(first["moved"]) == pytest.approx(0.15)
    assert float(first["sigma_taken"]) == pytest.approx((3 * 2**-4.5 + 2**-3.5) / 4)
    assert float(second["sigma_taken"]) == 2**-30


def test_published_figures_stand_below_imagenet_runs(drawn: Path, tmp_path: Path) -> None:
    sources = [r["source"] for r in rows(drawn / "pwfn_table.csv")]
    assert sources.count("measured") == 5 and "published, read; zeros not settled" in sources
    write_run(tmp_path / "run", "pwfn", dataset="digits")
    draw([tmp_path / "run"], tmp_path / "to")
    assert [r["source"] for r in rows(tmp_path / "to" / "pwfn_table.csv")] == ["measured"]


def test_the_ablations_change_one_choice(drawn: Path) -> None:
    found = {r["choice"]: r for r in rows(drawn / "pwfn_ablations.csv")}
    assert set(found) == {"reference", "regulariser"} and found["regulariser"]["runs"] == "2"


def test_comparison_with_apot_known_answer(drawn: Path) -> None:
    """Six weights 0.5, then 0, 0.75, 0.75, 0.5, then six 0.5; of APoT clusters.csv gives the orders."""
    found = {(r["setting"].split()[0], r["weights_of"]): r for r in rows(drawn / "apot.csv")}
    ours, theirs = found["wfn", "conv_linear"], found["apot", "conv_linear"]
    assert float(ours["unique"]) == 3 and float(ours["order_1"]) == 13 / 16
    assert float(ours["huffman"]) == (13 + 2 * 2 + 2) / 16  # words of 1, 2 and 2 bits
    assert float(ours["entropy_by_layer"]) == pytest.approx(4 * 1.5 / 16)
    assert float(ours["energy_pj"]) == pytest.approx((13 * 1 + 2 * 2) / 16 * 0.23)
    assert float(theirs["order_1"]) == 9 / 16 and float(theirs["energy_pj"]) == pytest.approx((12 + 9) / 16 * 0.23)
    inner = found["wfn", "inner"]
    assert float(inner["weights"]) == 4 and float(inner["entropy"]) == 1.5 and float(inner["order_1"]) == 0.25
    whole = found["wfn", "with_norm"]
    assert float(whole["weights"]) == 22 and float(whole["unique"]) == 6 and whole["energy_pj"] == ""


def test_ensembles_by_draws_and_round(drawn: Path) -> None:
    found = [r for r in rows(drawn / "pwfn_ensembles.csv") if r["setting"].startswith("apot")]
    assert [(r["round"], r["draws"], float(r["acc1"])) for r in found] == [
        ("last", "0", 90.0),
        ("last", "5", 91.0),
        ("0.0", "0", 50.0),
        ("0.0", "5", 52.0),
        ("1.0", "0", 50.0),
        ("1.0", "5", 52.0),
    ]


def test_one_legend_names_the_lines_of_both_panels(tmp_path: Path) -> None:
    """The runs with ensembles at their rounds are not the first ones, so that a panel of its own would colour anew."""
    for name, delta in (("a", "0.01"), ("b", "0.02"), ("c", "0.03")):
        write_run(tmp_path / name, "wfn", delta=delta)
    for name in "ab":
        path = tmp_path / name / "rounds.csv"
        write_csv(path, [{k: v for k, v in row.items() if k != "ensemble_acc1_before"} for row in rows(path)])
    figure, _ = measures.ensembles(show(compare.find([tmp_path])))
    last, rounds = figure.axes
    colours = [line.get_color() for line in last.lines]
    legend = rounds.get_legend()
    assert len(set(colours)) == 3 and legend is not None and last.get_legend() is None
    assert [line.get_color() for line in legend.get_lines()] == colours
    (drawn,) = [line for line in rounds.lines if len(line.get_xdata())]
    assert drawn.get_color() == colours[2]


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", "pwfn", whole=False)
    assert report.main(["paper", str(tmp_path / "run"), "--to", str(tmp_path / "to")]) == 0
    told = capsys.readouterr().out
    assert told.count("skipped:") == len(FIGURES) - 2 and "no run has layers.csv" in told
    assert {p.name for p in (tmp_path / "to").iterdir()} == {
        f"{name}.{kind}" for name in ("accuracy_size", "pwfn_table") for kind in ("png", "csv")
    }
    assert report.main(["paper", str(tmp_path / "to"), "--to", str(tmp_path / "to")]) == 1


def test_runs_of_earlier_versions_have_movement_over_all_layers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "pwfn")
    older = [{k: v for k, v in row.items() if k != "layer"} for row in rows(run / "movement.csv")]
    write_csv(run / "movement.csv", older)
    assert "movement.csv by layer" in str(draw([tmp_path / "run"], tmp_path / "to")["pwfn_movement"])
    write_run(tmp_path / "same but seed", "pwfn", seed=2)
    assert draw([tmp_path / "run", tmp_path / "same but seed"], tmp_path / "to")["pwfn_movement"] is None


def test_a_table_of_many_settings_stays_on_its_page(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, "wfn") for name in "abc"]
    for run in runs:
        path = run / ".hydra" / "config.yaml"
        path.write_text(path.read_text().replace("conv_linear", " ".join([run.name * 9] * 30)))
    figure, _ = sizes.main_table(show(compare.find(runs)))
    renderer = FigureCanvasAgg(figure).get_renderer()
    (table,) = figure.axes[0].tables
    box, page = table.get_window_extent(renderer), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    for cell in table.get_celld().values():  # and every text in its cell
        text, frame = cell.get_text().get_window_extent(renderer), cell.get_window_extent(renderer)
        assert text.width <= frame.width and text.height <= frame.height


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40))
def test_huffman_is_within_a_bit_of_the_entropy(counts: list[int]) -> None:
    bound, total = additive._entropy(np.array(counts)), sum(counts)
    assert bound - 1e-6 <= huffman.bits(counts) < bound + total


@pytest.mark.parametrize(("value", "order"), [(0.0, 0), (-0.5, 1), (0.75, 2), (-0.875, 3), (2.0**-30, 1)])
def test_orders_of_values(value: float, order: int) -> None:
    assert additive._order(np.array([value], np.float32)).tolist() == [order]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_long_legend_stays_on_its_page(rows: int) -> None:
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for axes in panels:
        for i in range(30):
            axes.plot([0, 1], [0, i], label=f"a setting whose name is longer than a line of the legend {i}")
        finish(axes, "x", "y")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that is given up
        FigureCanvasAgg(figure).draw()
    for axes in panels:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y0 >= 0 and legend.get_window_extent().y1 <= figure.bbox.height
        assert axes.get_window_extent().height > figure.bbox.height / (2 * rows)

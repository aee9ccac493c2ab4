"""Comparison of runs from their directories alone: table, plots, page, command line."""

from __future__ import annotations

import base64
import csv
import json
import os
import pty
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pwfn.report import __main__ as report
from pwfn.report import compare, console, tables
from pwfn.report.pareto import front, pareto
from pwfn.report.published import IMAGENET
from pwfn.rundir.files import file_digest

CONFIG = """
name: ${{model.name}}-{dataset}
seed: {seed}
dataset: {{name: {dataset}, workers: {seed}, batch_size: 64}}
model: {{_target_: timm.create_model, name: {model}, pretrained: false}}
method: {{name: {method}, assign: {{_target_: pwfn.method.{method}}}}}
prior: {prior}
fixing: {{delta_start: {delta}, delta_end: 1.0, max_unique: null}}
baseline: {{epochs: 10, folder: elsewhere/{seed}}}
logger: {{project: pwfn{seed}}}
"""
POW2 = "{_target_: pwfn.prior.pow2, scale: 0.0025}"
CONSTANT = "{_target_: pwfn.prior.constant, sigma: 0.0001}"


def write_run(
    folder: Path,
    acc1: float | None = 90.0,
    *,
    seed: int = 1,
    dataset: str = "digits",
    model: str = "resnet10t",
    method: str = "pwfn",
    prior: str = POW2,
    delta: float = 1.0,
    status: str = "finished",
    extra: dict[str, Any] | None = None,
) -> Path:
    """A run directory with the files that comparing reads."""
    (folder / ".hydra").mkdir(parents=True)
    settings = {"seed": seed, "dataset": dataset, "model": model, "method": method, "prior": prior, "delta": delta}
    (folder / ".hydra" / "config.yaml").write_text(CONFIG.format(**settings))
    digest = f"{abs(hash(tuple(settings.values()))):x}"
    summary: dict[str, Any] = {"status": status, "config_hash": digest, "seed": seed, "method": method}
    summary |= {"model": model, "dataset": dataset, "versions": {"pwfn": "0.1.0"}}
    if acc1 is not None:
        summary |= {"acc1": acc1, "baseline_acc1": 91.0, "unique": 100, "unique_nonzero": 99}
        summary |= {"entropy": 4.0, "entropy_nonzero": 3.5, "sparsity": 0.25}
        summary["sizes"] = {"entropy_coded": 2_500_000, "ratio_float32": 8.0}
    (folder / "summary.json").write_text(json.dumps({**summary, **(extra or {})}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two priors with three seeds each, one failed run, one that never got far, one half-written summary."""
    for seed, acc1 in ((1, 90.0), (2, 91.0), (3, 92.0)):
        write_run(tmp_path / "sweep" / f"pow2-{seed}", acc1, seed=seed)
        write_run(tmp_path / "sweep" / f"constant-{seed}", acc1 - 10, seed=seed, prior=CONSTANT)
    write_run(tmp_path / "broken", None, status="failed", extra={"error": "ValueError: <no | data>"})
    started = write_run(tmp_path / "started", None, status="running")
    (started / "rounds.csv").write_text("round,acc1_after\n0,50\n1,60\n")
    (write_run(tmp_path / "cut") / "summary.json").write_text('{"status": "fini')
    return tmp_path


def test_every_run_is_found(runs: Path) -> None:
    found = compare.find([runs / "sweep", runs])
    assert [run.status for run in found].count("finished") == 6 and len(found) == 9
    rest = {run.folder.name: run for run in found if run.status != "finished"}
    assert rest["broken"].status == "failed" and rest["started"].status == rest["cut"].status == "unfinished"
    assert rest["started"].rounds == 2
    assert "summary.json cannot be read" in rest["cut"].summary["error"]


def test_what_wandb_keeps_of_a_run_is_no_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "sweep" / "wandb" / "run")  # a name that a folder of runs may have, too
    copy = run / "wandb" / "offline-run-20260131_120000-0a1b2c3d" / "files"
    copy.mkdir(parents=True)
    shutil.copy(run / "summary.json", copy)
    assert [found.folder for found in compare.find([tmp_path])] == [run]


def test_swept_settings(runs: Path) -> None:
    """The prior, by its choice and not by its arguments; neither seed, paths, workers nor logging."""
    finished = [run for run in compare.find([runs]) if run.status == "finished"]
    keys = compare.swept(finished)
    assert keys == ["dataset.name", "model.name", "method.name", "prior._target_"]
    assert list(map(tables.heading, keys)) == ["dataset", "model", "method", "prior"]
    assert {run.setting("prior._target_") for run in finished} == {"pow2", "constant"}


def test_swept_number_and_arguments_of_one_choice(tmp_path: Path) -> None:
    write_run(tmp_path / "a", delta=1.0)
    write_run(tmp_path / "b", delta=2.0)
    write_run(tmp_path / "c", delta=2.0, prior=POW2.replace("0.0025", "0.01"))
    keys = compare.swept(compare.find([tmp_path]))
    assert keys[3:] == ["prior.scale", "fixing.delta_start"]


def test_interpolations_are_the_settings_they_stand_for(tmp_path: Path) -> None:
    """A sweep writes its runs' settings resolved, a single run as interpolations: both are the same setting."""
    for folder, growth in (("single", "${fixing.delta_start}"), ("swept", "2.0")):
        path = write_run(tmp_path / folder, delta=2.0) / ".hydra" / "config.yaml"
        extra = f"assign: {{delta_start: '{growth}', here: '${{now:}}', "
        path.write_text(path.read_text().replace("assign: {", extra))
    write_run(tmp_path / "other", delta=1.0)
    found = compare.find([tmp_path])
    assert compare.swept(found)[3:] == ["fixing.delta_start"]
    single = next(run for run in found if run.folder.name == "single")
    assert single.setting("method.assign.delta_start") == "2.0" and single.setting("method.assign.here") == "null"


def test_tags_of_weights_stay(tmp_path: Path) -> None:
    (run,) = compare.find([write_run(tmp_path / "a", model="resnet18.tv_in1k")])
    assert run.setting("model.name") == "resnet18.tv_in1k"


def test_a_setting_that_one_version_lacks_is_not_swept(tmp_path: Path) -> None:
    write_run(tmp_path / "new")
    old = write_run(tmp_path / "old", seed=2) / ".hydra" / "config.yaml"
    old.write_text(re.sub(r", max_unique: null", "", old.read_text()))
    assert len(compare.swept(compare.find([tmp_path]))) == 3


def test_mean_and_spread(runs: Path) -> None:
    """80, 81, 82 and 90, 91, 92: means 81 and 91, sample standard deviation 1."""
    finished = [run for run in compare.find([runs]) if run.status == "finished"]
    groups = compare.grouped(finished, compare.swept(finished))
    assert [(g.settings["prior._target_"], g.figure("acc1"), len(g.runs)) for g in groups] == [
        ("constant", (81.0, 1.0), 3),
        ("pow2", (91.0, 1.0), 3),
    ]
    (alone,) = compare.grouped(finished[:1], compare.swept(finished))
    assert alone.figure("acc1") == (80.0, 0.0) and alone.figure("missing") is None


def test_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    for delta in (10.0, 2.0, 0.5):
        write_run(tmp_path / str(delta), delta=delta)
    found = compare.find([tmp_path])
    groups = compare.grouped(found, compare.swept(found))
    assert [group.settings["fixing.delta_start"] for group in groups] == ["0.5", "2.0", "10.0"]


def test_repeated_runs_count_once(tmp_path: Path) -> None:
    old, new = write_run(tmp_path / "old", 80.0), write_run(tmp_path / "new", 90.0)
    os.utime(old / "summary.json", (1, 1))
    kept, again = compare.repeated(compare.find([tmp_path]))
    assert [run.folder for run in kept] == [new.resolve()] and [run.folder for run in again] == [old.resolve()]


def test_command_line(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--csv", f"{out}/a.csv", "--markdown", f"{out}/a.md", "--plots", f"{out}/p", "--html", f"{out}/a.html"]
    assert report.main(["compare", str(runs), *options]) == 0
    said = capsys.readouterr().out
    assert "9 runs: 6 finished in 2 settings, 3 not finished" in said and "no | data" in said
    rows = list(csv.DictReader((out / "a.csv").open()))
    assert [(row["prior"], float(row["acc1"]), float(row["acc1_std"]), row["runs"]) for row in rows] == [
        ("constant", 81.0, 1.0, "3"),
        ("pow2", 91.0, 1.0, "3"),
    ]
    assert float(rows[0]["entropy_coded"]) == 2_500_000
    table = (out / "a.md").read_text()
    assert "| pow2 | 3 | 91.00 ± 0.00 | 91.00 ± 1.00 |" in table and "| 2.500 ± 0.000 |" in table
    assert "no \\| data" in table
    assert (out / "p" / "pareto-digits.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in re.sub(r"base64,[^\"]*", "", (out / "a.html").read_text())


def test_brief_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row says what is unlike in most rows, under columns of the figures asked for."""
    write_run(tmp_path / "runs/usual", 90.0)
    write_run(tmp_path / "runs/prior", 80.0, prior=CONSTANT)
    write_run(tmp_path / "runs/both", 70.0, prior=CONSTANT, delta=2.0)
    write_run(tmp_path / "runs/reach", 60.0, delta=2.0)
    write_run(tmp_path / "runs/further", 55.0, delta=1.0, method="wfn")
    write_run(tmp_path / "runs/again", 90.0, seed=2)
    chosen = ["--brief", "--figures", "entropy", "acc1", "--markdown", str(tmp_path / "runs.md")]
    assert report.main(["compare", str(tmp_path / "runs"), *chosen]) == 0
    rows = [line.strip("| ").split(" | ") for line in (tmp_path / "runs.md").read_text().splitlines()]
    assert rows[0] == ["method", "unlike most", "runs", "entropy, bits", "top-1 %"]
    assert {tuple(row[:2]): row[-1] for row in rows[2:]} == {
        ("pwfn", "–"): "90.00 ± 0.00",
        ("pwfn", "prior=constant"): "80.00",
        ("pwfn", "prior=constant delta_start=2.0"): "70.00",
        ("pwfn", "delta_start=2.0"): "60.00",
        ("wfn", "–"): "55.00",
    }
    with pytest.raises(SystemExit):
        report.main(["compare", str(tmp_path), "--figures", "beauty"])
    assert "beauty" in capsys.readouterr().err


def test_narrow_terminals_cut_nothing(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert report.main(["compare", str(runs)]) == 0
    assert "91.00 ± 1.00" in (said := capsys.readouterr().out) and "…" not in said


def test_a_terminal_of_80_columns_shows_all(runs: Path) -> None:
    """On a real terminal the figures go on below instead of wrapping."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pwfn.report", "compare", str(runs)]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # Linux's way to say that the other end is closed
        while part := os.read(ours, 4096):
            said += part
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text and "91.00 ± 1.00" in text and "entropy" in text


def test_a_configuration_that_was_changed_is_told(tmp_path: Path) -> None:
    for name, honest in (("a", True), ("b", False)):
        folder = write_run(tmp_path / name, extra={"config_digest": ""})
        summary = json.loads((folder / "summary.json").read_text())
        summary["config_digest"] = file_digest(folder / ".hydra" / "config.yaml")
        (folder / "summary.json").write_text(json.dumps(summary))
        if not honest:
            (folder / ".hydra" / "config.yaml").write_text(CONFIG.format(
                seed=9, dataset="digits", model="resnet10t", method="pwfn", prior=POW2, delta=1.0
            ))  # fmt: skip
    found = {run.folder.name: run for run in compare.find([tmp_path])}
    assert found["a"].status == "finished"
    assert found["b"].status == "failed" and "has been changed since the run" in found["b"].summary["error"]


def test_mistakes_are_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["compare", str(tmp_path / "nowhere")]) == 1
    assert report.main(["compare", str(tmp_path)]) == 1
    assert report.main(["run", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.replace("\n", " ")
    assert "no folder" in lines and "no runs below" in lines and "holds no run" in lines


def test_ctrl_c(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*of: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pwfn.report.__main__.compared", interrupted)
    assert report.main(["compare", str(runs)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_table_of_rounds_fits_a_terminal() -> None:
    assert len(console.HEADER) == 80


def test_front() -> None:
    """(2, 70) beats (3, 69) in both and (2, 60) at the same cost."""
    assert front([(3, 69), (1, 50), (2, 70), (2, 60), (5, 71)]) == [(1, 50), (2, 70), (5, 71)]
    assert front([]) == []


def test_published_points_are_overlaid_for_imagenet(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 70.0, dataset="imagenet", model="resnet18.tv_in1k")
    write_run(tmp_path / "b", 80.0)
    found = compare.find([tmp_path])
    groups = compare.grouped(found, compare.swept(found))
    entropy, size, unique = pareto(groups, "imagenet").axes
    read = sum(point.entropy is not None for point in IMAGENET)
    plotted = [
        sum(line.get_marker() not in ("None", "_", "|", "") for line in axes.lines) for axes in (entropy, size, unique)
    ]
    assert plotted == [1 + read, 1, 1 + len(IMAGENET)]
    assert {point.source for point in IMAGENET if point.method == "wfn"} == {"read"}
    assert {point.source for point in IMAGENET if point.method == "pwfn"} == {"remembered"}
    labels = [text.get_text() for text in pareto(groups, "imagenet").legends[0].get_texts()]
    assert "published, read" in labels and "published, remembered" in labels and "resnet18" in labels
    assert "published, read" not in [t.get_text() for t in pareto(groups, "digits").legends[0].get_texts()]


def test_what_lost_everything_stands_on_the_lower_edge(tmp_path: Path) -> None:
    """One ruined network must not squeeze the others into a line."""
    write_run(tmp_path / "good", 90.5)
    write_run(tmp_path / "less", 89.5, prior=CONSTANT)
    write_run(tmp_path / "ruined", 12.0, method="apot_round")
    found = compare.find([tmp_path])
    for axes in pareto(compare.grouped(found, compare.swept(found)), "digits").axes:
        low, high = axes.get_ylim()
        assert 80 < low <= 81.0 and high < 95  # the baseline is 91
        assert [text.get_text() for text in axes.texts] == ["12 %"]


def test_training_without_sharing_is_a_line(tmp_path: Path) -> None:
    """A million different weights are no point on an axis of costs."""
    write_run(tmp_path / "pwfn", 90.5)
    write_run(tmp_path / "floating", 91.5, method="floating")
    found = compare.find([tmp_path])
    for axes in pareto(compare.grouped(found, compare.swept(found)), "digits").axes:
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert [list(line.get_ydata()) for line in dotted] == [[91.5, 91.5]]
        assert sum(line.get_marker() == "o" for line in axes.lines) == 1


class Browser:
    """A headless Chromium, spoken to through its WebDriver."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,1000",
        ]
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": options},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        answer = self._ask("/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.address += f"/session/{answer['sessionId']}"

    def open(self, path: Path) -> None:
        self._ask("/url", {"url": path.as_uri()})

    def run(self, script: str) -> Any:
        return self._ask("/execute/sync", {"script": script, "args": []})

    def click(self, selector: str) -> None:
        found = self._ask("/element", {"using": "css selector", "value": selector})
        self._ask(f"/element/{next(iter(found.values()))}/click", {})

    def errors(self) -> list[Any]:
        return [entry for entry in self._ask("/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        with urllib.request.urlopen(f"{self.address}/screenshot", timeout=60) as answer:
            path.write_bytes(base64.b64decode(json.load(answer)["value"]))

    def close(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self.address, method="DELETE"), timeout=60).close()

    def _ask(self, path: str, content: dict[str, Any]) -> Any:
        request = urllib.request.Request(self.address + path, json.dumps(content).encode())
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no chromium with chromedriver: apt-get install chromium chromium-driver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        opened = Browser(port)
        yield opened
        opened.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_page_in_a_browser(runs: Path, tmp_path: Path, browser: Browser) -> None:
    """The page shows the table, sorts it at a click, both ways and by value, shows its plot, and has no errors."""
    for number, acc1 in enumerate((9.5, 100.0)):
        write_run(runs / "more" / str(number), acc1, delta=number + 2.0, extra={"unique": (1_000_000, 99)[number]})
    path = tmp_path / "runs.html"
    assert report.main(["compare", str(runs), "--html", str(path)]) == 0
    browser.open(path)
    head = browser.run("return [...document.querySelectorAll('table.sortable th')].map(e => e.textContent)")
    assert head[:2] == ["prior", "fixing.delta_start"] and "top-1 %" in head
    assert "digits · resnet10t · pwfn" in browser.run("return document.title")
    column = head.index("top-1 %")

    def cells(i: int) -> list[float]:
        script = f"return [...document.querySelectorAll('table.sortable tbody tr')].map(e => e.cells[{i}].textContent)"
        return [float(text.split("±")[0].replace(",", "")) for text in browser.run(script)]

    assert sorted(cells(column)) == [9.5, 81.0, 91.0, 100.0]
    browser.click(f"table.sortable th:nth-child({column + 1}) button")
    assert cells(column) == [9.5, 81.0, 91.0, 100.0]
    browser.click(f"table.sortable th:nth-child({column + 1}) button")
    assert cells(column) == [100.0, 91.0, 81.0, 9.5]
    unique = head.index("unique")
    browser.click(f"table.sortable th:nth-child({unique + 1}) button")
    assert cells(unique) == [99, 100, 100, 1_000_000]
    assert browser.run("return document.querySelectorAll('th[aria-sort]').length") == 1
    images = browser.run("return [...document.images].map(e => e.complete && e.naturalWidth)")
    assert len(images) == 1 and all(width > 500 for width in images)
    assert "<no | data>" in browser.run("return document.body.innerText")
    assert (
        browser.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )
    assert browser.errors() == []
    shot = tmp_path / "page.png"
    browser.screenshot(shot)
    width, height = struct.unpack(">II", shot.read_bytes()[16:24])
    assert width > 1000 and height > 500

"""A search by Optuna: its grammar, and four real trials with two objectives, the last two by resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import CompactHydraException
from sweep import SLURM

optuna = pytest.importorskip("optuna", reason="the extra `search` is not installed")

SETTINGS = [
    "hydra/sweeper=optuna",
    "model.name=test_resnet",
    "baseline.epochs=1",
    "dataset.limit=200",
    "fixing.fractions=[0.5,1.0]",
    "evaluation.draws=[1]",
    "evaluation.noise=[]",
    "logger=csv",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "objective=[acc1,entropy]",
    "hydra.sweeper.directions=[maximize,minimize]",
    "fixing.delta_start=tag(log,interval(0.5,4.0))",
    "prior=pow2,constant",
    "+dataset.train_transform._target_=waiting.Waiting",
]
STUDY = "maximize acc1 minimize entropy"


def command(root: Path, place: Path, *arguments: str) -> dict[str, Any]:
    """A search in ``place``, as arguments of ``subprocess``."""
    places = [f"hydra.sweep.dir={place / 'sweep'}", f"baseline.folder={place / 'baselines'}"]
    places += [f"+dataset.train_transform.until='',{place / 'go'}"]
    path = os.pathsep.join(map(str, [root, root / "pwfn" / "plugins", Path(__file__).parent]))
    return {
        "args": [sys.executable, str(root / "launch.py"), "-m", *SETTINGS, *places, *arguments],
        "env": {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        "text": True,
        "stderr": subprocess.PIPE,
    }


def study_in(place: Path) -> Any:
    """The study of the search in ``place``."""
    (place / "sweep").mkdir(exist_ok=True)
    storage, directions = f"sqlite:///{place / 'sweep' / 'search.db'}", ["maximize", "minimize"]
    return optuna.create_study(study_name=STUDY, storage=storage, directions=directions, load_if_exists=True)


def goes_on_without_the_slow_one(
    root: Path, place: Path, *launcher: str, until: str, free: Callable[[Sequence[Any]], None]
) -> None:
    """Two trials at a time, three to finish: the first waits until the other two have been told.

    ``until`` is the file that it waits for; ``free`` lets those of some trials go on that wait in a queue.
    """
    study = study_in(place)
    for waits_for, delta in ((until, 1.0), ("''", 2.0), ("''", 3.0)):
        values = {"+dataset.train_transform.until": waits_for, "fixing.delta_start": delta, "prior": "pow2"}
        study.enqueue_trial(values)
    process = subprocess.Popen(**command(root, place, "hydra.sweeper.trials=3", "hydra.sweeper.batch=2", *launcher))
    try:
        end = time.monotonic() + 300
        while (states := [trial.state.name for trial in study.trials])[1:] != ["COMPLETE", "COMPLETE"]:
            assert time.monotonic() < end and process.poll() is None, states
            free(study.trials[1:])
            time.sleep(0.5)
        assert states[0] == "RUNNING"
        (place / "go").touch()
        free(study.trials)
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said[-3000:]
    finally:
        (place / "go").touch()
        process.kill()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert len([*(place / "sweep" / ".submitit").glob("code-*")]) == 1


def test_two_objectives_searched_and_resumed(root: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    wait = str(tmp_path / "go")
    goes_on_without_the_slow_one(root, tmp_path, "hydra.launcher.parallel=2", until=wait, free=lambda trials: None)
    study = study_in(tmp_path)
    killed = study.ask(study.trials[0].distributions)  # as a killed process leaves it
    killed.set_user_attr("sweep", str(sweep))

    more = ["hydra.sweeper.trials=4", "hydra.sweeper.batch=2", "hydra.launcher.parallel=2"]
    done = subprocess.run(**command(root, tmp_path, *more), timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    trials = study.trials
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(finished) == 4 and [trial.state.name for trial in trials].count("FAIL") == 1
    assert killed.params in [trial.params for trial in finished]
    for trial in finished:
        folder = sweep / trial.user_attrs["folder"]
        summary = json.loads((folder / "summary.json").read_text())
        last = (folder / "rounds.csv").read_text().splitlines()
        accuracy = dict(zip(last[0].split(","), last[-1].split(","), strict=True))["acc1_after"]
        assert trial.values == [float(accuracy), summary["entropy"]]
        assert 0.5 <= trial.params["fixing.delta_start"] <= 4 and trial.params["prior"] in ("pow2", "constant")
    best = json.loads((sweep / "search.json").read_text())
    assert best["objective"] == ["acc1", "entropy"] and 1 <= len(best["best"]) <= 4


@pytest.mark.slurm
def test_on_slurm_the_study_does_not_wait_for_the_slowest_job(root: Path, tmp_path: Path) -> None:
    """Jobs are held in the queue, that of the first trial until the others have been told."""

    def free(trials: Sequence[Any]) -> None:
        listed = tmp_path / "sweep" / "jobs.jsonl"
        entries = map(json.loads, listed.read_text().splitlines() if listed.exists() else [])
        jobs = {entry["folder"]: entry["job"] for entry in entries}
        for job in filter(None, (jobs.get(trial.user_attrs.get("folder")) for trial in trials)):
            subprocess.run(["scontrol", "release", job], capture_output=True)  # refused once it runs

    hold = "+hydra.launcher.additional_parameters.hold=true"
    goes_on_without_the_slow_one(root, tmp_path, *SLURM, hold, until="''", free=free)


def test_processes_that_share_a_study_draw_different_trials(tmp_path: Path) -> None:
    from hydra_plugins.pwfn_optuna.sweeper import OptunaSweeper

    def first_draw(folder: str, storage: str | None, trials: int = 0) -> float:
        sweeper = OptunaSweeper(["maximize"], 1, 1, storage, None, 1, None)
        sweeper.folder = tmp_path / folder
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=sweeper._seed(trials)))
        return float(study.ask().suggest_float("x", 0, 1))

    shared = f"sqlite:///{tmp_path / 'shared.db'}"
    assert len({first_draw("a", shared), first_draw("b", shared), first_draw("a", shared, 1)}) == 3
    assert first_draw("a", shared) == first_draw("a", shared)
    assert first_draw("a", None) == first_draw("b", None) != first_draw("a", None, 1)


def test_grammar() -> None:
    from hydra_plugins.pwfn_optuna._space import overrides_of, search_space

    arguments = [
        "a=1,2",
        "b=int(interval(1,4))",
        "c=tag(log,interval(0.1,1))",
        "d=range(1,5)",
        "e=x",
        "f=[1,2],[3]",
        "g=[1]",
    ]
    space, fixed = search_space(arguments)
    assert fixed == ["e=x", "g=[1]"]
    assert space["a"].choices == ("1", "2") and space["f"].choices == ("[1,2]", "[3]")
    assert (space["b"].low, space["b"].high) == (1, 4) and isinstance(space["b"], optuna.distributions.IntDistribution)
    assert space["c"].log and (space["d"].low, space["d"].high) == (1, 4)
    assert overrides_of({"a": "[1,2]", "c": 1e-05}) == ["a=[1,2]", "c=1e-05"]
    with pytest.raises(CompactHydraException, match="a search varies something"):
        search_space(["e=x"])


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("hydra.sweeper.directions=[maximize]", "2 directions"),
        ("hydra/launcher=slurm hydra.launcher.detach=true", "optimising sweeper"),
        ("hydra/launcher=basic", "set hydra/launcher=local, or slurm"),
    ],
)
def test_mistakes_are_one_sentence(argument: str, said: str, root: Path, tmp_path: Path) -> None:
    done = subprocess.run(**command(root, tmp_path, *argument.split()), timeout=200)
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()

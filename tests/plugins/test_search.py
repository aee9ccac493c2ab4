"""A search by Optuna: its grammar, and four real trials with two objectives, the last two by resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import CompactHydraException

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
]


def search(root: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = [f"hydra.sweep.dir={place / 'sweep'}", f"baseline.folder={place / 'baselines'}"]
    return subprocess.run(
        [sys.executable, str(root / "launch.py"), "-m", *SETTINGS, *places, *arguments],
        capture_output=True,
        text=True,
        timeout=580,
        env={**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
    )


def test_two_objectives_searched_and_resumed(root: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    done = search(root, tmp_path, "hydra.sweeper.trials=2", "hydra.sweeper.batch=2", "hydra.launcher.parallel=2")
    assert done.returncode == 0, done.stderr[-3000:]
    (study,) = optuna.get_all_study_names(f"sqlite:///{sweep / 'search.db'}")
    before = optuna.load_study(study_name=study, storage=f"sqlite:///{sweep / 'search.db'}")
    killed = before.ask(before.trials[0].distributions)  # as a killed process leaves it
    killed.set_user_attr("sweep", str(sweep))

    done = search(root, tmp_path, "hydra.sweeper.trials=4", "hydra.sweeper.batch=2", "hydra.launcher.parallel=2")
    assert done.returncode == 0, done.stderr[-3000:]
    trials = optuna.load_study(study_name=study, storage=f"sqlite:///{sweep / 'search.db'}").trials
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
    ],
)
def test_mistakes_are_one_sentence(argument: str, said: str, root: Path, tmp_path: Path) -> None:
    done = search(root, tmp_path, *argument.split())
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()

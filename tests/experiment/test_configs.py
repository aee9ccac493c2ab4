"""Every configuration composes, and mistakes are answered in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pwfn.experiment.build import sentence
from pwfn.experiment.prepare import prepare
from pwfn.experiment.start import baseline_of

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {
    group.name: sorted(p.stem for p in group.glob("*.yaml"))
    for group in (ROOT / "conf").iterdir()
    if group.is_dir() and group.name not in ("experiment", "hydra", "sweeps")
}
OPTIONS = [f"{group}={option}" for group, options in GROUPS.items() for option in options]
EXPERIMENTS = sorted(
    str(p.relative_to(ROOT / "conf" / "experiment").with_suffix(""))
    for p in (ROOT / "conf" / "experiment").rglob("*.yaml")
)


@pytest.fixture(autouse=True)
def resolvers() -> None:
    OmegaConf.register_new_resolver("root", lambda: str(ROOT), replace=True)
    OmegaConf.register_new_resolver("run_name", lambda: "run", replace=True)
    OmegaConf.register_new_resolver("sweep_name", lambda: "sweep", replace=True)


@pytest.mark.parametrize("option", OPTIONS + [f"experiment={name}" for name in EXPERIMENTS])
def test_composes_and_resolves(option: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", [option])
    for group in ("method", "fixing", "regulariser", "prior", "sigma_join", "scope", "optimizer", "trainer"):
        OmegaConf.to_container(cfg[group], resolve=True)
    instantiate(cfg.method.rounds)
    for choice in (cfg.sigma_join, cfg.scope, cfg.regulariser.pull, cfg.method.assign):
        assert callable(instantiate(choice))
    prior = instantiate(cfg.prior)
    assert callable(prior) or callable(prior.sigmas)


def test_the_default_is_the_paper_but_for_its_length() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        quick, paper = compose("config"), compose("config", ["fixing=paper"])
    changed = {key for key in paper.fixing if paper.fixing[key] != quick.fixing[key] and key != "rounds"}
    assert changed == {"rest_epochs"}
    assert paper.fixing.rest_epochs == 3 and paper.fixing.first_epochs == 1 and paper.fixing.first_fraction == 0.05
    assert paper.fixing.min_exponent == -7 and paper.fixing.growth == 2 and paper.fixing.zero_fix
    assert paper.regulariser.weight == 2**-11 and paper.optimizer.lr == 1e-3
    assert paper.trainer.gradient_clip_val == 1


MISTAKES = [
    ("fixing.fractions=[0.5,0.2,1.0]", "fixing.fractions"),
    ("fixing.fractions=[0.5,0.9]", "fixing.fractions"),
    ("fixing.growth=0.5", "growth"),
    ("fixing.min_exponent=9", "min_exponent"),
    ("fixing.delta_start=0", "delta"),
    ("model.name=resnet1", "resnet18"),
    ("dataset=folder dataset.root=/nowhere", "/nowhere"),
    ("model.checkpoint=/nowhere.safetensors", "model.checkpoint"),
    ("baseline.epochs=0", "baseline.epochs"),
    ("regulariser.weight=-1", "regulariser.weight"),
    ("method=wfn method.delta=-1", "delta"),
    ("checkpoint.minutes=0", "checkpoint.minutes"),
    ("prior=constant prior.sigma=0", "prior.sigma"),
    ("optimizer.momentum=-1", "optimizer.momentum must"),
    ("optimizer=adam +optimizer.betas=[2,0.9]", "optimizer: Invalid beta"),
    ("model.pretrained=maybe", "model.pretrained must be true or false"),
    ("evaluation.draws=[0]", "evaluation.draws must be a list"),
    ("evaluation.noise=[nan]", "evaluation.noise must be a list"),
    ("optimizer.lr=nan", "optimizer.lr must"),
    ("optimizer.lr=inf", "optimizer.lr must"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay must"),
    ("seed=4294967296", "seed must"),
    ("trainer.accumulate_grad_batches=1.5", "trainer.accumulate_grad_batches must"),
    ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must"),
    ("trainer.devices=0", "trainer.devices must"),
    ("dataset.eval_batch_size=-1", "dataset.eval_batch_size must"),
    ("dataset.augmentation.hflip=5", "dataset.augmentation.hflip must"),
    ("prior.scale=-1", "prior.scale must"),
    ("prior.largest=inf", "prior.largest must"),
    ("method=rate_distortion method.bits=0", "method.bits must"),
    ("method=rate_distortion method.max_unique=0", "method.max_unique must"),
    ("method=rate_distortion fixing.straight_through.ramp=0.9 fixing.straight_through.freeze=0.5", "ramp and freeze"),
    ("method=apot method.bits=6", "method.bits must be one of 2, 3, 4, 5, got 6"),
    ("method=apot method.edge_bits=1", "method.edge_bits must be a whole number from 2 to 16"),
    ("method=apot fixing=post_training", "leave fixing=post_training out"),
    ("evaluation.round_draws=-1", "evaluation.round_draws must"),
    ("distillation.weight=2", "distillation.weight must"),
    ("fixing=post_training", "needs method=rate_distortion"),
    ("baseline.optimizer.lr=-1", "baseline.optimizer.lr must"),
    ("trainer.precision=foo", "trainer: "),
    ("trainer.accelerator=foo", "trainer: "),
    ("evaluation=5", "evaluation is a group of settings"),
    ("+evaluation.foo=1", "evaluation.foo is no setting"),
    ("model.kwargs=3", "model.kwargs"),
    ("+optimizer.nesterov=maybe", "optimizer.nesterov must be true or false"),
    ("+trainer.fast_dev_run=true", "trainer.fast_dev_run is no setting"),
    ("method=wfn method.delta=1e-9", "method.delta must be a number from 0.0001 to 1"),
    ("objective=foo", "objective must be a figure"),
    ("+model.kwargs.drop_rate=5", "model.kwargs.drop_rate=5 is no value"),
    ("+model.kwargs.num_classes=-1", "model.kwargs.num_classes=-1 is no value"),
    ("+model.kwargs.dorp_rate=0.1", "dorp_rate"),
    ("baseline.folder=/dev/null/baselines", "baseline.folder=/dev/null/baselines: /dev/null is no folder"),
    (
        "model=cifar_resnet20 model.pretrained=true dataset.data_config.input_size=[3,32,32]"
        " dataset.data_config.mean=[0.5,0.5,0.5] dataset.data_config.std=[0.5,0.5,0.5]",
        "model.pretrained=true gives",
    ),
]


@pytest.mark.parametrize(("overrides", "named"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes_are_found_before_anything_is_written(overrides: str, named: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", ["model.name=test_resnet", *overrides.split()])
    with pytest.raises((ValueError, InstantiationException)) as mistake:
        prepare(cfg, tmp_path / "run")
    assert named in sentence(mistake.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may write nothing")
def test_a_folder_of_baselines_that_nobody_may_write() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", ["model.name=test_resnet", f"baseline.folder={ROOT / 'baselines'}"])
    os.seteuid(65534)
    try:
        with pytest.raises(ValueError, match=f"baseline.folder={ROOT / 'baselines'}: {ROOT} is read-only"):
            baseline_of(cfg, {})
    finally:
        os.seteuid(0)


def test_unknown_options_are_refused() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        with pytest.raises(HydraException, match="rest_epoch"):
            compose("config", ["fixing.rest_epoch=1"])
        with pytest.raises(HydraException, match="pow2"):
            compose("config", ["prior=pow3"])


@pytest.mark.parametrize(
    ("overrides", "code"),
    [("fixing.growth=0.5", 1), ("fixing.growth=abc", 2), ("model.name=resnet1", 1), ("prior=pow3", 2), ("seed", 2)],
)
def test_the_command_line_says_one_sentence(overrides: str, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), overrides, f"hydra.run.dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        env={**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == code
    assert len(done.stderr.splitlines()) <= 3 and "HYDRA_FULL_ERROR" not in done.stderr
    assert overrides.split("=")[0].split(".")[-1] in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "summary.json").exists() and not (tmp_path / "run" / "wandb").exists()


def test_a_network_that_no_file_may_name_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere.py").write_text(
        "import timm\n\n\ndef network(num_classes):\n"
        "    return timm.create_model('test_resnet', num_classes=num_classes, in_chans=1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", ["model=timm", "model.name=mine", "model.pretrained=false"])
        cfg.model._target_ = "elsewhere.network"
    prepare(cfg, tmp_path / "run")
    assert "pwfn.load(path, architecture=...) will read model.pwfn" in caplog.text

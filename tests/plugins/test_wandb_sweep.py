"""The command that ``wandb agent`` makes of our sweep file composes; the agent's own code builds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from wandb import wandb_agent


@pytest.fixture
def sweep(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "sweeps" / "wandb" / "pwfn.yaml").read_text())


def test_the_command_of_the_agent_composes(root: Path, sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
                                            tmp_path: Path) -> None:  # fmt: skip
    started: list[list[str]] = []

    class Recorded:
        def __init__(self, env: Any = None, command: Any = None, **_: Any) -> None:
            started.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Recorded)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them: restore them after the test
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
    agent._sweep_command = sweep["command"]
    values = {"fixing.delta_start": 1.2345e-05, "regulariser.weight": 0.00048828125, "prior": "constant"}
    assert set(values) == set(sweep["parameters"])
    arguments = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"type": "run", "run_id": "r1", "program": sweep["program"], "args": arguments})

    (command,) = started
    at = command.index("launch.py")
    assert command[:at][0] == "/usr/bin/env" and Path(command[at - 1]).name.startswith("python")
    OmegaConf.register_new_resolver("root", lambda: str(root), replace=True)
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        cfg = compose("config", command[at + 1 :])
        for name, parameter in sweep["parameters"].items():  # every value that the server may choose
            for value in parameter.get("values", [parameter.get("min"), parameter.get("max")]):
                assert compose("config", [f"{name}={value}"]) is not None
    assert cfg.fixing.delta_start == 1.2345e-05 and cfg.regulariser.weight == 0.00048828125
    assert OmegaConf.select(cfg, "prior._target_") == "pwfn.prior.constant"


def test_the_metric_is_what_a_run_logs(sweep: dict[str, Any]) -> None:
    from pwfn.experiment.objective import VALIDATION

    assert sweep["metric"] == {"name": f"fixing/{VALIDATION['acc1']}", "goal": "maximize"}
    assert (Path(__file__).parents[2] / sweep["program"]).exists()


def test_wandb_accepts_the_file(root: Path) -> None:
    """wandb's own reader of sweep files; what its server checks is not checked here."""
    code = (
        "import sys; from wandb.sdk.launch.sweeps import utils; print(utils.load_sweep_config(sys.argv[1])['method'])"
    )
    path = root / "sweeps" / "wandb" / "pwfn.yaml"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["bayes"], done.stderr[-1000:]

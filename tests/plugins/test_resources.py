"""What a run asks of SLURM follows from its trainer; what does not fit is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hydra_plugins.pwfn_launcher.resources import resources
from omegaconf import OmegaConf

AUTO = {"nodes": "auto", "tasks_per_node": "auto", "gpus_per_node": "auto", "mem_gb": "auto", "mem_gb_per_device": 16}
ONE = {"devices": 1, "num_nodes": 1, "strategy": "auto", "accelerator": "auto"}


def asked(trainer: dict[str, Any], **launcher: Any) -> tuple[Any, ...]:
    found = resources(OmegaConf.create({**ONE, **trainer}), {**AUTO, **launcher})
    return tuple(found[name] for name in ("nodes", "tasks_per_node", "gpus_per_node", "mem_gb"))


def test_resources_follow_from_the_trainer() -> None:
    assert asked({}) == (1, 1, 1, 16)
    assert asked({"devices": 4, "strategy": "ddp"}) == (1, 4, 4, 64)
    assert asked({"devices": 4, "strategy": "ddp", "num_nodes": 2}) == (2, 4, 4, 64)
    assert asked({"devices": [0, 2], "strategy": "ddp"}) == (1, 2, 2, 32)
    assert asked({"devices": 2, "strategy": "ddp_spawn"}) == (1, 1, 2, 32)
    assert asked({"devices": 2, "strategy": "ddp", "accelerator": "cpu"}) == (1, 2, None, 32)
    assert asked({"devices": "auto", "strategy": "ddp"}, gpus_per_node=8) == (1, 8, 8, 128)
    assert asked({"devices": 2}, gpus_per_node=None) == (1, 2, None, 32)
    assert asked({"devices": 2}, gpus_per_node=8) == (1, 2, 8, 32)  # where only whole nodes are given out
    assert asked({"devices": 2}, gres="gpu:a100:2") == (1, 2, None, 32)
    assert asked({"devices": 4}, mem_gb=100) == (1, 4, 4, 100)
    assert asked({"devices": 4}, mem_per_gpu="40G") == (1, 4, 4, None)


@pytest.mark.parametrize(
    ("trainer", "launcher", "named"),
    [
        ({"devices": 4, "strategy": "ddp"}, {"tasks_per_node": 2}, "tasks_per_node=2, but trainer.devices=4"),
        ({"num_nodes": 2, "strategy": "ddp"}, {"nodes": 1}, "nodes=1, but trainer.num_nodes=2"),
        ({"devices": 4, "accelerator": "gpu"}, {"gpus_per_node": 2}, "gpus_per_node=2, but trainer.devices=4"),
        ({"devices": 4}, {"gpus_per_node": 2}, "gpus_per_node=2, but trainer.devices=4"),
        ({"accelerator": "gpu"}, {"gpus_per_node": None}, "gpus_per_node=null, but trainer.devices=1"),
        ({"devices": "auto"}, {}, "trainer.devices=auto"),
    ],
)
def test_a_mismatch_is_refused(trainer: dict[str, Any], launcher: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        asked(trainer, **launcher)

"""What a run asks of SLURM, from the trainer that it configures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

__all__ = ["processes", "resources"]


def devices(trainer: DictConfig, gpus: int) -> int:
    """Devices of a run on one machine.

    Args:
        trainer: the settings of ``lightning.Trainer``.
        gpus: GPUs that the run may use, for ``devices=auto``.
    """
    asked = trainer.devices
    if asked in ("auto", -1, "-1"):
        return max(1, 0 if trainer.accelerator == "cpu" else gpus)
    return int(asked) if str(asked).isdecimal() else len(str(asked).split(","))


def processes(trainer: DictConfig, gpus: int) -> int:
    """Processes of a run on one machine: one per device, unless the strategy starts them itself.

    Args:
        trainer, gpus: as of :func:`devices`.
    """
    return 1 if re.search("spawn|fork|notebook", str(trainer.strategy)) else devices(trainer, gpus)


def resources(trainer: DictConfig, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Nodes, tasks, GPUs and memory for a run: those that its trainer will use, where they are ``auto``.

    Args:
        trainer: the settings of ``lightning.Trainer``.
        asked: the launcher's settings.

    Returns:
        ``nodes``, ``tasks_per_node``, ``gpus_per_node`` and ``mem_gb``, None where SLURM is not asked for it.

    Raises:
        ValueError: if what was asked for is not what the trainer will use; one sentence that names both settings.
    """
    known = asked["gpus_per_node"] if isinstance(asked["gpus_per_node"], int) else 0
    if trainer.devices in ("auto", -1, "-1") and trainer.accelerator != "cpu" and not known:
        raise ValueError(f"trainer.devices={trainer.devices}: SLURM must know how many; set trainer.devices=4, say")
    count, nodes, tasks = devices(trainer, known), int(trainer.num_nodes), processes(trainer, known)
    for name, key, used in (("nodes", "num_nodes", nodes), ("tasks_per_node", "devices", tasks)):
        if asked[name] not in ("auto", used):
            raise ValueError(
                f"hydra.launcher.{name}={asked[name]}, but trainer.{key}={trainer[key]} with "
                f"trainer.strategy={trainer.strategy} needs {used}: leave hydra.launcher.{name}=auto"
            )
    gpus = asked["gpus_per_node"]
    if gpus == "auto":
        elsewhere = any(asked.get(name) for name in ("gres", "gpus_per_task"))
        gpus = None if elsewhere or trainer.accelerator == "cpu" else count
    elif trainer.accelerator in ("gpu", "cuda") and (gpus or 0) < count:
        raise ValueError(
            f"hydra.launcher.gpus_per_node={'null' if gpus is None else gpus}, but trainer.devices={trainer.devices} "
            f"with trainer.accelerator={trainer.accelerator} needs {count}: leave hydra.launcher.gpus_per_node=auto"
        )
    elif gpus and trainer.accelerator != "cpu" and gpus < count:
        raise ValueError(
            f"hydra.launcher.gpus_per_node={gpus}, but trainer.devices={trainer.devices}: leave "
            "hydra.launcher.gpus_per_node=auto, or null without GPUs"
        )
    memory = asked["mem_gb"]
    if memory == "auto":
        memory = None if asked.get("mem_per_gpu") or asked.get("mem_per_cpu") else asked["mem_gb_per_device"] * count
    return {"nodes": nodes, "tasks_per_node": tasks, "gpus_per_node": gpus, "mem_gb": memory}

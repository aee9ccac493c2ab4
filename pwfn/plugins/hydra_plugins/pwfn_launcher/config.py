"""Settings of the launchers on top of hydra-submitit-launcher's.

Annotations here are evaluated: Hydra runs plugin modules before they are importable.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf

__all__ = ["LocalConf", "SlurmConf"]


@dataclass
class SlurmConf(SlurmQueueConf):
    """Of ``hydra/launcher=pwfn_slurm``; conf/hydra/launcher/slurm.yaml explains the settings."""

    _target_: str = "hydra_plugins.pwfn_launcher.launcher.SlurmLauncher"
    nodes: Any = "auto"
    tasks_per_node: Any = "auto"
    gpus_per_node: Any = "auto"
    mem_gb: Any = "auto"
    mem_gb_per_device: float = 16
    srun_args: list[str] = field(default_factory=list)
    detach: bool = False
    rerun: bool = False
    max_array: int = 0
    poll_seconds: float = 10


@dataclass
class LocalConf(LocalQueueConf):
    """Of ``hydra/launcher=pwfn_local``."""

    _target_: str = "hydra_plugins.pwfn_launcher.launcher.LocalLauncher"
    parallel: int = 1
    rerun: bool = False
    poll_seconds: float = 1


for name, node in (("pwfn_slurm", SlurmConf), ("pwfn_local", LocalConf)):
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="pwfn_launcher")

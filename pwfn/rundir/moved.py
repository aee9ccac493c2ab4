"""Import paths that files of old runs name by their old place: ``model.pwfn`` headers and configurations."""

from __future__ import annotations

from typing import Any

__all__ = ["current", "current_path"]

MOVED = {
    "pwfn.attraction": "pwfn.learning",
    "pwfn.baseline": "pwfn.experiment.baseline",
    "pwfn.cifar_resnet": "pwfn.model.cifar_resnet",
    "pwfn.dataset.digits": "pwfn.dataset.sources.digits",
    "pwfn.dataset.folder": "pwfn.dataset.sources.folder",
    "pwfn.dataset.mnist_10k": "pwfn.dataset.sources.mnist_10k",
    "pwfn.dataset.timm_dataset": "pwfn.dataset.sources.timm_dataset",
    "pwfn.dataset.torchvision_dataset": "pwfn.dataset.sources.torchvision_dataset",
    "pwfn.streaming": "pwfn.dataset.streaming",
    "pwfn.tracking": "pwfn.experiment.logger",
}
"""Old prefix of an import path to the present one, for every path that 0.1.0 wrote into files."""


def current_path(path: str) -> str:
    """Return the present import path of what a written file calls ``path``."""
    for old, new in MOVED.items():
        if path == old or path.startswith(f"{old}."):
            return new + path[len(old) :]
    return path


def current(config: Any) -> Any:
    """Return a configuration of dictionaries and lists with every ``_target_`` and ``path`` brought up to date."""
    if isinstance(config, dict):
        return {
            key: current_path(value) if key in ("_target_", "path") and isinstance(value, str) else current(value)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [current(value) for value in config]
    return config

"""Probabilistic Weight Fixing Networks: a network's weights share a few additive powers-of-two values."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwfn.artifact.hub import load
    from pwfn.artifact.network import save
    from pwfn.callback import WeightFixing
    from pwfn.distillation import Distillation
    from pwfn.fixing import fix
    from pwfn.gaussian import to_deterministic, to_gaussian
    from pwfn.learning import GaussianLearning
    from pwfn.rounds import Rounds
    from pwfn.straight_through import StraightThrough

__all__ = [
    "Distillation",
    "GaussianLearning",
    "Rounds",
    "StraightThrough",
    "WeightFixing",
    "fix",
    "load",
    "save",
    "to_deterministic",
    "to_gaussian",
]

__version__ = "0.2.0"

_HOMES = {
    "Distillation": "distillation",
    "GaussianLearning": "learning",
    "Rounds": "rounds",
    "StraightThrough": "straight_through",
    "WeightFixing": "callback",
    "fix": "fixing",
    "save": "artifact.network",
    "load": "artifact.hub",
    "to_deterministic": "gaussian",
    "to_gaussian": "gaussian",
}

_MODULES = ("clustering", "compression", "method", "prior", "rate_distortion", "sigma_join", "wfn")
"""Modules that ``pwfn.NAME`` gives without an import of their own."""


def __getattr__(name: str) -> Any:
    # on first use: reports and launching processes answer without the seconds that torch takes to import
    if name in _MODULES:
        return import_module(f"pwfn.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'pwfn' has no attribute {name!r}")
    return getattr(import_module(f"pwfn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, *_MODULES]

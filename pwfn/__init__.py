"""Probabilistic Weight Fixing Networks: a network's weights share a few additive powers-of-two values."""

from pwfn.artifact import load
from pwfn.fixing import WeightFixing, fix
from pwfn.gaussian import to_deterministic, to_gaussian
from pwfn.learning import GaussianLearning
from pwfn.rounds import Rounds

__all__ = ["GaussianLearning", "Rounds", "WeightFixing", "fix", "load", "to_deterministic", "to_gaussian"]

__version__ = "0.1.0"

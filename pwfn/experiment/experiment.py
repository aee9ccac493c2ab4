"""The parts of a run: built by :func:`pwfn.experiment.prepare.prepare`, used by :func:`pwfn.experiment.run.execute`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from torch import nn

from pwfn.callback import WeightFixing
from pwfn.classifier import Classifier
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment.baseline import Baseline
from pwfn.experiment.results import Measurement
from pwfn.gaussian_weight import GaussianWeight
from pwfn.kernels.noise import Draws

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """Holds the parts of a run that is ready to start; none of them reads the configuration again.

    Attributes:
        folder: the run directory.
        facts: what ``summary.json`` says of the run from its start.
        configuration: the files of ``.hydra/``, name to content.
        seed: of everything random in training.
        measurement: the network, its data, and how both are measured in the end.
        baseline: how the starting network is trained; None where it comes with weights.
        classifier: the network in training.
        learning, fixing: the callbacks of the rounds.
        make_logger: opens the logger.
        make_trainer: builds the trainer of all rounds around a logger.
        before_conversion: called with the starting network, in this order, before its weights become Gaussian.
        weight: the parametrization of the weights in scope.
        noise: makes the draws of a training step.
        train_gaussian: trains mu and sigma together before round 0, if asked for.
        compile: whether the network is compiled.
    """

    folder: Path
    facts: Mapping[str, Any]
    configuration: Mapping[str, str]
    seed: int
    measurement: Measurement
    baseline: Baseline | None
    classifier: Classifier
    learning: L.Callback
    fixing: WeightFixing
    make_logger: Callable[[], Logger]
    make_trainer: Callable[[Logger], L.Trainer]
    before_conversion: Sequence[Callable[[nn.Module], None]]
    weight: type[GaussianWeight]
    noise: Draws
    train_gaussian: Callable[[nn.Module, DataModule | StreamModule], None] | None
    compile: bool

"""Measurement of a finished run, and the files with its results.

``baseline.safetensors`` (the network at the start), ``model.safetensors`` (the fixed one) and
``sigma.safetensors`` (its sigmas, by parameter) are enough to repeat every figure.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from pwfn.artifact import file as artifact
from pwfn.artifact.rows import codebook_rows, layer_rows, network_figures
from pwfn.dataset.loading import DataModule
from pwfn.dataset.streaming import StreamModule
from pwfn.experiment import evaluation
from pwfn.experiment.exports import AGAIN, EXPORTS, write_exports
from pwfn.model.network import read_weights
from pwfn.rundir.files import write_csv, write_json
from pwfn.scope import Scope, names_in_scope

__all__ = ["Measurement", "figures", "measure", "write_results"]

RESULTS = ("evaluation.json", "layers.csv", "codebook.csv", "model.pwfn")
"""The files that the measurement of a run leaves."""

DIVERGED = 1e4
"""Nats of mean loss that no network has whose training did not diverge."""


@dataclass(frozen=True)
class Measurement:
    """Holds what is needed to measure the networks of a run.

    Attributes:
        folder: the run directory with its weight files.
        model: a network of the run's architecture, on the device to use.
        architecture: how ``model.pwfn`` rebuilds it, see :func:`pwfn.artifact.file.save`.
        data: its data.
        scope: which parameters share values.
        sigmas: the initial sigma of each parameter in scope of a plain network, by name; None for a method without
            sigma, which has no ensemble.
        settings: of the measurement.
        exports: which exports are asked for: ``onnx``, ``openvino``, ``coreml``,
            ``shift_list``, ``codes``.
    """

    WEIGHTS: ClassVar[tuple[str, ...]] = ("baseline.safetensors", "model.safetensors", "sigma.safetensors")
    """The weight files of a run; without sigma the last one is empty."""

    folder: Path
    model: nn.Module
    architecture: Mapping[str, Any]
    data: DataModule | StreamModule
    scope: Scope
    sigmas: Callable[[nn.Module], Mapping[str, Tensor]] | None
    settings: evaluation.Settings
    exports: Mapping[str, bool]

    def lacking(self) -> list[str]:
        """The weight files, results and exports that are asked for and not there."""
        wanted = [*self.WEIGHTS, *RESULTS, *(name for kind, name in EXPORTS.items() if self.exports.get(kind))]
        return [name for name in wanted if not (self.folder / name).exists()]


def measure(measurement: Measurement) -> dict[str, dict[str, Any]]:
    """Measure the starting and the fixed network of a run on its test images. Nothing is written.

    The ensemble of the starting network draws with the sigma of the prior, from which training began.

    Returns:
        All figures by stage, ``baseline`` and ``final``.
    """
    return _measure(measurement)[0]


def _measure(measurement: Measurement) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Tensor]]]:
    """The figures, and the sigmas by stage."""
    folder = measurement.folder
    names = names_in_scope(measurement.model, measurement.scope)
    model = copy.deepcopy(measurement.model)
    baseline, state = (read_weights(folder / f"{name}.safetensors", advice=AGAIN) for name in ("baseline", "model"))
    joined = read_weights(folder / "sigma.safetensors", advice=AGAIN) if measurement.sigmas is not None else {}
    measured, sigmas = {}, {}
    for stage, weights in (("baseline", baseline), ("final", state)):
        model.load_state_dict(weights)
        sigma = joined
        if stage == "baseline" and measurement.sigmas is not None:
            sigma = dict(measurement.sigmas(model))
        sigmas[stage] = sigma
        measured[stage] = {
            **_scores(model, names, sigma, measurement),
            **network_figures(weights, names),
            "sizes": artifact.sizes(weights, names).summary(),
        }
    return measured, sigmas


def write_results(measurement: Measurement, *, write: bool = True) -> dict[str, Any]:
    """Measure a run and write ``evaluation.json``, ``layers.csv``, ``codebook.csv``, ``model.pwfn`` and the exports.

    Args:
        measurement: what to measure.
        write: whether to write files, true on one rank.

    Returns:
        The figures for the run's summary.
    """
    measured, sigmas = _measure(measurement)
    if write:
        folder, scope = measurement.folder, measurement.scope
        names = names_in_scope(measurement.model, scope)
        baseline, state = (read_weights(folder / f"{name}.safetensors") for name in ("baseline", "model"))
        packed = artifact.save(folder / "model.pwfn", state, names, architecture=measurement.architecture)
        measured["final"]["sizes"] = packed.summary()  # with the file's own header
        write_json(folder / "evaluation.json", measured)
        write_csv(folder / "layers.csv", layer_rows(state, baseline, names, sigmas["baseline"], sigmas["final"]))
        write_csv(folder / "codebook.csv", codebook_rows(state, names))
        write_exports(measurement)
    return figures(measured)


def _scores(
    model: nn.Module, names: Sequence[str], sigma: Mapping[str, Tensor], measurement: Measurement
) -> dict[str, Any]:
    settings, data = measurement.settings, measurement.data
    loader, num_classes, seed = data.test_dataloader(), data.num_classes, settings.seed
    draws, scales = settings.draws, settings.noise
    return {
        **evaluation.quality(model, loader, num_classes),
        "ensemble": evaluation.ensemble(model, sigma, loader, num_classes, draws, seed=seed) if sigma else [],
        "noise": evaluation.noise_curve(
            model, names, loader, num_classes, scales, draws=settings.noise_draws, seed=seed
        ),
    }


def figures(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Collect the figures for ``summary.json``: those of the fixed network, and those of the baseline by their prefix.

    Raises:
        FloatingPointError: if one of them is not finite.
    """
    baseline, final = measured["baseline"], measured["final"]
    nested = ("reliability", "ensemble", "noise", "sizes")
    flat = {name: value for name, value in final.items() if name not in nested and not name.startswith("order_")}
    flat["loss"] = flat["nll"]
    for name in ("acc1", "acc5", "nll", "ece", "brier", "unique", "entropy"):
        flat[f"baseline_{name}"] = baseline[name]
    for prefix, stage in (("", final), ("baseline_", baseline)):
        if stage["ensemble"]:
            largest = stage["ensemble"][-1]
            flat["ensemble_draws"] = largest["draws"]
            flat |= {f"{prefix}ensemble_{name}": largest[name] for name in ("acc1", "nll", "ece", "brier")}
    if not all(math.isfinite(value) for value in flat.values()):
        raise FloatingPointError(f"the network gives no finite figures: {flat}")
    if flat["nll"] > DIVERGED:
        raise FloatingPointError(f"the fixed network has a loss of {flat['nll']:.3g} nats: lower optimizer.lr")
    return {**flat, "sizes": dict(final["sizes"])}

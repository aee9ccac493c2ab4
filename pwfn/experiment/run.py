"""One experiment, from its parts to the files of its run directory: baseline, rounds, measurement, files."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from pwfn import __version__
from pwfn.experiment import logger as logs
from pwfn.experiment.baseline import train_once
from pwfn.experiment.checkpoints import last_checkpoint, unaccounted_seconds
from pwfn.experiment.completion import completed, write_configuration
from pwfn.experiment.evaluation import accuracy
from pwfn.experiment.experiment import Experiment
from pwfn.experiment.prepare import evaluated
from pwfn.experiment.results import Measurement, figures, measure, write_results
from pwfn.gaussian import Prior, flat_weights, gaussian_weights, to_deterministic, to_gaussian
from pwfn.model.network import save_weights
from pwfn.report import plots
from pwfn.report.console import HEADER, round_line
from pwfn.rundir import provenance
from pwfn.rundir.files import read_json, remove_temporary, write_json

__all__ = ["evaluate", "execute"]

PACKAGES = ("torch", "timm", "lightning", "hydra-core", "wandb")


def execute(experiment: Experiment) -> dict[str, Any]:
    """Carry a prepared run out, from where an earlier try left it.

    Returns:
        The content of ``summary.json``; of a run that is finished already, as it stands there, once what is asked
        for and lacking has been made.

    Raises:
        FloatingPointError: if training diverges; the last checkpoint stays usable.
    """
    folder = experiment.folder
    done = read_json(folder / "summary.json") or {}
    if done.get("status") == "finished" and all((folder / name).exists() for name in Measurement.WEIGHTS):
        return rank_zero_only(completed, default=done)(experiment, done)
    rank_zero_only(remove_temporary)(folder)
    facts = {**experiment.facts, "versions": _versions()}
    spent = done.get("wall_seconds", 0.0) + unaccounted_seconds(folder)
    started = time.monotonic()
    write = rank_zero_only(partial(write_json, folder / "summary.json"))
    write({"status": "running", **facts, "wall_seconds": spent})
    rank_zero_only(_write_origin)(folder, experiment.configuration)
    try:
        found, logger = _carry_out(experiment)
    except BaseException as error:
        seconds = {"wall_seconds": spent + time.monotonic() - started}
        told = (read_json(folder / "summary.json") or {}).get("status") == "failed"  # by the rank that broke first
        if isinstance(error, Exception) and not told:
            write_json(
                folder / "summary.json",
                {"status": "failed", **facts, **seconds, "error": f"{type(error).__name__}: {error}"},
            )
        elif not told:
            write({"status": "running", **facts, **seconds})
        raise
    summary = {"status": "finished", **facts, **found, "wall_seconds": spent + time.monotonic() - started}
    write(summary)
    rank_zero_only(logs.log_model)(logger, folder, summary)
    logs.finish(logger, summary)
    return summary


def evaluate(folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Measure a finished run anew from its directory alone.

    With the run's own settings its figures, files and plots are written again. With other settings they stay as
    they are, and the figures go to ``evaluations/`` in the run directory, named by what was changed.

    Args:
        folder: the run directory.
        overrides: ``KEY=VALUE`` of settings to change, such as ``evaluation.draws=[100]``.

    Returns:
        The content of ``summary.json``, with the new figures.

    Raises:
        ValueError: if there is no finished run, or a setting does not exist.
    """
    measurement, done, same = evaluated(folder, overrides)
    if not same:
        summary = {**done, **figures(measure(measurement)), "settings": list(overrides)}
        write_json(folder / "evaluations" / f"{_file_name(overrides)}.json", summary)
        return summary
    summary = {**done, **write_results(measurement)}
    write_json(folder / "summary.json", summary)
    plots.draw(folder)
    return summary


def _carry_out(experiment: Experiment) -> tuple[dict[str, Any], Logger]:
    """Train the baseline, run the rounds, measure and write files; the summary's figures and the logger, still open."""
    folder, model, data = experiment.folder, experiment.measurement.model, experiment.measurement.data
    logger = experiment.make_logger()
    trainer = experiment.make_trainer(logger)
    if experiment.baseline is not None:
        train_once(model, data, experiment.baseline)
    model.to(trainer.strategy.root_device)
    baseline_val = accuracy(model, data.val_dataloader(), data.num_classes)
    if trainer.is_global_zero:
        save_weights(folder / "baseline.safetensors", model.state_dict(), model=experiment.facts["model"])
    _train_and_fix(experiment, trainer)
    summary = {"baseline_val_acc1": baseline_val["acc1"], **_write_weights(experiment, trainer)}
    model.to(trainer.strategy.root_device)  # fitting leaves it on the CPU
    summary |= write_results(experiment.measurement, write=trainer.is_global_zero)
    if trainer.is_global_zero:
        tables = {name: folder / f"{name}.csv" for name in ("codebook", "layers")}
        logs.log_files(logger, plots.draw(folder, summary), tables)
    return summary, logger


def _train_and_fix(experiment: Experiment, trainer: L.Trainer) -> None:
    """Make the network Gaussian and go through all rounds, from the last checkpoint if there is one."""
    model, fixing = experiment.measurement.model, experiment.fixing
    for step in experiment.before_conversion:
        step(model)
    scope, last = experiment.measurement.scope, last_checkpoint(experiment.folder)
    to_gaussian(
        model, prior=_prior(experiment.measurement), scope=scope, weight=experiment.weight, noise=experiment.noise
    )
    if experiment.train_gaussian is not None and last is None:
        experiment.train_gaussian(model, experiment.measurement.data)
    if experiment.compile:
        model.compile()
    L.seed_everything(experiment.seed, workers=True, verbose=False)  # the same whether the baseline was trained or read
    if experiment.baseline is None and experiment.measurement.data.val_is_of_training:
        trainer.print("before, after: accuracy on images split from the training set, which the given weights may know")
    trainer.print(HEADER)
    for row in fixing.rows:
        trainer.print(round_line(row))
    if fixing.rounds.epochs == 0:
        fixing.run(trainer, experiment.classifier, fixing.rounds.due(0))
        return
    try:
        trainer.fit(experiment.classifier, experiment.measurement.data, ckpt_path=last)
    except FloatingPointError as error:
        raise FloatingPointError(f"on the way to round {len(fixing.rows)}, {error}") from error
    if len(fixing.rows) < len(fixing.rounds):
        raise ValueError(f"training ended after {len(fixing.rows)} of {len(fixing.rounds)} rounds: look at trainer.*")


def _prior(measurement: Measurement) -> Prior | None:
    """The initial sigmas of the network as it is now, for :func:`pwfn.to_gaussian`."""
    if measurement.sigmas is None:
        return None
    found = {measurement.model.get_parameter(name): s for name, s in measurement.sigmas(measurement.model).items()}
    return lambda mu: next(sigma for parameter, sigma in found.items() if parameter is mu)


def _write_weights(experiment: Experiment, trainer: L.Trainer) -> dict[str, Any]:
    """Write the fixed network and its sigmas, and make it a plain network again; return the figures that follow."""
    folder, model = experiment.folder, experiment.measurement.model
    final = flat_weights(model)
    sigmas = {name: sigma for name, _, w in gaussian_weights(model) if (sigma := w.deviation()) is not None}
    to_deterministic(model.eval())
    if trainer.is_global_zero:
        save_weights(folder / "model.safetensors", model.state_dict(), model=experiment.facts["model"])
        save_weights(folder / "sigma.safetensors", sigmas)
    trainer.strategy.barrier()
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "params_in_scope": final.mu.numel(),
        "fixed_fraction": float(final.fixed.float().mean()),
    }


def _write_origin(folder: Path, configuration: Mapping[str, str]) -> None:
    """Write the configuration and the state of the code that a run is made with."""
    write_configuration(folder, configuration)
    provenance.write(folder)


def _file_name(overrides: Sequence[str]) -> str:
    text = "_".join(sorted(overrides))
    return "".join(c if c.isalnum() or c in ".-_" else "-" for c in text)[:120]


def _versions() -> Mapping[str, str]:
    return {"pwfn": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}

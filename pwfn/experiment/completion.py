"""What a finished run is asked for and lacks: other measurements, exports, files that have been deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from pwfn.experiment.experiment import Experiment
from pwfn.experiment.exports import EXPORTS, write_exports
from pwfn.experiment.results import write_results
from pwfn.report import plots
from pwfn.rundir.files import atomic, write_json

__all__ = ["completed", "write_configuration"]


def completed(experiment: Experiment, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a finished run anew, or export it, where its files are not what ``evaluation`` and ``export`` ask for.

    Args:
        experiment: the run, its weight files there.
        summary: the content of its ``summary.json``.

    Returns:
        The content of ``summary.json``, with the new figures if there are any.
    """
    folder, measurement, found = experiment.folder, experiment.measurement, dict(summary)
    lacking, same = measurement.lacking(), _measured_so(experiment)
    if same and not lacking:
        return found
    measurement.model.to("cuda" if torch.cuda.is_available() else "cpu")
    if same and set(lacking) <= set(EXPORTS.values()):
        write_exports(measurement)
    else:
        found |= write_results(measurement)
        plots.draw(folder, found)
    found["config_digest"] = experiment.facts["config_digest"]
    write_json(folder / "summary.json", found)
    write_configuration(folder, experiment.configuration)
    return found


def write_configuration(folder: Path, configuration: Mapping[str, str]) -> None:
    """Write the files of ``.hydra/``."""
    for name, text in configuration.items():
        with atomic(folder / ".hydra" / name) as temporary:
            temporary.write_text(text)


def _measured_so(experiment: Experiment) -> bool:
    """Whether the run was measured with the settings that it has now."""
    path = experiment.folder / ".hydra" / "config.yaml"
    if not path.exists() or "config.yaml" not in experiment.configuration:
        return True
    before, now = (yaml.safe_load(text) for text in (path.read_text(), experiment.configuration["config.yaml"]))
    return bool(before.get("evaluation") == now.get("evaluation"))

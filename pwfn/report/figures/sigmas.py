"""Figures of sigma: under the prior, and against how far weights moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from pwfn.report.figures.shown import Rows, Shown, finish, first
from pwfn.report.style import BASELINE, FINAL, FIXED, LOWEST_OCTAVE, Files, column, new_figure

__all__ = ["movement", "prior"]


def prior(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw the sigma that the prior gives, against the weight, in one tensor: the largest."""
    kept = [s for s in shown if s.setting("prior._target_") == "pow2" and s.method == "pwfn"]
    kept = [s for s in kept if s.files[0].layers and (s.run.folder / "baseline.safetensors").exists()]
    one = first(kept, "no pwfn run with prior=pow2 has layers.csv and baseline.safetensors")
    name = max(one.files[0].layers, key=lambda row: row["weights"])["layer"]
    weights = np.abs(load_file(one.run.folder / "baseline.safetensors")[name].ravel().astype(np.float64))
    scale, largest = (float(one.run.settings.get(f"prior.{k}", v)) for k, v in (("scale", 0.0025), ("largest", 0.05)))
    quantile = np.quantile(_ratio(weights), 0.75)
    mu = np.linspace(0, weights.max(), 2000)[1:]
    sigma = np.clip(scale * _ratio(mu) / quantile, 2.0**-30, largest)
    figure, (axes,) = new_figure()
    axes.plot(mu, sigma, color=FINAL)
    finish(axes, f"|mu|, {name}", "initial sigma", named=False)
    return figure, [{"mu": m, "sigma": s} for m, s in zip(mu.tolist(), sigma.tolist(), strict=True)]


def _ratio(size: np.ndarray) -> np.ndarray:
    """The prior's ``|(mu - up) / mu| |(mu - down) / mu|``, up and down the powers of two around ``|mu|``."""
    ratio = 2 * np.frexp(size)[0]  # |mu| / down, in [1, 2)
    return np.where(ratio == 0, 0.0, (2 - ratio) * (ratio - 1) / np.where(ratio == 0, 1.0, ratio) ** 2)


def movement(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw, for each weight tensor of a run, how far its weights were moved when they were fixed, against the sigma
    that they had, and both by the tensor's position in the network.

    Distances and sigmas are means over all weights taken in all rounds, sigma to half an octave; weights that became
    0 do not count (see :func:`pwfn.experiment.movement.by_sigma`).
    """
    kept = [s for s in shown if any(map(_by_layer, s.files))]
    kept.sort(key=lambda s: s.setting("prior._target_") != "pow2")
    one = first(
        kept, "no run has layers.csv, and movement.csv by layer: runs of earlier versions have it over all layers"
    )
    files = next(filter(_by_layer, one.files))
    taken: dict[str, list[tuple[float, float, float]]] = {}
    for row in files.movement:
        if row["taken"]:
            sigma = 2 ** (row["log2_sigma"] + 0.5 * (row["log2_sigma"] > LOWEST_OCTAVE))
            taken.setdefault(str(row["layer"]), []).append((row["taken"], sigma, row["moved_mean"]))
    rows: Rows = []
    for position, layer in enumerate(files.layers):
        counts, sigmas, moved = np.array(taken.get(layer["layer"], [])).reshape(-1, 3).T
        if not counts.sum():
            continue
        ends = {str(k): layer[k] for k in ("weights", "baseline_sigma", "sigma", "moved_rms") if k in layer}
        means = {"sigma_taken": np.average(sigmas, weights=counts), "moved": np.average(moved, weights=counts)}
        rows.append({"layer": layer["layer"], "position": position, "taken": counts.sum(), **ends, **means})
    first([one] * bool(rows), "no weight was moved to a value other than 0")
    figure, (against, along) = new_figure(2, width=12)
    points = against.scatter(
        column(rows, "sigma_taken"), column(rows, "moved"), c=column(rows, "position"), cmap="viridis", s=20
    )
    figure.colorbar(points, ax=against, label="position of the tensor in the network")
    for axes in (against, along):
        axes.set_yscale("log", base=2)
    against.set_xscale("log", base=2)
    finish(against, "mean sigma when taken", "mean distance moved", named=False)
    for name, colour, label in (
        ("baseline_sigma", BASELINE, "sigma of the prior"),
        ("sigma_taken", FIXED, "sigma when taken"),
        ("moved", FINAL, "distance moved"),
    ):
        along.plot(column(rows, "position"), column(rows, name), "o-", ms=3, color=colour, label=label)
    finish(along, f"position of the tensor in the network ({one.label})", "units of the weights")
    return figure, rows


def _by_layer(files: Files) -> bool:
    return bool(files.movement and "layer" in files.movement[0] and files.layers)

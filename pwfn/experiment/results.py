"""What a finished run leaves behind, made from the three weight files of its directory.

``baseline.safetensors`` (the network at the start), ``model.safetensors`` (the fixed one) and
``sigma.safetensors`` (its sigmas, by parameter) are enough to repeat every figure; see :func:`conclude`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pwfn import apot
from pwfn.artifact import export as exports
from pwfn.artifact import file as artifact
from pwfn.compression import order_shares, sharing
from pwfn.experiment import evaluation
from pwfn.rundir.files import write_csv, write_json
from pwfn.scope import Scope, names_in_scope

__all__ = ["WEIGHTS", "codebook", "conclude", "export", "layers"]

WEIGHTS = ("baseline.safetensors", "model.safetensors", "sigma.safetensors")
"""The weight files of a run; without sigma the last one is empty."""


def conclude(
    folder: Path,
    model: nn.Module,
    loader: evaluation.Loader,
    num_classes: int,
    *,
    scope: Scope,
    architecture: Mapping[str, Any],
    prior: Callable[[Tensor], Tensor] | None = None,
    settings: evaluation.Settings | None = None,
    write: bool = True,
) -> dict[str, Any]:
    """Measure baseline and fixed network on test data; write what follows from them.

    Writes ``evaluation.json``, ``layers.csv``, ``codebook.csv`` and ``model.pwfn``. The ensemble of the
    baseline draws with the sigma of the prior, from which training began.

    Args:
        folder: a run directory with its weight files.
        model: the plain network, on the device to use; it holds the fixed weights afterwards.
        loader: test batches.
        num_classes: width of the logits.
        scope: which parameters share values.
        architecture: how ``model.pwfn`` rebuilds the network, see :func:`pwfn.artifact.file.save`.
        prior: initial sigma of a tensor; None for a method without sigma, which has no ensemble.
        settings: of the measurement.
        write: whether to write files, true on one rank.

    Returns:
        The figures for the run's summary.
    """
    settings = settings or evaluation.Settings()
    names = names_in_scope(model, scope)
    baseline, state = load_file(folder / "baseline.safetensors"), load_file(folder / "model.safetensors")
    spread = {} if prior is None else {name: prior(baseline[name]) for name in names}
    sigmas = load_file(folder / "sigma.safetensors") if prior is not None else {}
    measured = {}
    for stage, weights, sigma in (("baseline", baseline, spread), ("final", state, sigmas)):
        model.load_state_dict(weights)
        measured[stage] = {
            **_scores(model, names, sigma, loader, num_classes, settings),
            **_shared(weights, names),
        }
    measured["baseline"]["sizes"] = artifact.sizes(baseline, names).summary()
    if not write:
        measured["final"]["sizes"] = artifact.sizes(state, names).summary()
    else:
        packed = artifact.save(folder / "model.pwfn", state, names, architecture=architecture)
        measured["final"]["sizes"] = packed.summary()
        write_json(folder / "evaluation.json", measured)
        write_csv(folder / "layers.csv", layers(state, baseline, names, spread, sigmas))
        write_csv(folder / "codebook.csv", codebook(state, names))
    return _summary(measured["baseline"], measured["final"])


def export(
    folder: Path, model: nn.Module, example: Tensor, *, scope: Scope, onnx: bool = False, shift_list: bool = False
) -> None:
    """Write the exports that are asked for: ``model.onnx`` for inputs like ``example``, ``shifts.json``."""
    names = names_in_scope(model, scope)
    if onnx:
        exports.onnx(model.eval(), folder / "model.onnx", example, names)
    if shift_list:
        write_json(folder / "shifts.json", exports.shift_list(model.state_dict(), names))


def layers(
    state: Mapping[str, Tensor],
    baseline: Mapping[str, Tensor],
    names: Iterable[str],
    prior_sigma: Mapping[str, Tensor] | None = None,
    sigma: Mapping[str, Tensor] | None = None,
) -> list[dict[str, Any]]:
    """One row per tensor in scope: how much it shares after and before, its orders, how far it moved.

    Columns: ``layer``, ``weights``, the figures of :func:`pwfn.compression.sharing`, ``sparsity`` (0 to 1),
    ``baseline_unique``, ``baseline_entropy``, ``moved_rms`` (root mean square of the change, relative to that
    of the baseline's weights), ``baseline_sigma`` and ``sigma`` (their means; only with sigma), ``order_<k>`` (share
    of the weights of order k).
    """
    rows = []
    for name in names:
        w, before = state[name].flatten(), baseline[name].flatten()
        started = sharing(before)
        scale = float(before.square().mean().sqrt())
        spreads = {"baseline_sigma": (prior_sigma or {}).get(name), "sigma": (sigma or {}).get(name)}
        rows.append(
            {
                "layer": name,
                "weights": w.numel(),
                **_with_sparsity(sharing(w), w.numel()),
                "baseline_unique": started["unique"],
                "baseline_entropy": started["entropy"],
                "moved_rms": float((w - before).square().mean().sqrt()) / scale if scale else 0.0,
                **{key: float(spread.mean()) for key, spread in spreads.items() if spread is not None},
                **_orders(w),
            }
        )
    return rows


def codebook(state: Mapping[str, Tensor], names: Iterable[str]) -> list[dict[str, Any]]:
    """One row per shared value, ascending: ``value``, ``count``, ``order``, ``powers`` such as ``2^-3+2^-5``.

    Nothing for a network that shares too little to be fixed (more than :data:`pwfn.artifact.file.MAX_UNIQUE`).
    """
    values, counts = torch.unique(torch.cat([state[name].flatten() for name in names]), return_counts=True)
    if len(values) > artifact.MAX_UNIQUE:
        return []
    columns = zip(values.tolist(), counts.tolist(), apot.order_of(values).tolist(), strict=True)
    return [
        {"value": v, "count": n, "order": order, "powers": "+".join(f"2^{k}" for k in apot.terms(v))}
        for v, n, order in columns
    ]


def _scores(
    model: nn.Module,
    names: Sequence[str],
    sigma: Mapping[str, Tensor],
    loader: evaluation.Loader,
    num_classes: int,
    settings: evaluation.Settings,
) -> dict[str, Any]:
    given = {"seed": settings.seed}
    return {
        **evaluation.quality(model, loader, num_classes),
        "ensemble": evaluation.ensemble(model, sigma, loader, num_classes, settings.draws, **given) if sigma else [],
        "noise": evaluation.noise_curve(
            model, names, loader, num_classes, settings.noise, draws=settings.noise_draws, **given
        ),
    }


def _shared(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
    w = torch.cat([state[name].flatten() for name in names])
    figures = _with_sparsity(sharing(w), w.numel())
    if figures["unique"] > artifact.MAX_UNIQUE:  # any float is a sum of a dozen powers or so: no figure
        return figures
    return {**figures, **_orders(w)}


def _with_sparsity(figures: Mapping[str, float], weights: int) -> dict[str, float]:
    return {**figures, "sparsity": figures["zeros"] / max(1, weights)}


def _orders(w: Tensor) -> dict[str, float]:
    return {f"order_{order}": share for order, share in order_shares(w).items()}


def _summary(baseline: Mapping[str, Any], final: Mapping[str, Any]) -> dict[str, Any]:
    """The figures for ``summary.json``: those of the fixed network, and those of the baseline by their prefix."""
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
    return {**flat, "sizes": dict(final["sizes"])}

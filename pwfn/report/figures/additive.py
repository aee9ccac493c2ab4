"""The comparison of shared values with APoT (Li, Dong, Wang, ICLR 2020): how many values, of which order, at what cost.

APoT's values are sums of powers of two times a scale of their layer; its orders are those of the sums, which
``clusters.csv`` holds tensor by tensor.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from safetensors.numpy import load_file

from pwfn.report.figures import huffman
from pwfn.report.figures.shown import Rows, Shown, finish, first, make_room
from pwfn.report.style import read_csv

__all__ = ["ENERGY", "METHODS", "comparison"]

METHODS = ("apot", "apot_round", "pwfn", "rate_distortion", "wfn")
"""The methods whose values are sums of powers of two, up to a scale of the layer."""

ENERGY = {"multiply": 3.1, "add": 0.1, "shift": 0.13}
"""Picojoules of a 32-bit integer operation in 45 nm CMOS: You et al., ShiftAddNet (NeurIPS 2020), table 1, from memory
and not read again. A weight of order k costs k shifts and k additions, the last of them into the output's sum; one of
order 0 costs nothing. The scale of a layer, one product for each output, is left out."""

Counts = Mapping[int, int]


def comparison(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw top-1 against unique values and entropy, the share of weights of order 1, and the energy of shifts and adds.

    The rows (CSV) have each figure for three sets of weights: ``conv_linear``, weights and biases of convolutions and
    linear layers; ``inner``, without the first and the last of these layers; ``with_norm``, and norm layers besides.
    Columns: ``unique``, ``entropy`` and ``huffman`` (bits a weight, one codebook), ``entropy_by_layer`` and
    ``huffman_by_layer`` (a codebook for each tensor), ``order_1`` (share of the weights), ``energy_pj`` (mean over the
    weights, each used once, see :data:`ENERGY`) and ``energy_share`` (of a multiplication and an addition). Energy is
    left out where norm layers are no sums of powers of two.
    """
    found = [s for s in shown if s.method in METHODS and s.files[0].layers and s.group.figure("acc1")]
    found = [s for s in found if (s.run.folder / "model.safetensors").exists()]
    first([s for s in found if s.method == "apot"], "no finished run of method=apot, to be compared with others")
    rows = [
        {"setting": s.label, "seed": run.seed, "acc1": run.summary["acc1"], "weights_of": name, **figures}
        for s in found
        for run, files in zip(s.group.runs, s.files, strict=True)
        for name, figures in _figures(s.method, run.folder, files.layers).items()
    ]
    figure = Figure(figsize=(16, 4.5))
    panels: Any = figure.subplots(1, 4)
    for axes, name in zip(panels, ("unique", "entropy"), strict=False):
        for i, s in enumerate(found):
            for kind, face in (("conv_linear", f"C{i}"), ("inner", "none")):
                here = [row for row in rows if row["setting"] == s.label and row["weights_of"] == kind]
                style = {"ls": "", "marker": "o", "color": f"C{i}", "mfc": face}
                label = textwrap.shorten(s.label, 60, placeholder=" …") if kind == "conv_linear" else None
                axes.plot([row[name] for row in here], [row["acc1"] for row in here], label=label, **style)
    panels[0].set_xscale("log")
    panels[0].xaxis.set_minor_formatter(NullFormatter())
    finish(panels[0], "unique values\n(hollow: inner layers)", "test top-1 (%)", named=False)
    finish(panels[1], "entropy, bits a weight\n(zeros counted)", "", named=False)
    inner = [next(r for r in rows if r["setting"] == s.label and r["weights_of"] == "inner") for s in found]
    for axes, name, label in zip(
        panels[2:],
        ("order_1", "energy_share"),
        ("share of order 1\n(inner layers)", "energy, of a multiply-add\n(inner layers)"),
        strict=True,
    ):
        axes.barh(range(len(inner)), [row[name] for row in inner], color=[f"C{i}" for i in range(len(inner))])
        axes.set_yticks([])
        axes.invert_yaxis()
        axes.set_xlabel(label)
    make_room(figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=7))
    return figure, rows


def _figures(method: str, folder: Any, layers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The figures of a run by set of weights."""
    state = load_file(folder / "model.safetensors")
    orders = _orders(method, folder, state, layers)
    owners = [name.rpartition(".")[0] for name in state]
    of_rank = {owner: state[f"{owner}.weight"].ndim for owner in owners if f"{owner}.weight" in state}
    matrices = [owner for owner, rank in of_rank.items() if rank > 1]
    listed = [row["layer"] for row in layers if row["layer"].rpartition(".")[0] in matrices]
    ends = {listed[0].rpartition(".")[0], listed[-1].rpartition(".")[0]}
    norms = [f"{owner}.{key}" for owner, rank in of_rank.items() if rank == 1 for key in ("weight", "bias")]
    inner = [name for name in listed if name.rpartition(".")[0] not in ends]
    return {
        "conv_linear": _of(state, orders, listed),
        "inner": _of(state, orders, inner or listed),
        "with_norm": _of(state, orders, [*listed, *(name for name in norms if name in state)]),
    }


def _of(state: Mapping[str, np.ndarray], orders: Mapping[str, Counts], names: Sequence[str]) -> dict[str, float]:
    total = sum(state[name].size for name in names)
    each = [np.unique(state[name], return_counts=True)[1] for name in names]
    values, counts = np.unique(np.concatenate([state[name].ravel() for name in names]), return_counts=True)
    tally: dict[int, int] = {}
    for name in names:
        for order, count in orders.get(name, {}).items():
            tally[order] = tally.get(order, 0) + count
    found = {
        "weights": total,
        "unique": len(values),
        "entropy": _entropy(counts) / total,
        "entropy_by_layer": sum(map(_entropy, each)) / total,
        "huffman": huffman.bits(counts.tolist()) / total,
        "huffman_by_layer": sum(huffman.bits(one.tolist()) for one in each) / total,
        "order_1": tally.get(1, 0) / total,
    }
    if sum(tally.values()) == total:  # what shares no values is multiplied
        energy = sum(order * count for order, count in tally.items()) / total * (ENERGY["shift"] + ENERGY["add"])
        found |= {"energy_pj": energy, "energy_share": energy / (ENERGY["multiply"] + ENERGY["add"])}
    return found


def _orders(
    method: str, folder: Any, state: Mapping[str, np.ndarray], layers: Sequence[Mapping[str, Any]]
) -> dict[str, Counts]:
    """How many weights of each order a tensor has."""
    if method != "apot":
        return {row["layer"]: _tally(_order(state[row["layer"]].ravel())) for row in layers}
    rows = iter(read_csv(folder / "clusters.csv"))
    found: dict[str, Counts] = {}
    for layer in layers:  # in which order the rows come
        left, tally = int(layer["weights"]), dict[int, int]()
        while left > 0:
            row = next(rows)
            tally[int(row["order"])] = tally.get(int(row["order"]), 0) + int(row["count"])
            left -= int(row["count"])
        found[layer["layer"]] = tally
    return found


def _order(values: np.ndarray) -> np.ndarray:
    """The number of ones in the mantissa of each value: the fewest powers of two that sum to its magnitude."""
    digits = (np.abs(np.frexp(values.astype(np.float64))[0]) * 2.0**53).astype(np.uint64)
    return np.unpackbits(digits[:, None].view(np.uint8), axis=1).sum(1, dtype=int)


def _tally(orders: np.ndarray) -> Counts:
    return dict(zip(*(found.tolist() for found in np.unique(orders, return_counts=True)), strict=True))


def _entropy(counts: np.ndarray) -> float:
    """Bits of all occurrences together at the entropy of their values."""
    return float(-(counts * np.log2(counts / counts.sum())).sum())

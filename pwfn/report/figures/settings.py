"""Figures of accuracy, unique values and entropy over settings: WFN's, and the ablations of PWFN."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from pwfn.report.compare import MISSING
from pwfn.report.figures.shown import Lacking, Rows, Shown, finish, number
from pwfn.report.style import FINAL
from pwfn.report.tables import heading

__all__ = ["ABLATIONS", "ablations", "wfn_settings"]

FIGURES = {
    "acc1": "test top-1 (%)",
    "unique": "unique values, 0 counted",
    "entropy": "entropy (bits a weight, zeros counted)",
}

ABLATIONS = {
    "sigma join": "sigma_join.",
    "reach": "fixing.delta_",
    "prior": "prior.",
    "regulariser": "regulariser.",
    "randomisation": "dataset.randomise",
}
"""What the ablations of PWFN vary, and how the settings begin that belong to it."""


def wfn_settings(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw top-1, unique values and entropy of WFN over delta and over alpha, with norm layers in scope and without.

    A row of panels for each of the two that has several values; a line for each combination of the other settings.
    """
    found = [s for s in shown if s.method == "wfn" and s.group.figure("acc1")]
    factors = [f for f in ("delta", "alpha") if len({s.setting(f"method.{f}") for s in found}) > 1]
    if not factors and len({s.setting("scope.path") for s in found}) > 1:
        factors = ["delta"]
    if not factors:
        raise Lacking("no two finished wfn runs differ in method.delta, method.alpha or scope")
    figure = Figure(figsize=(14, 3.8 * len(factors)))
    panels = figure.subplots(len(factors), len(FIGURES), squeeze=False)
    for factor, line in zip(factors, panels, strict=True):
        lines: dict[str, list[Shown]] = {}
        for s in found:
            lines.setdefault(s.without(f"method.{factor}"), []).append(s)
        for (name, title), axes in zip(FIGURES.items(), line, strict=True):
            for other, groups in lines.items():
                groups = sorted(groups, key=lambda s: number(s.setting(f"method.{factor}")))
                x = [number(s.setting(f"method.{factor}")) for s in groups]
                y, spread = zip(*(s.group.figure(name) or (math.nan, 0.0) for s in groups), strict=True)
                dashed = groups[0].setting("scope.path").endswith("norm")
                label = f"{other}{' (norm layers)' if dashed else ''}"
                axes.errorbar(x, y, spread, fmt="o--" if dashed else "o-", ms=4, capsize=2, label=label)
            finish(axes, factor, title, named=name == "entropy")
    names = {"delta": "method.delta", "alpha": "method.alpha", "scope": "scope.path", "distance": "method.distance"}
    return figure, [{"setting": s.label, **{k: s.setting(v) for k, v in names.items()}, **figures_of(s)} for s in found]


def ablations(shown: Sequence[Shown]) -> tuple[Figure, Rows]:
    """Draw top-1, unique values and entropy of PWFN where one choice is another than in most runs.

    A choice is one of :data:`ABLATIONS`; runs that differ from most in two of them, or in something else, are left out.
    """
    found = [s for s in shown if s.method == "pwfn" and s.group.figure("acc1")]
    keys = [key for key in (found[0].group.settings if found else ()) if key != "method.name"]
    usual = {key: Counter(s.group.settings[key] for s in found).most_common(1)[0][0] for key in keys}
    rows: Rows = []
    for s in found:
        unlike = [key for key in keys if s.group.settings[key] not in (usual[key], MISSING)]
        factors = {name for name, start in ABLATIONS.items() for key in unlike if key.startswith(start)}
        outside = [key for key in unlike if not any(key.startswith(start) for start in ABLATIONS.values())]
        if len(factors) <= 1 and not outside:
            chosen = " ".join(f"{heading(key).rpartition('.')[2]}={s.group.settings[key]}" for key in unlike)
            rows.append({"choice": next(iter(factors), "reference"), "value": chosen or "as most", **figures_of(s)})
    if len(rows) < 2 or not any(row["choice"] == "reference" for row in rows):
        raise Lacking(
            "no pwfn runs side by side that differ in sigma_join, delta, prior, regulariser or dataset.randomise alone"
        )
    rows.sort(key=lambda row: ["reference", *ABLATIONS].index(row["choice"]))
    figure = Figure(figsize=(14, 1.5 + 0.35 * len(rows)))
    panels: Any = figure.subplots(1, len(FIGURES), sharey=True)
    for (name, title), axes in zip(FIGURES.items(), panels, strict=True):
        values, spread = [row[name] for row in rows], [row.get(f"{name}_std", 0.0) for row in rows]
        axes.errorbar(values, range(len(rows)), xerr=spread, fmt="o", color=FINAL, capsize=2)
        axes.axvline(values[0], color="black", lw=0.7, ls=":")
        axes.set_xlabel(title)
    panels[0].set_yticks(range(len(rows)), [f"{row['choice']}: {row['value']}" for row in rows], fontsize=8)
    panels[0].invert_yaxis()
    return figure, rows


def figures_of(s: Shown) -> dict[str, float]:
    """Mean and, over several seeds, standard deviation of a group's figures, by column."""
    columns: dict[str, float] = {"runs": len(s.group.runs)}
    for name in ("baseline_acc1", "acc1", "ensemble_acc1", "unique", "entropy"):
        found = s.group.figure(name)
        if found is not None:
            columns[name] = found[0]
            if len(s.group.runs) > 1:
                columns[f"{name}_std"] = found[1]
    return columns

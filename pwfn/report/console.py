"""The text that a run prints on the terminal: a line for each round, a summary at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["HEADER", "print_summary", "round_line"]

HEADER = (
    f"{'round':>5} {'fixed':>6} {'before':>6} {'after':>6} {'unique':>8} {'of fixed':>8} {'bits':>5} {'order':>5} "
    f"{'delta':>8} {'train s':>7} {'fix s':>6}"
)
"""The heading of the table of rounds, see :func:`round_line`."""

FIGURES = (
    ("test top-1 %", "acc1", ".2f"),
    ("test top-5 %", "acc5", ".2f"),
    ("  ensemble of draws, top-1 %", "ensemble_acc1", ".2f"),
    ("calibration error", "ece", ".4f"),
    ("loss, nats", "nll", ".4f"),
    ("Brier score", "brier", ".4f"),
    ("unique values", "unique", ",.0f"),
    ("entropy, bits a weight", "entropy", ".2f"),
    ("  without zeros", "entropy_nonzero", ".2f"),
    ("zeros", "sparsity", ".1%"),
)
"""Rows of the summary: label, key (the baseline's begins with ``baseline_``), format."""

SIZES = (
    ("MB as float32", "float32"),
    ("MB as float16", "float16"),
    ("MB float32 through zstd", "zstd"),
    ("MB with indices of fixed width", "fixed_width"),
    ("MB entropy-coded: model.pwfn", "entropy_coded"),
    ("  codebook", "codebook"),
    ("  not shared", "unquantised"),
)
"""Sizes of the summary, in MB of a million bytes."""


def round_line(row: Mapping[str, float]) -> str:
    """Format one row of the table of rounds, 80 columns wide: bits per weight, accuracy in percent on validation."""
    before, after = row.get("acc1_before", float("nan")), row.get("acc1_after", float("nan"))
    return (
        f"{row['round']:>5.0f} {row['fraction']:>6.1%} {before:>6.2f} {after:>6.2f} {row['unique']:>8.0f} "
        f"{row['unique_fixed']:>8.0f} {row['entropy']:>5.2f} {row['order_last']:>5.0f} {row['delta_last']:>8.3g} "
        f"{row['train_seconds']:>7.0f} {row['cluster_seconds']:>6.1f}"
    )


def print_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """Print baseline against result, where the files are, and how to send an offline run to W&B."""
    table = Table(title=f"{summary['method']} · {summary['model']} · {summary['dataset']} · seed {summary['seed']}")
    for column in ("", "baseline", "fixed"):
        table.add_column(column, justify="left" if not column else "right")
    for label, name, style in FIGURES:
        values = [summary.get(f"baseline_{name}"), summary.get(name)]
        if values[1] is not None:
            table.add_row(label, *("" if value is None else format(value, style) for value in values))
    table.add_row("weights in scope", "", f"{summary['params_in_scope']:,} of {summary['params']:,}")
    for label, name in SIZES:
        table.add_row(label, "", f"{summary['sizes'][name] / 1e6:.3f}")
    ratios = [f"{summary['sizes'][name]:.1f}" for name in ("ratio_float32", "ratio_float16")]
    table.add_row("  times smaller than float32, float16", "", ", ".join(ratios))
    table.add_row("seconds", "", f"{summary['wall_seconds']:.0f}")
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"files: {folder}", highlight=False)
    for run in sorted(folder.glob("wandb/offline-run-*")):
        console.print(f"to W&B: wandb sync {run}", highlight=False)

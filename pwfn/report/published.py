"""Published ImageNet figures for comparison, each with the place that it was taken from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["IMAGENET", "Published"]


@dataclass(frozen=True)
class Published:
    """Holds the figures of one published network.

    Attributes:
        method, model: as in the configuration; ``setting`` tells runs of one method apart.
        acc1: ImageNet top-1, percent.
        unique: unique values. Whether WFN's leave zero out is not settled.
        entropy: bits a weight; None where not known. Whether WFN's leave zeros out is not settled: the notebook
            of the released code prints both, and its attempt to remove them fails unnoticed.
        baseline: top-1 of the weights that the runs start from, percent, as timm lists it for the tag that the preset
            in ``conf/experiment`` pins.
        source: ``read`` in the paper, or ``remembered`` and to be checked before it is quoted.
        ensemble: top-1 of the ensemble, percent; None where there is none.
    """

    method: str
    model: str
    setting: str
    acc1: float
    unique: int
    entropy: float | None
    baseline: float
    source: Literal["read", "remembered"]
    ensemble: float | None = None


def _wfn(model: str, baseline: float, *rows: tuple[str, float, float, int]) -> tuple[Published, ...]:
    return tuple(
        Published("wfn", model, f"delta {delta}", acc1, unique, entropy, baseline, "read")
        for delta, acc1, entropy, unique in rows
    )


IMAGENET: tuple[Published, ...] = (
    *_wfn("resnet18", 69.75, ("0.0075", 70.3, 4.15, 193), ("0.01", 69.7, 3.01, 164), ("0.015", 67.3, 2.72, 90)),
    *_wfn("resnet34", 73.3, ("0.0075", 73.0, 3.87, 233), ("0.01", 72.6, 3.48, 164), ("0.015", 72.2, 2.83, 117)),
    *_wfn("resnet50", 76.16, ("0.0075", 76.0, 4.11, 261), ("0.01", 75.4, 4.00, 199), ("0.015", 75.1, 3.55, 125)),
    Published("pwfn", "resnet18", "", 70.0, 155, None, 69.75, "remembered", 70.1),
    Published("pwfn", "resnet34", "", 74.3, 154, None, 75.11, "remembered", 74.6),
    Published("pwfn", "resnet50", "", 77.5, 325, None, 80.37, "remembered", 78.3),
    Published("pwfn", "densenet161", "", 77.6, 125, None, 77.35, "remembered", 78.0),
    Published("pwfn", "deit_small_patch16_224", "", 78.1, 356, None, 79.86, "remembered", 78.5),
    Published("pwfn", "deit_tiny_patch16_224", "", 71.2, 296, None, 72.17, "remembered", 71.5),
)
"""WFN's table of ResNets and PWFN's main table."""

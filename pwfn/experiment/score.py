"""Accuracy and calibration of a stream of predictions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

__all__ = ["BINS", "Reliability", "Score", "accuracies"]

BINS = 20
"""Bins of the calibration error."""


class Reliability(Metric):
    """Counts predictions by their confidence, in bins of equal width; a confidence of 1 is in the last one.

    (torchmetrics' calibration error keeps a bin more for the confidence 1, and does not show its bins.)
    """

    totals: Tensor

    def __init__(self, bins: int = BINS) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(bins, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, p: Tensor, targets: Tensor) -> None:
        """Add probabilities ``[B, K]`` and class indices ``[B]``."""
        confidence, prediction = p.double().max(1)
        bins = len(self.totals)
        entry = torch.stack((torch.ones_like(confidence), confidence, (prediction == targets).double()), 1)
        self.totals.index_add_(0, (confidence * bins).long().clamp(max=bins - 1), entry)

    def compute(self) -> Tensor:
        """Return images, mean confidence and accuracy (0 to 1) of each bin, float64 ``[bins, 3]``; 0 in empty bins."""
        count = self.totals[:, :1]
        return torch.cat((count, self.totals[:, 1:] / count.clamp(min=1)), 1)


class Score(nn.Module):
    """Measures accuracy and calibration of a stream of predictions."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.accuracies = accuracies(num_classes)
        self.means = MetricCollection({"nll": MeanMetric(), "brier": MeanMetric()}, compute_groups=False)
        self.reliability = Reliability()

    def update(self, log_p: Tensor, targets: Tensor) -> None:
        """Add log-probabilities ``[B, K]`` and class indices ``[B]``."""
        p = log_p.exp()
        chosen = log_p.gather(1, targets[:, None]).squeeze(1)
        self.accuracies.update(log_p, targets)
        self.means["nll"].update(-chosen)
        self.means["brier"].update(p.square().sum(1) - 2 * chosen.exp() + 1)
        self.reliability.update(p, targets)

    def compute(self) -> dict[str, Any]:
        """Return the figures of all predictions so far.

        Returns:
            ``acc1``, ``acc5`` (percent), ``nll`` (nats), ``brier`` (sum over the classes, 0 to 2), ``ece`` (0 to 1),
            and ``reliability``: ``count``, ``confidence``, ``accuracy`` (0 to 1) of each bin.
        """
        table = self.reliability.compute()
        count, confidence, correct = table.T
        ece = float((count * (confidence - correct).abs()).sum() / count.sum().clamp(min=1))
        rows = [dict(zip(("count", "confidence", "accuracy"), row, strict=True)) for row in table.tolist()]
        accuracies = {name: round(100 * float(value), 4) for name, value in self.accuracies.compute().items()}
        means = {name: float(value) for name, value in self.means.compute().items()}
        return {**accuracies, **means, "ece": ece, "reliability": rows}


def accuracies(num_classes: int) -> MetricCollection:
    """Build the metrics ``acc1`` and ``acc5``, from 0 to 1; of fewer than 5 classes ``acc5`` takes all."""
    return MetricCollection(
        {
            "acc1": MulticlassAccuracy(num_classes, average="micro"),
            "acc5": MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes)),
        }
    )

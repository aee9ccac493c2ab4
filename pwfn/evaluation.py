"""Accuracy of a network with its weights at their means."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

__all__ = ["accuracy"]


@torch.no_grad()
def accuracy(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> dict[str, float]:
    """Top-1 and top-5 accuracy and mean cross-entropy of a network in evaluation mode.

    Under data-parallel training every rank passes its own share of the data and gets the figures of all.

    Args:
        model: the network, on the device to use; left in the mode in which it came.
        loader: batches of images and class indices.
        num_classes: width of the logits; fewer than 5 classes give a top-k of as many.

    Returns:
        ``acc1`` and ``acc5`` in percent, ``loss`` in nats.
    """
    device = next(model.parameters()).device
    score = MetricCollection(
        {
            "acc1": MulticlassAccuracy(num_classes, average="micro"),
            "acc5": MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes)),
        }
    ).to(device)
    loss = MeanMetric().to(device)
    training = model.training
    model.eval()
    for images, targets in loader:
        logits = model(images.to(device, non_blocking=True)).float()
        targets = targets.to(device, non_blocking=True)
        score.update(logits, targets)
        loss.update(nn.functional.cross_entropy(logits, targets), len(targets))
    model.train(training)
    result = {name: 100 * float(value) for name, value in score.compute().items()}
    return {**result, "loss": float(loss.compute())}

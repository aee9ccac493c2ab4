"""Measures of a network: accuracy, calibration, ensembles of weight draws, accuracy under weight noise.

Figures are added up batch by batch; no table of all predictions is held.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from pwfn.experiment.perturbation import drawn, perturbed
from pwfn.experiment.score import Score, accuracies

__all__ = ["Loader", "Settings", "accuracy", "ensemble", "noise_curve", "perturbed", "quality"]

Loader = Iterable[tuple[Tensor, Tensor]]
"""Batches of images and class indices."""


@dataclass(frozen=True)
class Settings:
    """Says how the networks of a run are measured.

    Attributes:
        draws: sizes of the ensembles.
        noise: scales of the weight noise, see :func:`noise_curve`.
        noise_draws: networks drawn per scale.
        round_draws: size of the ensemble that is measured on validation images before and after each round; 0 for none.
        seed: of all draws.
    """

    draws: Sequence[int] = (1, 5, 10, 20)
    noise: Sequence[float] = (0.05, 0.1, 0.2)
    noise_draws: int = 3
    round_draws: int = 0
    seed: int = 0


@torch.no_grad()
def accuracy(model: nn.Module, loader: Loader, num_classes: int) -> dict[str, float]:
    """Measure top-1 and top-5 accuracy and mean cross-entropy of a network in evaluation mode.

    Under data-parallel training every rank passes its own share of the data and gets the figures of all.

    Args:
        model: the network, on the device to use; left in the mode in which it came.
        loader: batches of images and class indices.
        num_classes: width of the logits; fewer than 5 classes give a top-k of as many.

    Returns:
        ``acc1`` and ``acc5`` in percent, ``loss`` in nats.
    """
    device = next(model.parameters()).device
    score, loss = accuracies(num_classes).to(device), MeanMetric().to(device)
    training = model.training
    model.eval()
    for images, targets in _batches(loader, device):
        logits = model(images).float()
        score.update(logits, targets)
        loss.update(nn.functional.cross_entropy(logits, targets), len(targets))
    model.train(training)
    result = {name: 100 * float(value) for name, value in score.compute().items()}
    return {**result, "loss": float(loss.compute())}


@torch.no_grad()
def quality(model: nn.Module, loader: Loader, num_classes: int) -> dict[str, Any]:
    """Measure all figures of a network in evaluation mode, see :meth:`pwfn.experiment.score.Score.compute`."""
    device = next(model.parameters()).device
    score = Score(num_classes).to(device)
    model.eval()
    for images, targets in _batches(loader, device):
        score.update(model(images).float().log_softmax(1), targets)
    return score.compute()


@torch.no_grad()
def ensemble(
    model: nn.Module,
    sigma: Mapping[str, Tensor] | None,
    loader: Loader,
    num_classes: int,
    draws: Sequence[int] = (1, 5, 10, 20),
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Average the softmax over draws ``mu + sigma * eps`` of the weights; labels take no part in it.

    The network stays in evaluation mode (norm layers use their running statistics). A draw is the same network
    for every image, and the first draws of a large ensemble are those of a small one.

    Args:
        model: a plain network, its weights being mu; they are the same to the bit afterwards.
        sigma: by parameter name; None for a network converted by :func:`pwfn.to_gaussian`, which has its own.
        loader: batches of images and class indices, read once.
        num_classes: width of the logits.
        draws: sizes of the ensembles to score.
        seed: of the draws; figures repeat on the same kind of device.

    Returns:
        One entry per size, ascending: ``draws``, and the figures of :meth:`pwfn.experiment.score.Score.compute`.
    """
    device = next(model.parameters()).device
    scores = {size: Score(num_classes).to(device) for size in sorted(set(draws))}
    model.eval()
    with drawn(model) if sigma is None else perturbed(model, sigma) as draw:
        for images, targets in _batches(loader, device):
            total: Tensor | None = None
            for size in range(1, max(scores, default=0) + 1):
                draw(_seed(seed, size), 1.0)
                log_p = model(images).float().log_softmax(1)
                total = log_p if total is None else torch.logaddexp(total, log_p)
                if size in scores:
                    scores[size].update(total - math.log(size), targets)
    return [{"draws": size, **score.compute()} for size, score in scores.items()]


@torch.no_grad()
def noise_curve(
    model: nn.Module,
    names: Iterable[str],
    loader: Loader,
    num_classes: int,
    scales: Sequence[float] = (0.05, 0.1, 0.2),
    *,
    draws: int = 3,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Measure top-1 accuracy with Gaussian noise on the weights.

    The noise on a weight has the standard deviation ``scale * rms(its tensor)``: relative to the tensor and not
    to the weight, since a network of many zeros would otherwise be spared most of it. All scales see the same
    draws.

    Args:
        model: a plain network; its weights are the same to the bit afterwards.
        names: the parameters that get noise.
        loader: batches of images and class indices, read once.
        num_classes: width of the logits.
        scales: of the noise.
        draws: networks drawn per scale.
        seed: of the draws; figures repeat on the same kind of device.

    Returns:
        One entry per scale, ascending: ``scale``, ``acc1`` (mean over the draws, percent) and ``acc1_std``
        (their sample standard deviation, 0 for one draw).
    """
    device = next(model.parameters()).device
    rms = {name: model.get_parameter(name).square().mean().sqrt() for name in names}
    order = sorted(set(scales))
    scores = [[MulticlassAccuracy(num_classes, average="micro").to(device) for _ in range(draws)] for _ in order]
    model.eval()
    with perturbed(model, rms) as draw:
        for images, targets in _batches(loader, device):
            for scale, row in zip(order, scores, strict=True):
                for i, score in enumerate(row):
                    draw(_seed(seed, i), scale)
                    score.update(model(images).float(), targets)
    curve = []
    for scale, row in zip(order, scores, strict=True):
        found = 100 * torch.stack([score.compute() for score in row]).double()
        spread = float(found.std()) if draws > 1 else 0.0
        curve.append({"scale": float(scale), "acc1": float(found.mean()), "acc1_std": spread})
    return curve


def _batches(loader: Loader, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for images, targets in loader:
        yield images.to(device, non_blocking=True), targets.to(device, non_blocking=True)


def _seed(seed: int, index: int) -> int:
    """Seed one draw, so that runs with neighbouring seeds share none."""
    return seed * 1_000_003 + index

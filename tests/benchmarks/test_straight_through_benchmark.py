"""Training at shared values against plain training of the same network, in one process.

    python -m pytest tests/benchmarks/test_straight_through_benchmark.py -s

Both are 24 steps of Lightning's loop with momentum, of which the last eight count, after the codebook has come to rest.
At shared values all weights are assigned anew before every eighth step. The sensitivity is the same for all weights: it
is measured once a run, before the first step. The teacher is the network's own start. Trainings take turns, so that a
busy machine slows both.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import lightning as L
import pytest
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pwfn.classifier import Classifier
from pwfn.distillation import Distillation
from pwfn.gaussian import to_gaussian
from pwfn.model.cifar_resnet import cifar_resnet20
from pwfn.straight_through import StraightThrough

STEPS, WARM = 24, 16
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "ResNet-20 for CIFAR, 32 px": (cifar_resnet20, 32, 128),
    "ResNet-18, 64 px": (partial(timm.create_model, "resnet18", num_classes=10), 64, 64),
}


class Clock(L.Callback):
    """Reads the time at step ``WARM`` and after the last one; to be the first of the callbacks."""

    start = end = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == WARM:
            self.start = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        self.end = time.perf_counter()


def seconds(model: nn.Module, size: int, batch: int, *, shared: bool, taught: bool) -> float:
    """Seconds of a step."""
    model = copy.deepcopy(model)
    clock, callbacks, distillation = Clock(), list[L.Callback](), None
    if taught:
        distillation = Distillation(weight=0.5)
        distillation.keep(model)
    if shared:
        to_gaussian(model, prior=None)
        callbacks = [StraightThrough(2.0, start=4.0, max_unique=32, steps=10 * STEPS)]
    images = torch.randn(STEPS * batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(images, torch.arange(STEPS * batch) % 10)
    classifier = Classifier(model, partial(torch.optim.SGD, lr=1e-3, momentum=0.9), 10, distillation=distillation)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[clock, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, DataLoader(data, batch_size=batch))
    return (clock.end - clock.start) / (STEPS - WARM)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_at_shared_values(name: str) -> None:
    torch.manual_seed(0)
    make, size, batch = NETWORKS[name]
    model = make()
    kinds = [(False, False), (True, False), (False, True), (True, True)]
    rows = [[seconds(model, size, batch, shared=shared, taught=taught) for shared, taught in kinds] for _ in range(3)]
    print(f"\n{name}, batch {batch}: plain {median(row[0] for row in rows):.3f} s a step")
    for column, against, what in (
        (1, 0, "shared values"),
        (3, 2, "shared values, both with a teacher"),
        (2, 0, "a teacher alone"),
    ):
        ratios = sorted(row[column] / row[against] for row in rows)
        print(f"{what}: {median(ratios):.3f} x plain ({ratios[0]:.3f} to {ratios[-1]:.3f})")

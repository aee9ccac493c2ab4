"""A PWFN training step against the same network's plain fine-tuning step, in one process.

    python -m pytest tests/benchmarks/test_step_benchmark.py -s

Draws are fresh ones, and those of a table.

Both steps are forward, backward, gradient clipping at 1 and SGD with momentum; PWFN's also draws the weights,
applies the regulariser and projects sigma. The two take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest
import timm
import torch
from torch import nn

from pwfn import regulariser
from pwfn.classifier import parameter_groups
from pwfn.gaussian import to_gaussian
from pwfn.kernels.noise import Draws, Table, normals
from pwfn.pull import pull_sigmas

CPU = [("resnet18", 64, 64, False)]
GPU = [(name, 224, 128, compiled) for name in ("resnet50", "deit_tiny_patch16_224") for compiled in (False, True)]


def step_of(
    name: str, size: int, batch: int, device: str, *, noise: Draws | None, compiled: bool
) -> Callable[[], None]:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=100).to(device)
    if noise is not None:
        to_gaussian(model, noise=noise)
    optimizer = torch.optim.SGD(parameter_groups(model), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
    images = torch.randn(batch, 3, size, size, device=device)
    labels = torch.randint(100, (batch,), device=device)
    parameters = list(model.parameters())
    if compiled:
        model.compile()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        if noise is not None:
            pull_sigmas(model, regulariser.linear)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def seconds(step: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@pytest.mark.parametrize(("name", "size", "batch", "compiled"), GPU if torch.cuda.is_available() else CPU)
def test_training_step(name: str, size: int, batch: int, compiled: bool) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps = [step_of(name, size, batch, device, noise=noise, compiled=compiled) for noise in (None, normals, Table())]
    for _ in range(2):
        for step in steps:
            seconds(step, device)
    times = [[seconds(step, device) for step in steps] for _ in range(9)]
    how = f"{device}{', compiled' if compiled else ''}"
    print(f"\n{name} {size} px batch {batch} {how}: plain {median(row[0] for row in times):.4f} s")
    for column, noise in ((1, "fresh"), (2, "table")):
        ratios = sorted(row[column] / row[0] for row in times)
        print(f"pwfn, noise={noise}: {median(ratios):.3f} x plain ({ratios[0]:.3f} to {ratios[-1]:.3f})")

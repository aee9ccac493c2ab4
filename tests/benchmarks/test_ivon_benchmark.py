"""What sigma learned by variational online Newton is worth to rate-distortion fixing, against plain training.

``python -m pytest tests/benchmarks/test_ivon_benchmark.py -s`` fine-tunes ResNet-20 on CIFAR-10 for ``EPOCHS`` (2.5),
by SGD and by IVON (Shen et al. 2024, algorithm 1, with the prior around the starting weights), and fixes each network
without further training: by error feedback, and plainly with the learned sigma as sensitivity.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from pwfn import rate_distortion
from pwfn.model.cifar_resnet import cifar_resnet20
from pwfn.rate_distortion import fisher
from pwfn.rate_distortion.norm_statistics import reestimate
from pwfn.scope import conv_linear

EPOCHS = float(os.environ.get("EPOCHS", "2.5"))
SEED = int(os.environ.get("SEED", "1"))
IMAGES = 50_000
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@cache
def cifar10(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images as uint8 ``[N, 3, 32, 32]`` and their classes."""
    images, classes = [], []
    for number, path in enumerate(sorted(folder.glob(f"{split}_*.webp"))):
        sheet = pil_to_tensor(Image.open(path).convert("RGB"))
        images.append(sheet.unfold(1, 32, 32).unfold(2, 32, 32).permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32))
        classes.append(torch.full((len(images[-1]),), number))
    return torch.cat(images), torch.cat(classes)


def wanted(images: Tensor) -> Tensor:
    return ((images / 255 - MEAN[:, None, None]) / DEVIATION[:, None, None]).to(memory_format=torch.channels_last)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to four pixels, black beyond the border, every other one mirrored."""
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    moved = []
    for image in padded:
        x, y, mirrored = torch.randint(0, 9, (3,), generator=generator).tolist()
        crop = image[:, y : y + 32, x : x + 32]
        moved.append(crop.flip(2) if mirrored % 2 else crop)
    return wanted(torch.stack(moved))


def batches(data: tuple[Tensor, Tensor], size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        for chosen in torch.randperm(len(data[0]), generator=generator).split(size):
            yield augmented(data[0][chosen], generator), data[1][chosen]


@torch.no_grad()
def right(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    model.eval()
    hits = [model(wanted(x)).argmax(1) == y for x, y in zip(data[0].split(500), data[1].split(500), strict=True)]
    return 100 * float(torch.cat(hits).float().mean())


class Ivon:
    """A Gaussian posterior over weights: mean m and Hessian h, with ``sigma**-2 = n (h + decay)``.

    Each step draws ``w = m + sigma eps``; with the gradient g there, ``h' = g eps / sigma`` estimates the Hessian.
    """

    def __init__(self, weights: list[nn.Parameter], h: list[Tensor], *, lr: float, decay: float, memory: float) -> None:
        self.weights, self.h, self.decay, self.memory = weights, h, decay, memory
        self.start = [w.detach().clone() for w in weights]
        self.momentum = [torch.zeros_like(w) for w in weights]
        # a weight of average curvature moves as by SGD of this rate
        self.lr, self.steps = lr * float(torch.cat([x.flatten() for x in h]).mean() + decay), 0

    def sigmas(self) -> list[Tensor]:
        return [(IMAGES * (h + self.decay)).rsqrt() for h in self.h]

    @torch.no_grad()
    def draw(self) -> None:
        self.eps = [torch.randn_like(w) for w in self.weights]
        self.means = [w.clone() for w in self.weights]
        for w, sigma, eps in zip(self.weights, self.sigmas(), self.eps, strict=True):
            w.addcmul_(sigma, eps)

    @torch.no_grad()
    def step(self, share: float) -> None:
        self.steps += 1
        kept = self.memory
        for i, (w, sigma) in enumerate(zip(self.weights, self.sigmas(), strict=True)):
            assert w.grad is not None
            seen, h = w.grad * self.eps[i] / sigma, self.h[i]
            self.momentum[i].mul_(0.9).add_(w.grad, alpha=0.1)
            h.copy_(kept * h + (1 - kept) * seen + 0.5 * (1 - kept) ** 2 * (h - seen) ** 2 / (h + self.decay))
            slope = self.momentum[i] / (1 - 0.9**self.steps) + self.decay * (self.means[i] - self.start[i])
            w.copy_(self.means[i] - self.lr * share * slope / (h + self.decay))


def start(shared: Path) -> nn.Module:
    model = cifar_resnet20()
    model.load_state_dict(load_file(shared / "data" / "resnet20_cifar10.safetensors"))
    return model.to(memory_format=torch.channels_last)


def scoped(model: nn.Module) -> list[nn.Parameter]:
    return [getattr(module, key) for _, module, key in conv_linear(model)]


def curvature(model: nn.Module, data: tuple[Tensor, Tensor], damping: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.randperm(len(data[0]), generator=generator)[:4000]
    images = (augmented(data[0][part], generator) for part in chosen.split(25))
    return fisher.diagonal(model.eval(), scoped(model), images, generator=generator, damping=damping)


def train(model: nn.Module, data: tuple[Tensor, Tensor], ivon: Ivon | None, lr: float) -> None:
    """Cosine from ``lr`` to 0, batches of 128; what is not in scope learns by SGD in either case."""
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    steps = round(EPOCHS * IMAGES / 128)
    mine = {id(p) for p in scoped(model)} if ivon is not None else set()
    sgd = torch.optim.SGD([p for p in model.parameters() if id(p) not in mine], lr=lr, momentum=0.9)
    model.train()
    for step, (x, y) in zip(range(steps), batches(data, 128, generator), strict=False):
        share = 0.5 * (1 + math.cos(math.pi * step / steps))
        sgd.param_groups[0]["lr"] = lr * share
        if ivon is not None:
            ivon.draw()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        sgd.step()
        if ivon is not None:
            ivon.step(share)


def fixed(model: nn.Module, data: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], bits: float) -> str:
    """Accuracy after error feedback on 2,000 images."""
    model, generator = copy.deepcopy(model).float(), torch.Generator().manual_seed(SEED)
    chosen = torch.randperm(len(data[0]), generator=generator)[:2000]
    found = rate_distortion.fix(model, augmented(data[0][chosen], generator), bits, seed=SEED)
    return f"{right(model, test):.2f} % at {found.bits:.2f} bits"


def plainly(
    model: nn.Module, sensitivity: list[Tensor], data: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> str:
    """Accuracy after assignment at 3 bits by these sensitivities, without error feedback."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(SEED)
    weights = scoped(model)
    flat = torch.cat([x.detach().flatten() for x in weights])
    found = rate_distortion.assign(flat, torch.cat([x.flatten() for x in sensitivity]), bits=3.0)
    torch.nn.utils.vector_to_parameters(found.values, weights)
    chosen = torch.randperm(len(data[0]), generator=generator)[:10_000]
    reestimate(model, (augmented(data[0][part], generator) for part in chosen.split(128)))
    return f"{right(model, test):.2f} %"


@pytest.mark.parametrize("decay", [0.02, 0.2])
def test_ivon(shared: Path, decay: float) -> None:
    data, test = cifar10(shared / "data" / "cifar10", "train"), cifar10(shared / "data" / "cifar10", "test")
    model = start(shared)
    ivon = Ivon(scoped(model), curvature(model, data, 0.02), lr=0.01, decay=decay, memory=0.999)
    before = right(model, test)
    train(model, data, ivon, lr=0.01)
    sigma = torch.cat([x.flatten() for x in ivon.sigmas()])
    sensitivity = [h + decay for h in ivon.h]
    print(
        f"\nIVON, decay {decay}, {EPOCHS} epochs, seed {SEED}: {before:.2f} % -> {right(model, test):.2f} %,"
        f" sigma {sigma.quantile(0.1):.4f} to {sigma.quantile(0.9):.4f}\n"
        f"  error feedback: {', '.join(fixed(model, data, test, bits) for bits in (2.5, 2.0))}\n"
        f"  plainly at 3 bits: its sigma {plainly(model, sensitivity, data, test)},"
        f" Fisher {plainly(model, curvature(model, data, 0.02), data, test)},"
        f" equal {plainly(model, [torch.ones_like(h) for h in sensitivity], data, test)}"
    )
    assert before == pytest.approx(91.73, abs=0.2) and bool((sigma > 0).all())


def test_sgd(shared: Path) -> None:
    data, test = cifar10(shared / "data" / "cifar10", "train"), cifar10(shared / "data" / "cifar10", "test")
    model = start(shared)
    train(model, data, None, lr=0.01)
    print(
        f"\nSGD, {EPOCHS} epochs, seed {SEED}: {right(model, test):.2f} %\n"
        f"  error feedback: {', '.join(fixed(model, data, test, bits) for bits in (2.5, 2.0))}\n"
        f"  plainly at 3 bits: Fisher {plainly(model, curvature(model, data, 0.02), data, test)}"
    )
    assert right(model, test) > 90

"""APoT: its levels by hand, the scale by brute force, and training at its values."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pwfn import method
from pwfn.apot import order_of
from pwfn.apot_learning import ApotLearning
from pwfn.callback import WeightFixing
from pwfn.classifier import Classifier
from pwfn.gaussian import flat_weights, gaussian_weights, to_gaussian
from pwfn.rounds import Rounds
from pwfn.scaled_apot import BITS, assign, fit, levels, nearest, refit, uniform


def test_levels_by_hand() -> None:
    assert levels(2).tolist() == [0, 1]  # ternary with the sign
    assert (8 * levels(3)).tolist() == [0, 1, 2, 4]
    assert (16 * levels(4)).tolist() == [0, 1, 2, 3, 4, 6, 8, 10]  # one of 0, 8, 4, 1 and one of 0, 2
    # one of 0, 32, 8, 2 and one of 0, 16, 4, 1
    assert (64 * levels(5)).tolist() == [0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48]
    for bits in BITS:
        assert len(levels(bits)) == 2 ** (bits - 1) and int(order_of(levels(bits)).max()) == (1 if bits < 4 else 2)


@pytest.mark.parametrize("bits", [1, 6, 4.5])
def test_other_bits_are_refused(bits: Any) -> None:
    with pytest.raises(ValueError, match="bits must be one of 2, 3, 4, 5"):
        ApotLearning(bits)
    with pytest.raises(ValueError, match="edge_bits must be a whole number"):
        ApotLearning(4, edge_bits=bits if bits != 6 else 17)


def test_an_assignment_by_hand() -> None:
    """At scale 2 the levels of 3 bits are 0, 1/4, 1/2, 1: 0.4 is nearer to 1/2, 5 is clipped to 1."""
    w = torch.tensor([0.4, -0.3, 5.0, 0.1, -0.76, 0.0])
    found = assign(w, levels(3), torch.tensor(2.0))
    assert found.values.tolist() == [0.5, -0.25, 1.0, 0.0, -1.0, 0.0]
    assert found.centroids.tolist() == [-1.0, -0.25, 0.0, 0.5, 1.0] and found.counts.tolist() == [1, 1, 2, 1, 1]
    assert found.orders.tolist() == [1, 1, 0, 1, 1] and found.group.tolist() == [3, 1, 4, 2, 0, 2]
    assert found.reaches.tolist() == pytest.approx([0.24, 0.05, 0.1, 0.1, 4.0])


def test_orders_are_those_of_the_levels_whatever_the_scale() -> None:
    scale = torch.tensor(0.3137, dtype=torch.float64)
    sums = torch.cat((-levels(5).flip(0), levels(5)[1:]))
    found = assign((scale * sums).float(), levels(5), scale)
    assert found.orders.tolist() == order_of(sums).tolist()
    assert order_of(found.centroids).max() > 5  # of the floats themselves


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(BITS), st.integers(0, 10_000), st.integers(1, 60))
def test_no_scale_of_a_dense_grid_is_better(bits: int, seed: int, count: int) -> None:
    w = torch.randn(count, generator=torch.Generator().manual_seed(seed)) ** 3

    def error(scale: Tensor) -> float:
        return float((w - scale * nearest(w, levels(bits), scale)).square().sum())

    largest = w.abs().max().double() / levels(bits)[-1]
    grid = min(error(largest * k / 500) for k in range(5, 800))
    scale = fit(w, levels(bits))
    assert error(scale) <= 1.02 * grid + 1e-9
    assert float(refit(w, levels(bits), scale)) == pytest.approx(float(scale), rel=1e-6)  # nothing to improve


@pytest.mark.parametrize("bits", BITS)
def test_weights_that_are_levels_are_found(bits: int) -> None:
    w = 0.37 * torch.cat((-levels(bits), levels(bits), levels(bits)[-1:])).float()
    scale = fit(w, levels(bits))
    assert torch.allclose(assign(w, levels(bits), scale).values, w, rtol=1e-6)


def test_the_layout_of_the_weights_is_kept_without_a_warning() -> None:
    w = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = nearest(w, levels(4), torch.tensor(2.0))
    finally:
        torch.set_warn_always(False)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, nearest(w.contiguous(), levels(4), torch.tensor(2.0)))


def test_weights_of_zero_stay_zero() -> None:
    zeros = torch.zeros(5)
    assert float(fit(zeros, levels(4))) == 1 and assign(zeros, levels(4), fit(zeros, levels(4))).values.equal(zeros)
    assert float(refit(zeros, levels(4), torch.tensor(0.5))) == 0.5


def network() -> nn.Module:
    L.seed_everything(0, verbose=False)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)]
    return to_gaussian(nn.Sequential(*layers), prior=None)


def test_after_training_by_layer() -> None:
    """First and last layer and biases uniformly, the layer between at one of the levels times its own scale."""
    model = network()
    weights = {name: mu.detach().clone() for name, mu, _ in gaussian_weights(model)}
    values = ApotLearning(3, edge_bits=5)(model).values.split([w.numel() for w in weights.values()])
    for (name, w), found in zip(weights.items(), values, strict=True):
        if name == "2.weight":
            scale = fit(w, levels(3))
            expected = nearest(w, levels(3), scale) * scale
        else:
            step = w.abs().max().double() / 15
            expected = (w / step).round() * step
        assert torch.allclose(found, expected.flatten().float(), atol=1e-6), name


class Interruption(L.Callback):
    """Stops a training at some step."""

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == 21:
            raise InterruptedError


def train(folder: Path, *callbacks: L.Callback, resume: str | None = None) -> Classifier:
    """Four epochs of 8 steps on points in the plane, with 3 bits."""
    model, learning = network(), ApotLearning(3)
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    rounds = Rounds([1.0], first_epochs=4, first_fraction=1.0)
    trainer = L.Trainer(
        max_epochs=4,
        callbacks=[
            learning,
            WeightFixing(rounds, assign=method.straight_through, propose=learning),
            ModelCheckpoint(folder, filename="last", enable_version_counter=False),
            *callbacks,
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        plugins=[LightningEnvironment()],
    )
    classifier = Classifier(model, partial(torch.optim.SGD, lr=0.1, momentum=0.9), 3)
    trainer.fit(classifier, DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8), ckpt_path=resume)
    return classifier


def test_training_computes_with_the_values_and_learns(tmp_path: Path) -> None:
    losses: list[float] = []
    seen: set[int] = set()

    def look(trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        losses.append(float(trainer.callback_metrics["train/loss"]))
        seen.add(len(module.model[2].weight.unique()))

    classifier = train(tmp_path, LambdaCallback(on_train_batch_end=look))
    assert sum(losses[-8:]) < 0.5 * sum(losses[:8])
    assert max(seen) <= 7  # of 3 bits, in every step
    weights = {name: mu for name, mu, _ in gaussian_weights(classifier)}
    assert flat_weights(classifier).fixed.all() and len(weights["model.2.weight"].unique()) <= 7


def test_resume_is_exact(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole").state_dict()
    with pytest.raises(InterruptedError):
        train(tmp_path / "cut", Interruption())
    resumed = train(tmp_path / "cut", resume=str(tmp_path / "cut" / "last.ckpt")).state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_uniform_levels() -> None:
    assert uniform(8).tolist() == list(range(128))

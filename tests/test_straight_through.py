from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pwfn import compression, method
from pwfn import prior as priors
from pwfn.apot import order_of
from pwfn.assignment import Assignment, from_values
from pwfn.callback import WeightFixing
from pwfn.classifier import Classifier
from pwfn.gaussian import flat_weights, gaussian_weights, to_deterministic, to_gaussian
from pwfn.rate_distortion.codes import code_of
from pwfn.rate_distortion.reassignment import Sharing, begin, falling, follow, reassign, settle
from pwfn.rounds import Round, Rounds
from pwfn.straight_through import StraightThrough, normalised


def test_falling_target() -> None:
    assert [falling(p, 5.0, 3.0, 0.5) for p in (0.0, 0.25, 0.5, 1.0)] == [5.0, 3.5, 3.0, 3.0]
    assert falling(0.0, 5.0, 3.0, 0.0) == 3.0


def test_lambda_follows_the_entropy() -> None:
    assert follow(2.0, 3.0, 3.0) == 2.0
    assert follow(2.0, 3.1, 3.0) == pytest.approx(2 * math.exp(0.07))
    assert follow(2.0, 2.9, 3.0) == pytest.approx(2 * math.exp(-0.07))
    assert follow(2.0, 9.0, 3.0) == pytest.approx(2 * math.exp(0.5))


def test_one_assignment_by_hand() -> None:
    # counts 1, 1, 2 of 4: lengths 2, 2, 1 bit. The weight 0.55 of D = 1 pays for 0.5: 0.00125 + 2 lambda, for 1:
    # 0.10125 + lambda. The longer code is worth its bit while lambda < 0.1; at twice that D while lambda < 0.2.
    code = code_of(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), torch.tensor([1, 1, 2]))
    w = torch.tensor([0.55, 0.55, 1.0, 1.0])
    d = torch.tensor([1.0, 2.0, 1.0, 1.0])
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))  # 0.81
    values, after = reassign(w, d, Sharing(code, 0.15), target=0.7, max_unique=3)
    assert values.tolist() == [1.0, 0.5, 1.0, 1.0]
    assert after.code.values.tolist() == [0.5, 1.0] and after.code.counts.tolist() == [1, 3]
    assert after.scale == pytest.approx(0.15 * math.exp(0.7 * (entropy - 0.7)))
    values, after = reassign(w, d, Sharing(code, 0.15), target=1.0, max_unique=3)  # 0.81 bits would fall short
    assert values.tolist() == [0.5, 0.5, 1.0, 1.0] and after.scale < 0.1
    values, after = reassign(w, d, Sharing(code, 0.15), target=1.5, max_unique=3)  # more than the weights need
    assert values.tolist() == [0.5, 0.5, 1.0, 1.0] and after.scale == 0.15
    values, _ = reassign(w, d, Sharing(code, 0.15), target=0.0, max_unique=1)  # the most used value remains
    assert values.tolist() == [1.0] * 4


@pytest.mark.parametrize("bits", [1.5, 2.5])
def test_first_and_last_assignment_meet_their_target(bits: float) -> None:
    w = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) / 4
    d = torch.rand(20_000, generator=torch.Generator().manual_seed(1)) + 0.1
    values, sharing = begin(w, d, torch.arange(-32, 33, dtype=torch.float64) / 16, bits + 0.2, 65)
    for target, unique in ((bits + 0.2, 65), (bits, 12)):
        values, sharing = settle(w, d, sharing, target, unique)
        assert target - 0.02 <= compression.entropy(values) <= target
        assert compression.entropy(values) == pytest.approx(sharing.code.entropy)
        assert compression.unique(values) <= unique


def test_no_value_ends_below_the_floor() -> None:
    """Nor where the first assignment is the last one; without a floor some do."""
    w = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) / 4
    d = torch.rand(20_000, generator=torch.Generator().manual_seed(1)) + 0.1
    candidates = torch.arange(-32, 33, dtype=torch.float64) / 16
    _, sharing = begin(w, d, candidates, 2.7, 65)
    assert sharing.code.counts.min() < 0.01 * len(w)
    only, _ = begin(w, d, candidates, 2.5, 12, 0.01)
    for shared, target in ((settle(w, d, sharing, 2.5, 65, 0.01)[0], 2.5), (only, 2.5)):
        assert shared.unique(return_counts=True)[1].min() >= 0.01 * len(w)
        assert target - 0.02 <= compression.entropy(shared) <= target
    after = reassign(w, d, sharing, 2.7, 65, 0.01)[1].code
    assert set(after.values.tolist()) < set(sharing.code.values.tolist())


def test_forward_has_the_value_and_mu_the_gradient() -> None:
    model = to_gaussian(nn.Linear(3, 1, bias=False), prior=None)
    _, mu, weight = next(gaussian_weights(model))
    weight.straight_through = True
    weight.centroid.copy_(torch.tensor([[0.1, 0.25, 3e-8]]))
    weight.free.copy_(torch.tensor([[1.0, 0.0, 1.0]]))
    assert torch.equal(model.train().weight, weight.centroid) and torch.equal(model.eval().weight, weight.centroid)
    model(torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert mu.grad is not None and mu.grad.tolist() == [[1.0, 0.0, 3.0]]
    values = weight.centroid.clone()
    assert torch.equal(to_deterministic(model).weight, values)


def test_power_of_the_sensitivity() -> None:
    d = torch.tensor([100.0, 25.0])
    torch.testing.assert_close(normalised(d, 1.0), torch.tensor([1.6, 0.4]))
    torch.testing.assert_close(normalised(d, 0.5), torch.tensor([4 / 3, 2 / 3]))
    with pytest.raises(ValueError, match="positive"):
        normalised(torch.tensor([1.0, 0.0]), 0.5)


class Interruption(L.Callback):
    """Stops the training before step ``step``, as if the process had died after the last checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise InterruptedError


class Changes(L.Callback):
    """The number of weights whose value changed, for every step."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.first: torch.Tensor | None = None
        self.before: torch.Tensor | None = None

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        now = flat_weights(pl_module).mu
        self.first = now if self.first is None else self.first
        self.seen.append(-1 if self.before is None else int((now != self.before).sum()))
        self.before = now


def fit(
    folder: Path,
    *callbacks: L.Callback,
    resume: str | None = None,
    prior: Any = None,
    devices: int = 1,
    initial: Callable[[nn.Module], Assignment] | None = None,
) -> Classifier:
    """Four epochs of 16 steps on points in the plane."""
    L.seed_everything(0, verbose=False)
    model = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    to_gaussian(model, prior=prior)
    sensitivity = torch.rand(323).add_(0.1)
    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8)
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    classifier = Classifier(model, optimizer, 3)
    learning = StraightThrough(
        2.0, start=4.0, every=4, max_unique=10, min_exponent=-6, sensitivity=lambda _: sensitivity, initial=initial
    )
    trainer = L.Trainer(
        max_epochs=4,
        callbacks=[
            learning,
            WeightFixing(Rounds([1.0], first_epochs=4, first_fraction=1.0), assign=method.straight_through),
            ModelCheckpoint(folder, filename="last", enable_version_counter=False),
            *callbacks,
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        plugins=[LightningEnvironment()],
    )
    trainer.fit(classifier, loader, ckpt_path=resume)
    return classifier


def quarters(model: nn.Module, rank: int = 0) -> Assignment:
    """Every weight at the nearest quarter; on another rank at values of its own."""
    return from_values(flat_weights(model).mu.mul(4).round().div(4) + rank)


def test_learning_starts_from_the_values_given(tmp_path: Path) -> None:
    plain, given = Changes(), Changes()
    fit(tmp_path / "plain", plain)
    fit(tmp_path / "given", given, initial=quarters)
    assert plain.first is not None and given.first is not None
    assert not torch.equal(plain.first, given.first)
    assert {*given.first.tolist()} <= {k / 4 for k in range(-4, 5)}


@pytest.mark.parametrize("prior", [None, priors.pow2])
def test_a_training_ends_at_its_bits(tmp_path: Path, prior: Any) -> None:
    changes = Changes()
    classifier = fit(tmp_path, changes, prior=prior)
    flat = flat_weights(classifier)
    assert flat.fixed.all()
    assert 1.75 <= compression.entropy(flat.mu) <= 2.0  # 323 weights: the entropy moves in jumps
    assert compression.unique(flat.mu) <= 10
    assert int(order_of(flat.mu).max()) <= 2
    assert all(n == 0 for step, n in enumerate(changes.seen[1:], 1) if step % 4 and step != 54)
    assert any(changes.seen[4:55:4])
    assert not any(changes.seen[55:])  # the last 15% of 64 steps
    values = flat.mu.clone()
    weights = [w.flatten() for w in to_deterministic(classifier.model).parameters() if w.ndim == 2]
    assert set(torch.cat(weights).tolist()) <= set(values.tolist())


def test_resume_is_exact(tmp_path: Path) -> None:
    started: list[nn.Module] = []

    def initial(model: nn.Module) -> Assignment:
        started.append(model)
        return quarters(model)

    whole = fit(tmp_path / "whole", initial=initial).state_dict()
    with pytest.raises(InterruptedError):
        fit(tmp_path / "cut", Interruption(37), initial=initial)
    assert len(started) == 2
    resumed = fit(tmp_path / "cut", resume=str(tmp_path / "cut" / "last.ckpt"), initial=initial).state_dict()
    assert len(started) == 2  # the checkpoint goes on from there
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_ranks_share_the_same_values(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if "running" not in name:  # norm layers see images of their own
            assert torch.equal(value, second[name]), name
    shared = torch.cat([value.flatten() for name, value in first.items() if name.endswith("centroid")])
    assert compression.unique(shared) <= 10


def test_fixing_refuses_weights_that_share_nothing() -> None:
    mu = torch.randn(100)
    with pytest.raises(ValueError, match="needs its callback"):
        method.straight_through(mu, mu, Round())
    waiting = method.straight_through(mu, mu, Round(0.5, 0, 2))  # rounds before the last one only measure
    assert not waiting.fixed.any() and torch.equal(waiting.values, mu) and (waiting.group == -1).all()
    assigned = method.straight_through(torch.tensor([0.5, 0.0, 0.5, 0.5]), mu, Round())
    assert assigned.group.tolist() == [1, 0, 1, 1] and assigned.orders.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 6.0}, "start"),
        ({"ramp": 0.9, "freeze": 0.2}, "together"),
        ({"every": 0}, "start at 1"),
        ({"floor": 1.0}, "floor"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StraightThrough(**settings)


def test_the_last_assignment_may_come_from_elsewhere() -> None:
    """Two of four steps assign; the last of them takes what it is given, and the weights keep it."""
    given = torch.tensor([0.5, 0.25, 0.5, -1.0])
    asked: list[torch.Tensor] = []

    def feedback(model: nn.Module) -> Assignment:
        asked.append(torch.cat([mu.detach().flatten() for _, mu, _ in gaussian_weights(model)]))
        return from_values(given)

    model = to_gaussian(nn.Sequential(nn.Linear(4, 1, bias=False)), prior=None)
    learning = StraightThrough(1.5, start=2.0, ramp=0.5, freeze=0.25, every=4, feedback=feedback, steps=4)
    learning.setup(None, model, "fit")  # type: ignore[arg-type]
    learning._assign(model, 0.0, last=False)
    assert not asked and not torch.equal(flat_weights(model).mu, given)
    learning._assign(model, 1.0, last=True)
    assert torch.equal(flat_weights(model).mu, given) and len(asked) == 1
    assert learning.sharing is not None and learning.sharing.code.values.tolist() == [-1.0, 0.25, 0.5]
    assert learning.sharing.code.entropy == pytest.approx(1.5)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    trained = fit(folder, devices=2, initial=lambda model: quarters(model, 0 if model.global_rank == 0 else 1))
    torch.save(trained.state_dict(), folder / f"{trained.global_rank}.pt")

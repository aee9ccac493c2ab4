"""The released code's training: how far fixed weights drift, what acts on sigma, and what a round starts from."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pwfn import clustering, prior, regulariser
from pwfn.callback import WeightFixing, fix
from pwfn.classifier import Classifier, parameter_groups
from pwfn.gaussian import GaussianWeight, flat_weights, gaussian_weights, to_deterministic, to_gaussian
from pwfn.pull import LAMBDA, pull_sigmas
from pwfn.released import ReleasedLearning, ReleasedWeight
from pwfn.rounds import Rounds

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)


def layer(values: list[float]) -> tuple[nn.Module, nn.Parameter, GaussianWeight]:
    model = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([values]))
    to_gaussian(model, prior=prior.constant, weight=ReleasedWeight)
    _, mu, weight = next(gaussian_weights(model))
    return model, mu, weight


def step(model: nn.Module, optimizer: torch.optim.Optimizer, *, pull: bool = False) -> None:
    optimizer.zero_grad()
    model.train()(torch.ones(4, 3, dtype=next(model.parameters()).dtype)).square().sum().backward()
    if pull:
        pull_sigmas(model, regulariser.linear, LAMBDA)
    optimizer.step()


@pytest.mark.parametrize("steps", [1, 100])
def test_a_fixed_mu_decays(steps: int) -> None:
    """``0.25 exp(-lr decay S_n)``, ``S_n = sum_k (1 - 0.9**k) / 0.1``; the next round starts from there."""
    model, mu, weight = layer([0.25, 0.1, -0.3])
    model.double()  # in float32 rounding alone moves it by 1e-6 in 100 steps
    weight.free[0, 0] = 0
    optimizer = torch.optim.SGD(parameter_groups(model), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    for _ in range(steps):
        step(model, optimizer)
    drift = sum((1 - 0.9**k) / 0.1 for k in range(1, steps + 1))
    assert float(mu[0, 0].detach()) == pytest.approx(0.25 * math.exp(-1e-7 * drift), rel=1e-6, abs=0)
    assert float(flat_weights(model).mu[0]) == float(mu[0, 0].detach())
    assert mu[0, 1] != 0.1


def test_a_drifted_power_of_two_goes_to_zero() -> None:
    """The smallest power, 2**-2, slips below itself; with zero_fix the next round sends it to 0."""
    model, mu, weight = layer([0.25, 0.1, -0.3])
    weight.free[0, 0] = 0
    optimizer = torch.optim.SGD(parameter_groups(model), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    for _ in range(3):
        step(model, optimizer)
    assert mu[0, 0] < 0.25
    assert fix(model, 1.0, partial(_assign, min_exponent=-2)).values[0] == 0


def _assign(mu: Tensor, sigma: Tensor, fraction: float, *, min_exponent: int) -> Any:
    return clustering.assign(mu, sigma, fraction, delta=1.0, min_exponent=min_exponent)


def test_decay_and_pull_on_a_fixed_sigma() -> None:
    """One step by the formula: p - lr (g + decay p), g minus lambda max(0, S - sigma) |eps|."""
    model, _, weight = layer([0.25, 0.1, -0.3])
    assert weight.sigma is not None
    weight.free[0, 0] = 0
    before = weight.sigma.detach().double().clone()
    optimizer = torch.optim.SGD(parameter_groups(model), lr=100.0, momentum=0.9, weight_decay=1e-4)
    step(model, optimizer, pull=True)
    assert weight.eps is not None
    pull = LAMBDA * (0.05 - before) * weight.eps.abs()
    expected = before - 100 * (1e-4 * before - pull)
    assert float(weight.sigma.detach()[0, 0]) == pytest.approx(float(expected[0, 0]), rel=1e-6)
    assert float(weight.sigma.detach()[0, 1]) != pytest.approx(float(expected[0, 1]), rel=1e-3)


def test_below_its_floor_sigma_is_dead() -> None:
    model, mu, weight = layer([0.25, 0.1, -0.3])
    assert weight.sigma is not None
    with torch.no_grad():
        weight.sigma[0, 1] = -0.01
    model.train()(torch.ones(4, 3)).square().sum().backward()
    assert weight.sigma.grad is not None and mu.grad is not None
    assert weight.sigma.grad[0, 1] == 0 and weight.sigma.grad[0, 0] != 0 and mu.grad[0, 1] != 0
    assert float(weight.sigma.detach()[0, 1]) == pytest.approx(-0.01)
    assert float(flat_weights(model).sigma[1]) == 2.0**-30
    fix(model, 0.3, partial(_assign, min_exponent=-7))  # takes 0.25, which is a power of two
    assert weight.fixed.tolist() == [[True, False, False]]
    assert float(weight.sigma.detach()[0, 1]) == pytest.approx(-0.01)  # stuck


def test_back_to_the_plain_network() -> None:
    model, mu, weight = layer([0.25, 0.1, -0.3])
    weight.free[0, 0] = 0
    with torch.no_grad():
        mu[0, 0] = 0.2499
    assert to_deterministic(model).weight.tolist() == [pytest.approx([0.2499, 0.1, -0.3])]


def test_every_round_begins_with_a_new_optimizer() -> None:
    """Momentum is 0 at the first step after a round, and not at the others."""
    rounds = Rounds([0.5, 1.0], first_epochs=2, first_fraction=1.0, rest_epochs=2)
    seen: list[int] = []

    def note(trainer: L.Trainer, *_: Any) -> None:
        seen.append(len(trainer.optimizers[0].state))

    trainer = L.Trainer(
        max_epochs=4,
        callbacks=[ReleasedLearning(rounds), WeightFixing(rounds), LambdaCallback(on_train_batch_start=note)],
        reload_dataloaders_every_n_epochs=1,
        accelerator="cpu",
        **QUIET,
    )
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    model = to_gaussian(nn.Linear(6, 3), weight=ReleasedWeight)
    optimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-4)
    trainer.fit(Classifier(model, optimizer, 3), DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8))
    assert [bool(n) for n in seen] == [False, True, True, True, False, True, True, True]


class Gradients(L.Callback):
    """Notes the gradients of sigma, and the draw, before an optimizer step."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        (weight,) = (w for _, mu, w in gaussian_weights(pl_module) if mu.ndim == 2)
        assert weight.sigma is not None and weight.sigma.grad is not None and weight.eps is not None
        self.seen.append(tuple(t.detach().clone() for t in (weight.sigma.grad, weight.sigma, weight.eps, weight.fixed)))


def test_linear_on_grad_is_silent_before_round_0_and_turns_gradients_after_it() -> None:
    """Later ``|g| - lambda share``, the share that of the positive gradients, on fixed weights too."""
    rounds = Rounds([0.5, 1.0], first_epochs=1, first_fraction=1.0, rest_epochs=1)
    before, after, pull = Gradients(), Gradients(), partial(regulariser.linear_on_grad, s=0.05, temperature=0.1)
    trainer = L.Trainer(
        max_epochs=2,
        callbacks=[before, ReleasedLearning(rounds, regulariser=pull, weight=0.25), WeightFixing(rounds), after],
        reload_dataloaders_every_n_epochs=1,
        accelerator="cpu",
        **QUIET,
    )
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = to_gaussian(nn.Linear(6, 3), weight=ReleasedWeight)
    trainer.fit(
        Classifier(model, partial(torch.optim.SGD, lr=1e-4), 3), DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8)
    )
    assert len(before.seen) == 4
    for (raw, _, _, fixed), (pulled, *_) in zip(before.seen[:2], after.seen[:2], strict=True):
        assert torch.equal(raw, pulled) and not fixed.any() and (raw < 0).any()
    for (raw, sigma, eps, fixed), (pulled, *_) in zip(before.seen[2:], after.seen[2:], strict=True):
        share = regulariser.linear_on_grad(sigma, eps, raw.abs())
        assert torch.allclose(pulled, raw.abs() - 0.25 * share, atol=1e-7) and (raw < 0).any()
        assert fixed.any() and (pulled[fixed] < 0).any()

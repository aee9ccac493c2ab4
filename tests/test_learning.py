from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from timm.data import Mixup
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pwfn import prior, regulariser
from pwfn.classifier import Classifier, parameter_groups
from pwfn.gaussian import gaussian_weights, to_gaussian
from pwfn.learning import GaussianLearning
from pwfn.pull import pull_sigmas
from pwfn.rounds import Rounds


def network() -> nn.Module:
    torch.manual_seed(0)
    return to_gaussian(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), prior=prior.constant)


def snapshot(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    weights = list(gaussian_weights(model))
    mu = torch.cat([mu.detach().flatten() for _, mu, _ in weights])
    return mu, torch.cat([w.sigma.detach().flatten() for _, _, w in weights if w.sigma is not None])


class Changes(L.Callback):
    """For every step, whether mu and sigma changed and whether the weights were noisy."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, bool, bool]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.before = snapshot(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        changed = [not torch.equal(a, b) for a, b in zip(self.before, snapshot(pl_module), strict=True)]
        layer = pl_module.model[0]
        self.seen.append((*changed, not torch.equal(layer.weight, layer.parametrizations.weight.original)))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("joint", [(True, True, True)] * 8),
        ("halves", [(True, False, False)] * 4 + [(False, True, True)] * 4),
        ("sigma_only", [(False, True, True)] * 8),
    ],
)
def test_schedules(schedule: Any, expected: list[tuple[bool, bool, bool]]) -> None:
    rounds = Rounds([1.0], first_epochs=2, first_fraction=1.0)
    changes = Changes()
    trainer = L.Trainer(
        max_epochs=2,
        callbacks=[GaussianLearning(rounds, schedule=schedule), changes],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8)
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
    trainer.fit(Classifier(network(), optimizer, 3), loader)
    assert changes.seen == expected


def trained(schedule: Any, rounds: Rounds, batches: int) -> list[tuple[bool, bool, bool]]:
    changes = Changes()
    trainer = L.Trainer(
        max_epochs=rounds.epochs,
        callbacks=[GaussianLearning(rounds, schedule=schedule), changes],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    x = torch.randn(8 * batches, 6, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8)
    trainer.fit(Classifier(network(), partial(torch.optim.SGD, lr=0.05), 3), loader)
    return changes.seen


def test_alternate_goes_by_whole_epochs_after_a_joint_start() -> None:
    rounds = Rounds([0.5, 1.0], first_epochs=1, first_fraction=1.0, rest_epochs=3)
    joint, mu, sigma = (True, True, True), (True, False, False), (False, True, True)
    assert trained("alternate", rounds, 2) == [joint] * 2 + [mu] * 4 + [sigma] * 2
    with pytest.raises(ValueError, match=r"^schedule alternate needs 2 epochs"):
        GaussianLearning(Rounds(rest_epochs=1), schedule="alternate")


@pytest.mark.parametrize("pull", [regulariser.linear, regulariser.hinge, regulariser.linear_on_grad])
def test_accumulated_gradients_average_the_pulls(pull: Any) -> None:
    """No gradient of the loss, lr 1: sigma rises by lambda times the mean pull of three micro-batches, unless the
    softmin asks for the mean of |eps| itself."""
    draws: list[torch.Tensor] = []
    model = network()
    _, _, weight = next(gaussian_weights(model))
    assert weight.sigma is not None
    sigma = weight.sigma.detach().clone()

    def note(*_: Any) -> None:
        assert weight.eps is not None
        draws.append(weight.eps.clone())

    trainer = L.Trainer(
        max_epochs=1,
        accumulate_grad_batches=3,
        callbacks=[GaussianLearning(regulariser=pull, weight=0.01), LambdaCallback(on_train_batch_end=note)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    nothing = Classifier(model, partial(torch.optim.SGD, lr=1.0), 3, criterion=lambda logits, _: 0 * logits.sum())
    trainer.fit(nothing, DataLoader(TensorDataset(torch.randn(24, 6), torch.zeros(24, dtype=torch.long)), 8))
    assert len(draws) == 3
    mean = sum(pull(sigma, eps, torch.zeros_like(eps)) for eps in draws) / 3
    torch.testing.assert_close(weight.sigma.detach(), sigma + 0.01 * mean)


def test_pull_raises_sigma_of_free_weights_only() -> None:
    model = network()
    (_, _, first), (_, _, bias), *_ = gaussian_weights(model)
    first.free[0] = 0
    model.train()(torch.randn(4, 6)).square().sum().backward()
    assert first.sigma is not None and first.sigma.grad is not None and first.eps is not None
    assert bias.sigma is not None and bias.sigma.grad is not None
    before, bias_before = first.sigma.grad.clone(), bias.sigma.grad.clone()
    pull_sigmas(model, regulariser.linear, 2.0)
    pull = 2.0 * (0.05 - first.sigma.detach()) * first.eps.abs()
    pull[0] = 0
    torch.testing.assert_close(first.sigma.grad, before - pull)
    assert torch.equal(bias.sigma.grad, bias_before)
    pull_sigmas(model, regulariser.linear, 2.0, biases=True)
    assert (bias.sigma.grad < bias_before).any()


def test_pull_on_fixed_weights_whose_sigma_learns() -> None:
    model = network()
    _, _, weight = next(gaussian_weights(model))
    weight.free.zero_()
    weight.retrain_sigma = True
    model.train()(torch.randn(4, 6)).square().sum().backward()
    assert weight.sigma is not None and weight.sigma.grad is not None
    before = weight.sigma.grad.clone()
    pull_sigmas(model, regulariser.hinge, 0.5)
    torch.testing.assert_close(weight.sigma.grad, before - 0.5)


def test_no_weight_decay_on_sigma() -> None:
    model = network()
    decayed, sigmas = parameter_groups(model)
    assert sigmas["weight_decay"] == 0 and "weight_decay" not in decayed
    assert {id(p) for p in sigmas["params"]} == {id(w.sigma) for _, _, w in gaussian_weights(model)}
    assert len(list(decayed["params"])) + len(list(sigmas["params"])) == len(list(model.parameters()))


def test_divergence_stops_the_run() -> None:
    x = torch.full((8, 6), float("nan"))
    trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    classifier = Classifier(network(), partial(torch.optim.SGD, lr=0.1), 3)
    with pytest.raises(FloatingPointError, match=r"step 0: lower optimizer\.lr"):
        trainer.fit(classifier, DataLoader(TensorDataset(x, torch.zeros(8, dtype=torch.long)), 4))


def test_mixed_batches_count_by_their_larger_share_and_validation_is_not_mixed() -> None:
    torch.manual_seed(0)
    model, mixup = nn.Linear(6, 3), Mixup(mixup_alpha=0.8, label_smoothing=0.1, num_classes=3)
    mixed: list[tuple[torch.Tensor, torch.Tensor]] = []
    shown: list[float] = []

    def kept(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixed.append(mixup(images.clone(), targets))
        assert not torch.equal(mixed[-1][0], images)
        return mixed[-1]

    def note(trainer: L.Trainer, *_: Any) -> None:
        shown.append(float(trainer.callback_metrics["train/acc1"]))

    x = torch.randn(32, 6)
    data = TensorDataset(x, x[:, :3].argmax(1))
    trainer = L.Trainer(
        max_epochs=1,
        callbacks=[LambdaCallback(on_train_batch_end=note)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    classifier = Classifier(model, partial(torch.optim.SGD, lr=0.0), 3, mixup=kept)
    trainer.fit(classifier, DataLoader(data, 8), DataLoader(data, 5))
    expected = [float((model(images).argmax(1) == targets.argmax(1)).float().mean()) for images, targets in mixed]
    assert shown == pytest.approx(expected) and len(set(expected)) > 1
    assert len(mixed) == 4
    correct = (model(x).argmax(1) == x[:, :3].argmax(1)).float().mean()
    assert float(trainer.callback_metrics["val/acc1"]) == pytest.approx(float(correct))

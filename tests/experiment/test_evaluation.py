"""Accuracy, calibration, ensembles and weight noise: known answers and plain references."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from pwfn.experiment.evaluation import accuracy, ensemble, noise_curve, perturbed, quality
from pwfn.experiment.round_score import round_score
from pwfn.experiment.score import Reliability, Score
from pwfn.gaussian import gaussian_weights, to_deterministic, to_gaussian

Batches = list[tuple[Tensor, Tensor]]


class Table(nn.Module):
    """Gives the logits that it holds to the images 0, 1, 2, ..."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images]


def small() -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)
    )
    net(torch.randn(32, 1, 8, 8))  # running statistics that differ from a batch's own
    return net.eval()


def batches(sizes: tuple[int, ...] = (7, 7, 3), classes: int = 6) -> Batches:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(n, 1, 8, 8, generator=generator), torch.randint(classes, (n,), generator=generator)) for n in sizes
    ]


def test_known_answer() -> None:
    """Two images of two classes with p = (3/4, 1/4) and (1/8, 7/8), both of class 0."""
    score = Score(2)
    score.update(torch.tensor([[0.75, 0.25], [0.125, 0.875]]).log(), torch.tensor([0, 0]))
    result = score.compute()
    assert result["acc1"] == 50 and result["acc5"] == 100
    assert result["nll"] == pytest.approx((math.log(4 / 3) + math.log(8)) / 2)
    assert result["brier"] == pytest.approx((2 / 16 + 2 * 49 / 64) / 2)
    # confidences 0.75 (right) and 0.875 (wrong), alone in their bins
    assert result["ece"] == pytest.approx((0.25 + 0.875) / 2)
    filled = {i: row for i, row in enumerate(result["reliability"]) if row["count"]}
    assert filled == {
        15: {"count": 1, "confidence": 0.75, "accuracy": 1},
        17: {"count": 1, "confidence": 0.875, "accuracy": 0},
    }


def test_certain_predictions_share_the_last_bin() -> None:
    """A confidence of exactly 1 is in the bin from 0.95 on, where its error is averaged with the others'."""
    metric = Reliability()
    metric.update(torch.tensor([[1.0, 0.0], [0.96, 0.04]]), torch.tensor([0, 1]))
    assert metric.compute()[-1].tolist() == pytest.approx([2, 0.98, 0.5])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.integers(0, 10_000))
def test_agrees_with_torchmetrics(classes: int, images: int, seed: int) -> None:
    torch.manual_seed(seed)
    log_p, targets = (2 * torch.randn(images, classes)).log_softmax(1), torch.randint(classes, (images,))
    score = Score(classes)
    for part in range(0, images, 16):
        score.update(log_p[part : part + 16], targets[part : part + 16])
    result = score.compute()
    expected = multiclass_calibration_error(log_p.exp(), targets, classes, n_bins=20)
    assert result["ece"] == pytest.approx(float(expected), abs=1e-5)
    assert result["nll"] == pytest.approx(float(nn.functional.nll_loss(log_p, targets)), rel=1e-5)
    onehot = nn.functional.one_hot(targets, classes)
    assert result["brier"] == pytest.approx(float((log_p.exp() - onehot).square().sum(1).mean()), rel=1e-4, abs=1e-6)
    assert sum(row["count"] for row in result["reliability"]) == images


def test_quality_agrees_with_accuracy() -> None:
    net, data = small(), batches()
    plain, full = accuracy(net, data, 6), quality(net, data, 6)
    for name in ("acc1", "acc5"):
        assert full[name] == pytest.approx(plain[name], abs=1e-3)
    assert full["nll"] == pytest.approx(plain["loss"], rel=1e-5)


def test_accuracy_leaves_the_mode() -> None:
    net = small().train()
    accuracy(net, batches(), 6)
    assert net.training


def test_ensemble_averages_softmax_by_a_dense_reference() -> None:
    """All draws of the weights kept, all predictions kept, averaged at the end."""
    net, data = small(), batches()
    names = [name for name, p in net.named_parameters() if p.ndim > 1]
    sigma = {name: torch.full_like(net.get_parameter(name), 0.4) for name in names}
    table = []
    with perturbed(net, sigma) as draw, torch.no_grad():
        for s in range(1, 6):
            draw(11 * 1_000_003 + s, 1.0)
            table.append(torch.cat([net(images) for images, _ in data]).softmax(1))
    targets = torch.cat([t for _, t in data])
    result = ensemble(net, sigma, data, 6, (5, 1, 2), seed=11)
    assert [entry["draws"] for entry in result] == [1, 2, 5]
    for entry in result:
        p = torch.stack(table[: entry["draws"]]).mean(0)
        assert entry["acc1"] == pytest.approx(100 * float((p.argmax(1) == targets).float().mean()), abs=1e-3)
        assert entry["nll"] == pytest.approx(float(nn.functional.nll_loss(p.log(), targets)), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_converted_network_draws_as_its_plain_one(training: bool) -> None:
    """Fixed weights draw with their joined sigma; afterwards the network is as it was, and its noise, too."""
    net = to_gaussian(small()).train(training)
    weights = list(gaussian_weights(net))
    for _, mu, weight in weights:
        fixed = torch.rand(mu.shape) < 0.5
        with torch.no_grad():
            weight.settle(mu, mu.round(decimals=1), fixed, torch.rand(mu.shape) / 5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = round_score(net, batches, 6, draws=5, seed=4)
    assert net.training is training and all(w.training is training and w.eps is None for _, _, w in weights)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    sigmas = {name: sigma.detach() for name, _, w in weights if (sigma := w.deviation()) is not None}
    plain = to_deterministic(net.eval())
    (entry,) = ensemble(plain, sigmas, batches(), 6, [5], seed=4)
    (single,) = ensemble(plain, sigmas, batches(), 6, [1], seed=4)
    assert single["nll"] != pytest.approx(entry["nll"], rel=1e-3)
    assert found["loss"] == pytest.approx(accuracy(plain, batches(), 6)["loss"], rel=1e-6)
    assert found["ensemble_acc1"] == entry["acc1"] and set(found) >= {"acc1", "acc5", "loss"}
    assert found["ensemble_nll"] == pytest.approx(entry["nll"], rel=1e-5)


def test_ensemble_does_not_depend_on_the_batches() -> None:
    net, (one, many) = small(), (batches((17,)), None)
    images, targets = one[0]
    many = [(images[i : i + 2], targets[i : i + 2]) for i in range(0, 17, 2)]
    sigma = {name: torch.full_like(p, 0.3) for name, p in net.named_parameters()}
    first, second = ensemble(net, sigma, one, 6, (4,)), ensemble(net, sigma, many, 6, (4,))
    assert first[0]["nll"] == pytest.approx(second[0]["nll"], rel=1e-5)
    assert first[0]["acc1"] == pytest.approx(second[0]["acc1"])


def test_without_sigma_the_ensemble_is_the_network() -> None:
    net, data = small(), batches()
    sigma = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    plain = quality(net, data, 6)
    for entry in ensemble(net, sigma, data, 6, (1, 3)):
        assert {k: entry[k] for k in ("acc1", "acc5")} == {k: plain[k] for k in ("acc1", "acc5")}
        assert entry["nll"] == pytest.approx(plain["nll"], rel=1e-5)


def test_draws_are_those_of_the_gaussian_network() -> None:
    """The same eps gives the same weights, and norm layers stay in evaluation mode."""
    net, image = small(), torch.randn(2, 1, 8, 8)
    sigma = {name: torch.rand_like(net.get_parameter(name)) for name in ("0.weight", "0.bias", "5.weight", "5.bias")}
    with perturbed(net, sigma) as draw, torch.no_grad():
        draw(1, 1.0)
        expected = net(image)
    to_gaussian(net)
    generator = torch.Generator().manual_seed(1)
    for name, mu, weight in gaussian_weights(net):
        assert weight.sigma is not None
        weight.sigma.data.copy_(sigma[name])
        weight.eps = torch.randn(mu.shape, generator=generator)
        weight.train()
    with torch.no_grad():
        assert torch.equal(net(image), expected)
    to_deterministic(net)


def test_weights_are_back_to_the_bit() -> None:
    net, data = small(), batches()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sigma = {name: torch.full_like(p, 0.1) for name, p in net.named_parameters()}
    ensemble(net, sigma, data, 6, (3,))
    noise_curve(net, sigma, data, 6, (0.1,), draws=2)
    with pytest.raises(RuntimeError, match="interrupted"), perturbed(net, sigma) as draw:
        draw(0, 1.0)
        raise RuntimeError("interrupted")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_ensemble_reads_the_data_once() -> None:
    passes = 0

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal passes
        passes += 1
        yield from batches()

    class Loader:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return stream()

    net = small()
    ensemble(net, {"5.weight": torch.ones(6, 4)}, Loader(), 6, (1, 4))
    assert passes == 1


def test_noise_is_relative_to_the_tensor() -> None:
    """One logit of rms 2, noise of scale 1: the drawn logits have a standard deviation of 2."""
    net = Table(torch.full((1, 20_000), 2.0))
    with perturbed(net, {"logits": torch.tensor(2.0)}) as draw:
        draw(0, 1.0)
        assert float(net.logits.detach().std()) == pytest.approx(2.0, rel=0.03)
    images, targets = torch.arange(200), torch.arange(200) % 10
    certain = Table(100 * nn.functional.one_hot(targets, 10).float())
    curve = noise_curve(certain, ["logits"], [(images, targets)], 10, (10.0, 0.0), draws=4)
    assert [entry["scale"] for entry in curve] == [0.0, 10.0]
    assert curve[0] == {"scale": 0.0, "acc1": 100.0, "acc1_std": 0.0}
    assert 5 < curve[1]["acc1"] < 40 and curve[1]["acc1_std"] > 0


def test_noise_repeats() -> None:
    net, data = small(), batches()
    first = noise_curve(net, ["5.weight"], data, 6, (0.5,), draws=3, seed=4)
    assert first == noise_curve(net, ["5.weight"], data, 6, (0.5,), draws=3, seed=4)

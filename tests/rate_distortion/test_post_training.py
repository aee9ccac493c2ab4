"""Fixing a network in one call."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pwfn import apot, compression, rate_distortion, scope
from pwfn.rate_distortion import fix


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.Conv2d(16, 24, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    ).eval()


def images(n: int = 60) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([getattr(m, key).detach().flatten() for _, m, key in scope.conv_linear(model)])


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("bits", [2.0, 3.5])
def test_every_weight_is_a_shared_value_at_the_wanted_bits(bits: float, shift: bool) -> None:
    model = network()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = fix(model, images(), bits, shift=shift, max_unique=32)
    w = weights(model)
    assert abs(found.bits - bits) <= 0.05
    assert found.unique <= 32 and found.unique_weights == compression.unique(w)
    assert apot.order_of(w).max() <= 2
    assert found.zeros == int((w == 0).sum()) and found.weights == len(w)
    assert math.isclose(sum(found.share.values()), 1, rel_tol=1e-6) and found.distortion > 0
    assert any(found.exponents.values()) == shift
    if not shift:
        assert found.bits == pytest.approx(compression.entropy(w)) and found.unique == found.unique_weights
    assert torch.equal(model[1].weight, before["1.weight"])  # out of scope
    assert found.norm_layers == 1


@pytest.mark.parametrize("shift", [False, True])
def test_no_value_ends_below_the_floor(shift: bool) -> None:
    counts = []
    for floor in (0.0, 0.02):
        model = network()
        found = fix(model, images(), 2.5, floor=floor, shift=shift)
        assert abs(found.bits - 2.5) <= 0.05
        shared = [
            getattr(module, key).detach().flatten() * 2.0 ** -found.exponents.get(f"{name}.{key}", 0)
            for name, module, key in scope.conv_linear(model)
        ]
        counts.append(torch.cat(shared).unique(return_counts=True)[1].min().item() / found.weights)
    assert counts[0] < 0.02 <= counts[1]


def test_more_bits_lose_less() -> None:
    x, before = images(), network()(images())
    away = []
    for bits in (1.5, 2.5, 4.0):
        model = network()
        found = fix(model, x, bits)
        away.append(((model(x) - before).square().mean().item(), found.distortion))
    assert away == sorted(away, reverse=True)
    assert [d for _, d in away] == sorted((d for _, d in away), reverse=True)


def test_feedback_beats_plain_assignment() -> None:
    x, before, model = images(), network()(images()), network()
    fix(model, x, 2.5)
    plain = network()
    w = weights(plain)
    values = rate_distortion.assign(w, torch.ones_like(w), bits=2.5).values
    at = 0
    for _, module, key in scope.conv_linear(plain):
        parameter = getattr(module, key)
        parameter.data.copy_(values[at : at + parameter.numel()].view_as(parameter))
        at += parameter.numel()
    assert (model(x) - before).square().mean() < (plain(x) - before).square().mean()


def test_batches_with_labels_and_little_memory_change_nothing() -> None:
    one, two, three = network(), network(), network()
    x = images()
    fix(one, x)
    fix(two, [(part, torch.zeros(len(part))) for part in x.split(50)])
    assert torch.equal(weights(one), weights(two))
    fix(three, x, memory=1e3)  # each layer alone, kept on disk; other gradients are drawn
    assert compression.unique(weights(three)) <= 64


def test_the_mode_is_kept_and_nothing_is_left_behind() -> None:
    model = network().train()
    fix(model, images())
    assert model.training and all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_a_tied_parameter_is_fixed_once() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    found = fix(model, torch.randn(40, 6), bits=2)
    assert model[2].weight is model[0].weight and found.weights == 36 + 12


def test_dead_inputs_and_dead_layers() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(40, 6)
    x[:, 2] = 0
    with torch.no_grad():
        model[0].bias[:3] = -100.0
    fix(model, x, bits=2)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"bits": 0.0}, "bits"),
        ({"max_unique": 0}, "max_unique"),
        ({"floor": 1.0}, "floor"),
        ({"images": []}, "images"),
        ({"model": nn.ReLU()}, "model"),
        ({"model": nn.Linear(2, 2).requires_grad_(False).apply(lambda m: m.weight.fill_(torch.nan))}, "model"),
    ],
)
def test_errors_name_the_argument(change: dict[str, object], word: str) -> None:
    arguments = {"model": nn.Linear(2, 2), "images": torch.randn(4, 2), **change}
    with pytest.raises(ValueError, match=word):
        fix(**arguments)  # type: ignore[arg-type]


def test_the_package_gives_what_it_announces() -> None:
    assert rate_distortion.fix is fix and set(rate_distortion.__all__) <= set(dir(rate_distortion))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rate_distortion.nothing  # noqa: B018

from __future__ import annotations

import math
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pwfn.classifier import Classifier
from pwfn.distillation import Distillation, divergence, normalised_anew


def logits(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def kept(network: nn.Module, **settings: float) -> Distillation:
    distillation = Distillation(**settings)
    distillation.keep(network)
    return distillation


def test_divergence_by_hand() -> None:
    # KL((1/2, 1/2), (1/4, 3/4)) = 1/2 log 2 + 1/2 log 2/3
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert float(divergence(logits(0.25, 0.75), logits(0.5, 0.5))) == pytest.approx(expected, rel=1e-6)
    # at T = 2 logits (0, log 9) are those of (1/4, 3/4)
    assert float(divergence(logits(0.1, 0.9), logits(0.5, 0.5), 2.0)) == pytest.approx(4 * expected, rel=1e-6)
    both = torch.cat((logits(0.25, 0.75), logits(0.5, 0.5))), logits(0.5, 0.5).expand(2, 2)
    assert float(divergence(*both)) == pytest.approx(expected / 2, rel=1e-6)  # the mean over images


def test_gradient_keeps_its_size_as_the_temperature_grows() -> None:
    student = torch.tensor([[1.0, -1.0]], requires_grad=True)
    (grad,) = torch.autograd.grad(divergence(student, torch.zeros(1, 2), 1000.0), student)
    torch.testing.assert_close(grad, torch.tensor([[0.5, -0.5]]), rtol=1e-3, atol=1e-3)  # difference / classes


def test_mixture_and_its_ends() -> None:
    network, images = nn.Linear(2, 2), torch.randn(3, 2)
    start = network(images).detach()
    loss, other = torch.tensor(2.0), start + torch.tensor([1.0, 0.0])
    apart = float(divergence(other, start, 4.0))
    assert apart > 0
    assert float(kept(network)(loss, other, images)) == pytest.approx(1 + apart / 2)
    assert float(kept(network)(loss, start, images)) == pytest.approx(1, abs=1e-6)
    assert kept(network, weight=0.0)(loss, other, images) is loss
    assert float(kept(network, weight=1.0)(loss, other, images)) == pytest.approx(apart)


def test_teacher_is_a_frozen_copy_outside_of_the_checkpoint() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    distillation = kept(network)
    before = {name: value.clone() for name, value in distillation.teacher.state_dict().items()}
    classifier = Classifier(network, partial(torch.optim.SGD, lr=0.1), 3, distillation=distillation)
    assert not any("teacher" in name for name in classifier.state_dict())
    assert len(list(classifier.parameters())) == len(list(network.parameters()))
    x = torch.randn(32, 4)
    trainer = L.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(classifier, DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 8))
    assert not distillation.teacher.training
    for name, value in distillation.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not torch.equal(network[0].weight, before["0.weight"])


def test_a_given_teacher_is_asked_and_not_the_start() -> None:
    network, teacher, images = nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)), torch.randn(3, 2)
    distillation = Distillation(weight=1.0, teacher=teacher)
    distillation.keep(network)
    assert distillation.teacher is teacher and not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    asked, start = teacher(images), network(images).detach()
    assert float(distillation(torch.tensor(9.0), start, images)) == pytest.approx(float(divergence(start, asked, 4.0)))
    assert float(distillation(torch.tensor(9.0), asked, images)) == pytest.approx(0, abs=1e-6)


def test_images_are_normalised_anew_for_a_teacher() -> None:
    raw, teacher = torch.rand(2, 3, 4, 4), nn.Conv2d(3, 5, 3)
    seen, wanted = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)), ((0.5, 0.5, 0.5), (0.5, 0.25, 0.125))

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        return (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    through = normalised_anew(teacher, seen, wanted)
    torch.testing.assert_close(through(normalised(*seen)), teacher(normalised(*wanted)))
    assert normalised_anew(teacher, seen, seen) is teacher


@pytest.mark.parametrize("setting", [{"weight": 1.5}, {"weight": -0.1}, {"temperature": 0.0}])
def test_settings_are_checked(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Distillation(**setting)

"""Statistics of norm layers after the weights have moved."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pwfn.rate_distortion.norm_statistics import correct, reestimate


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.BatchNorm2d(5), nn.Flatten()
    )
    reestimate(model, [images(400, 9)])
    return model.eval()


def images(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) + 0.3


def test_an_unchanged_network_keeps_its_statistics() -> None:
    model = network()
    other = copy.deepcopy(model)
    assert correct(model, other, images(20, 1).split(10)) == 2
    for a, b in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_rescaled_convolution_is_made_up_for() -> None:
    # few images, of another distribution than that of the statistics
    model = network()
    reference = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight *= 1.7
        model[0].bias += 0.4
    x = 2 * images(50, 2)
    before = (model(x) - reference(x)).abs().max()
    correct(model, reference, x.split(25))
    torch.testing.assert_close(model(x), reference(x), atol=1e-3, rtol=1e-3)
    assert before > 0.1
    assert not model.training and not model[1]._forward_pre_hooks and not reference[1]._forward_pre_hooks


def test_a_network_without_norm_layers() -> None:
    model = nn.Linear(2, 2)
    assert correct(model, copy.deepcopy(model), [torch.randn(3, 2)]) == 0
    assert reestimate(model, [torch.randn(3, 2)]) == 3


def test_reestimated_statistics_are_the_mean_over_batches() -> None:
    model = network()
    x = images(60, 3)
    momentum = model[1].momentum
    assert reestimate(model, x.split(20)) == 60
    y = model[0](x)
    torch.testing.assert_close(model[1].running_mean, y.mean((0, 2, 3)))
    var = torch.stack([part.var((0, 2, 3)) for part in y.split(20)]).mean(0)
    torch.testing.assert_close(model[1].running_var, var)
    assert model[1].momentum == momentum and not model[1].training


def test_no_images_leave_the_statistics() -> None:
    model = network()
    before = model[1].running_mean.clone()
    assert reestimate(model, []) == 0
    assert torch.equal(model[1].running_mean, before)


class Unrolled(nn.Module):
    """Is compiled in pieces where it cannot be compiled whole, as loops are not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images)).relu())


def test_a_compiled_network_is_not_compiled_anew() -> None:
    made = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        made.append(graph)
        return graph.forward

    plain = Unrolled().eval()
    compiled = copy.deepcopy(plain)
    compiled.compile(backend=backend)
    batches = images(40, 2).split(20)
    with torch.no_grad():
        compiled(batches[0])
    before = len(made)
    assert before > 0
    reestimate(compiled, batches)
    reestimate(plain, batches)
    assert len(made) == before
    for a, b in zip(compiled.buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        torch.testing.assert_close(compiled(batches[0]), plain(batches[0]))

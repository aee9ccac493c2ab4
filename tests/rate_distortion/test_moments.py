"""What the rows of a layer see, and how much their outputs matter."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d
from torch import Tensor, nn

from pwfn.rate_distortion.fisher import diagonal, draw, sigma
from pwfn.rate_distortion.moments import second_moments
from pwfn.rate_distortion.rows import has_rows, matrix, patches

LAYERS = {
    "plain": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 7, 8)),
    "strided": (nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(2, 1)), (2, 4, 11, 12)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 7, 8)),
    "depthwise": (nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), (2, 4, 7, 8)),
    "pointwise": (nn.Conv2d(4, 6, 1, stride=2), (2, 4, 7, 8)),
    "same": (nn.Conv2d(4, 6, 4, padding="same"), (2, 4, 7, 8)),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 7, 8)),
    "timm same": (Conv2dSame(4, 6, 3, stride=2), (2, 4, 8, 9)),
    "sequence": (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    "linear": (nn.Linear(4, 6), (2, 4)),
    "tokens": (nn.Linear(4, 6), (2, 5, 4)),
}


def output_rows(module: nn.Module, y: Tensor) -> Tensor:
    """Outputs as ``[B, G, R, P]``."""
    if isinstance(module, nn.Linear):
        y = y if y.dim() > 2 else y[:, None]
        return y.mT[:, None]
    return y.flatten(2).unflatten(1, (module.groups, -1))


@pytest.mark.parametrize("name", LAYERS)
def test_a_weight_times_its_patches_is_the_output(name: str) -> None:
    module, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = matrix(module, module.weight)[None] @ patches(module, x)
    if module.bias is not None:
        found = found + module.bias.reshape(1, found.shape[1], -1, 1)
    torch.testing.assert_close(found, output_rows(module, module(x)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("offset", [(0, 0), (1, 1)])
def test_thinned_patches_are_some_of_the_patches(offset: tuple[int, int]) -> None:
    module, shape = LAYERS["strided"]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y = module(x)[:, :, offset[0] :: 2, offset[1] :: 2]
    found = matrix(module, module.weight)[None] @ patches(module, x, 2, offset)
    torch.testing.assert_close(found + module.bias[:, None], y.flatten(2)[:, None], atol=1e-5, rtol=1e-4)


class OneLayer(nn.Module):
    """A layer, then the mean over positions, as logits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y if y.dim() == 2 else y.flatten(2).mean(2)


@pytest.mark.parametrize("name", ["plain", "grouped", "depthwise", "strided", "sequence", "timm same", "linear"])
def test_the_moment_is_the_weighted_mean_of_the_definition(name: str) -> None:
    module, shape = LAYERS[name]
    model = OneLayer(module).eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    moments, _ = second_moments(
        model, [(module, "weight")], [x[:1], x[1:]], generator=torch.Generator().manual_seed(3), positions=10**6
    )
    generator = torch.Generator().manual_seed(3)
    expected: Tensor | float = 0.0
    rows: Tensor | float = 0.0
    for image in x.split(1):
        torch.randint(1, (2,), generator=generator)  # the offset
        y = module(image).detach().requires_grad_()
        logits = y if y.dim() == 2 else y.flatten(2).mean(2)
        (gradient,) = torch.autograd.grad(logits, y, draw(logits, generator))
        columns, g = patches(module, image)[0], output_rows(module, gradient)[0]
        for p in range(columns.shape[-1]):
            outer = columns[:, :, None, p] * columns[:, None, :, p]
            expected = expected + g[:, :, p].square().mean(1)[:, None, None] * outer / len(x)
        rows = rows + g.square().sum(2)
    assert moments[0] is not None
    torch.testing.assert_close(moments[0].inputs, expected, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(moments[0].rows, rows / rows.mean(1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_a_layer_that_does_something_else_with_its_weight_has_no_moment() -> None:
    standardised, idle = ScaledStdConv2d(3, 4, 3), nn.Linear(2, 2)
    model = nn.Sequential(standardised, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    found, _ = second_moments(
        model,
        [(standardised, "weight"), (idle, "weight")],
        [torch.randn(2, 3, 8, 8)],
        generator=torch.Generator().manual_seed(0),
    )
    assert found == [None, None]
    assert not standardised._forward_hooks


def test_which_parameters_have_rows() -> None:
    assert has_rows(nn.Linear(2, 2), "weight") and not has_rows(nn.Linear(2, 2), "bias")
    assert not has_rows(nn.BatchNorm2d(2), "weight") and not has_rows(nn.ConvTranspose2d(2, 2, 3), "weight")
    attention = nn.MultiheadAttention(4, 2)
    assert has_rows(attention, "in_proj_weight") and not has_rows(attention, "in_proj_bias")


def test_in_proj_sees_the_tokens() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0].mean(1)

    model = Tokens().eval()
    x = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    (moment,), _ = second_moments(
        model, [(model.attention, "in_proj_weight")], [x], generator=torch.Generator().manual_seed(0)
    )
    assert moment is not None and moment.inputs.shape == (1, 8, 8) and moment.rows.shape == (1, 24)
    torch.testing.assert_close(
        moment.inputs[0] / moment.inputs[0].trace(), x.flatten(0, 1).mT @ x.flatten(0, 1) / x.square().sum()
    )


def test_drawn_gradients_have_the_covariance_of_the_labels() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    p = logits.softmax(1)[0]
    drawn = draw(logits.expand(200_000, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mT @ drawn / len(drawn), p.diag() - p.outer(p), atol=3e-3, rtol=0)
    assert drawn.mean(0).abs().max() < 3e-3 and drawn.sum(1).abs().max() < 1e-5


def test_the_fisher_information_of_a_linear_layer() -> None:
    model = nn.Linear(3, 4)
    x = torch.randn(512, 3, generator=torch.Generator().manual_seed(0))
    weight, bias = diagonal(
        model,
        [model.weight, model.bias],
        x.repeat(40, 1).split(16),
        generator=torch.Generator().manual_seed(1),
        damping=0,
    )
    p = model(x).softmax(1).detach()
    variance = p * (1 - p)
    torch.testing.assert_close(weight, variance.mT @ x.square() / len(x), rtol=0.2, atol=0)
    torch.testing.assert_close(bias, variance.mean(0), rtol=0.2, atol=0)
    assert model.weight.grad is None


def test_damping_adds_a_share_of_the_mean() -> None:
    model, x = nn.Linear(3, 4), torch.randn(8, 3)
    a, b = (
        diagonal(model, [model.weight], [x], generator=torch.Generator().manual_seed(0), damping=d)[0]
        for d in (0.0, 0.5)
    )
    torch.testing.assert_close(b, a + 0.5 * a.mean())
    with pytest.raises(ValueError, match="images"):
        diagonal(model, [model.weight], [], generator=torch.Generator())


def test_sigma() -> None:
    assert sigma(torch.tensor([1.0, 1e-9]), 100).tolist() == pytest.approx([0.1 * 0.5, 0.05])
    assert sigma(torch.tensor(4.0), 10_000).item() == pytest.approx(0.005)
    with pytest.raises(ValueError, match="images"):
        sigma(torch.ones(1), 0)

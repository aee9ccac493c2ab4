from __future__ import annotations

import copy
import shutil

import pytest
import timm
import torch
from torch import nn

import pwfn
from pwfn import clustering, prior, scope
from pwfn.fixing import fix
from pwfn.gaussian import GaussianWeight, gaussian_weights, to_deterministic, to_gaussian

# small members of many families, at the smallest image they take
ARCHITECTURES = {
    "resnet10t": 32,
    "seresnet18": 32,
    "resnext26ts": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "tf_efficientnet_lite0": 32,  # padding "same"
    "mobilenetv3_small_050": 32,
    "mobilenetv2_035": 32,
    "regnetx_002": 32,
    "regnety_002": 32,
    "ghostnet_050": 32,
    "dpn48b": 32,
    "inception_v4": 96,
    "xception41": 64,
    "resnetv2_50": 32,  # weight-standardised convolutions
    "nf_regnet_b0": 32,  # scaled weight-standardised convolutions with a gain
    "convnext_atto": 32,
    "convnextv2_atto": 32,
    "vit_tiny_patch16_224": 32,
    "deit_tiny_distilled_patch16_224": 32,
    "beit_base_patch16_224": 32,  # reads qkv.weight itself
    "swin_tiny_patch4_window7_224": 56,
    "mixer_s32_224": 224,
    "gmixer_12_224": 224,
    "pit_ti_224": 224,
    "mobilevit_xxs": 64,
    "edgenext_xx_small": 64,
    "levit_128s": 224,
}
RESIZABLE = ("vit", "deit", "beit", "swin")


def build(name: str, size: int) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    extra = {"img_size": size} if name.startswith(RESIZABLE) else {}
    if name.startswith("beit"):
        extra |= {"embed_dim": 48, "depth": 2, "num_heads": 2}
    model = timm.create_model(name, num_classes=7, **extra)
    with torch.no_grad():  # networks start with blocks switched off by a zero gain: switch them on
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return model, torch.randn(2, 3, size, size)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_network(name: str) -> None:
    model, images = build(name, ARCHITECTURES[name])
    plain = model.eval()(images)
    keys, types = sorted(model.state_dict()), [type(m) for m in model.modules()]
    before = {key: value.clone() for key, value in model.named_parameters()}
    places = len({id(getattr(m, key)) for _, m, key in scope.conv_linear(model)})
    converted = to_gaussian(model)
    assert torch.equal(converted(images), plain)

    logits = converted.train()(images)
    (logits if isinstance(logits, torch.Tensor) else logits[0]).square().sum().backward()
    weights = list(gaussian_weights(converted))
    assert len(weights) == places > 0
    reached = [n for n, mu, w in weights if mu.grad is None or w.sigma is None or w.sigma.grad is None]
    assert [n for n in reached if "head_dist" not in n] == []
    assert any(bool(mu.grad.any()) for _, mu, _ in weights if mu.grad is not None)

    restored = to_deterministic(converted).eval()
    assert sorted(restored.state_dict()) == keys
    assert [type(m) for m in restored.modules()] == types
    assert not restored._forward_pre_hooks
    for key, value in before.items():
        assert torch.equal(value, restored.get_parameter(key)), key


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def test_one_draw_per_step_and_mean_in_evaluation() -> None:
    model = to_gaussian(small(), prior=lambda mu: prior.constant(mu, sigma=0.5))
    images = torch.randn(4, 1, 3, 3)
    _, mu, weight = next(gaussian_weights(model))
    model.train()(images)
    first = model[0].weight
    assert torch.equal(model[0].weight, first)  # read again within the step: the same draw
    assert weight.eps is not None
    torch.testing.assert_close(first, mu + 0.5 * weight.eps)
    model(images)
    assert not torch.equal(model[0].weight, first)
    assert torch.equal(model.eval()[0].weight, mu)


def test_draws_are_standard_normal() -> None:
    model = to_gaussian(nn.Sequential(nn.Linear(400, 500)))
    model.train()(torch.randn(1, 400))
    eps = next(gaussian_weights(model))[2].eps
    assert eps is not None
    assert float(eps.mean()) == pytest.approx(0, abs=0.01)
    assert float(eps.std()) == pytest.approx(1, abs=0.01)
    assert float(eps.pow(4).mean()) == pytest.approx(3, abs=0.1)


def test_gradients() -> None:
    layer = nn.Linear(3, 1, bias=False)
    model = to_gaussian(nn.Sequential(layer), prior=lambda mu: prior.constant(mu, sigma=0.1))
    x = torch.tensor([[1.0, -2.0, 3.0]])
    model.train()(x).sum().backward()
    _, mu, weight = next(gaussian_weights(model))
    assert mu.grad is not None and weight.sigma is not None and weight.sigma.grad is not None
    torch.testing.assert_close(mu.grad, x)  # dw/dmu = 1
    torch.testing.assert_close(weight.sigma.grad, x * weight.eps)  # dw/dsigma = eps


def test_fixed_weights_stay_whatever_the_optimizer_does() -> None:
    model = to_gaussian(nn.Sequential(nn.Linear(4, 4)), prior=lambda mu: prior.constant(mu, sigma=0.1))
    _, mu, weight = next(gaussian_weights(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)

    def step() -> None:
        optimizer.zero_grad()
        model.train()(torch.randn(2, 4)).square().sum().backward()
        optimizer.step()

    step()  # momentum is under way
    weight.free[0] = 0
    weight.centroid[0] = 0.375
    assert weight.joined is not None
    weight.joined[0] = 0.01
    for _ in range(3):
        step()
        assert mu.grad is not None and not mu.grad[0].any() and mu.grad[1:].any()
    assert torch.equal(weight.mean(mu)[0], torch.full((4,), 0.375))
    deviation = weight.deviation()
    assert deviation is not None and torch.equal(deviation[0], torch.full((4,), 0.01))
    assert not torch.equal(mu[0], torch.full((4,), 0.375))  # what moved is hidden


def test_sigma_never_falls_below_its_floor() -> None:
    model = to_gaussian(nn.Sequential(nn.Linear(4, 4)))
    _, _, weight = next(gaussian_weights(model))
    assert weight.sigma is not None
    with torch.no_grad():
        weight.sigma.fill_(-1)
    model.train()(torch.randn(2, 4))
    assert torch.equal(weight.sigma, torch.full_like(weight.sigma, prior.SIGMA_MIN))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 3), nn.Linear(3, 3)
        self.decode.weight = self.encode.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))


def test_tied_parameters_stay_tied() -> None:
    model = to_gaussian(Tied())
    assert [name for name, _, _ in gaussian_weights(model)] == ["encode.weight", "encode.bias", "decode.bias"]
    assert len(list(model.parameters())) == 2 * 3
    model.train()(torch.randn(2, 3))
    assert torch.equal(model.encode.weight, model.decode.weight)
    to_deterministic(model)
    assert model.encode.weight is model.decode.weight


def test_scope_all_takes_every_parameter() -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32)
    model.add_module("extra", nn.MultiheadAttention(8, 2))
    names = [name for name, _ in model.named_parameters()]
    plain = model.eval()(images := torch.randn(1, 3, 32, 32))
    to_gaussian(model, scope=scope.all)
    assert sorted(name for name, _, _ in gaussian_weights(model)) == sorted(names)
    assert {"pos_embed", "cls_token", "norm.weight", "extra.in_proj_weight"} <= set(names)
    assert torch.equal(model(images), plain)
    model.train()(images).sum().backward()
    assert type(to_deterministic(model)).__name__ == "VisionTransformer"


def test_scope_with_norms() -> None:
    model = timm.create_model("convnext_atto", num_classes=3)
    small_scope = {f"{name}.{key}" for name, _, key in scope.conv_linear(model)}
    with_norms = {f"{name}.{key}" for name, _, key in scope.conv_linear_norm(model)}
    assert with_norms - small_scope and all(
        "norm" in name or "stem.1" in name or "downsample.0" in name for name in with_norms - small_scope
    )
    everything = {name for name, _ in model.named_parameters()}
    assert small_scope < with_norms < everything


def test_without_noise() -> None:
    model = to_gaussian(small(), prior=None)
    images = torch.randn(4, 1, 3, 3)
    assert torch.equal(model.train()(images), model(images))
    assert all(w.sigma is None for _, _, w in gaussian_weights(model))


def test_state_dict_round_trip_and_deepcopy() -> None:
    model = to_gaussian(small())
    other = to_gaussian(small(), prior=prior.constant)
    other.load_state_dict(model.state_dict())
    for (_, a, v), (_, b, w) in zip(gaussian_weights(model), gaussian_weights(other), strict=True):
        assert torch.equal(a, b) and v.sigma is not None and w.sigma is not None and torch.equal(v.sigma, w.sigma)
    twin = copy.deepcopy(model)
    twin.train()(torch.randn(4, 1, 3, 3))
    eps = [w.eps for _, _, w in gaussian_weights(model)]
    assert eps == [None] * len(eps)


def test_a_compiled_training_step_is_one_graph() -> None:
    model = to_gaussian(timm.create_model("test_resnet", num_classes=3)).train()
    torch._dynamo.reset()
    found = torch._dynamo.explain(model)(torch.randn(2, 3, 32, 32))
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_sees_new_draws_and_new_centroids() -> None:
    """Step by step what the plain network gives, from one compilation for training and one for evaluation."""

    class Small(nn.Sequential):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # torch 2.6 compiles its own Sequential layer by layer
            for layer in self:
                input = layer(input)
            return input

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, images = to_gaussian(Small(*small())), torch.randn(4, 1, 3, 3)
    compiled = copy.deepcopy(eager)
    compiled.compile()
    seen = []
    for fraction in (0.0, 0.4, 1.0):
        for network in (eager, compiled):
            fix(network, fraction, clustering.assign)
        for seed in (1, 2):
            steps = []
            for network in (eager, compiled):
                torch.manual_seed(seed)
                steps.append(network.train()(images))
                steps[-1].square().sum().backward()
            torch.testing.assert_close(*steps)
            seen.append(steps[1].detach())
        with torch.no_grad():
            torch.testing.assert_close(compiled.eval()(images), shared := eager.eval()(images))
        seen.append(shared)
    assert all(not torch.allclose(a, b) for i, a in enumerate(seen) for b in seen[:i])
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_mistakes() -> None:
    model = to_gaussian(small())
    with pytest.raises(ValueError, match="already"):
        to_gaussian(model)
    with pytest.raises(ValueError, match="scope"):
        to_gaussian(nn.Sequential(nn.BatchNorm2d(3)))


def test_public_names() -> None:
    assert pwfn.to_gaussian is to_gaussian and pwfn.to_deterministic is to_deterministic
    assert issubclass(GaussianWeight, nn.Module) and callable(pwfn.load) and callable(pwfn.WeightFixing)

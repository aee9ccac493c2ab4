"""Networks: timm's, the CIFAR ResNets, any other; weights that fit and weights that do not."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from pwfn.gaussian import gaussian_weights, to_gaussian
from pwfn.model import cifar_resnet
from pwfn.model.network import create_timm, load_weights, read_weights, require_head, require_logits


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)],  # He et al., table 6: 0.27, 0.46, 0.66, 0.85 M
)
def test_cifar_resnets_have_the_sizes_of_the_paper(depth: int, parameters: int) -> None:
    model = getattr(cifar_resnet, f"cifar_resnet{depth}")()
    assert sum(p.numel() for p in model.parameters()) == parameters
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def test_shortcut_is_every_second_pixel_and_zero_channels() -> None:
    block = cifar_resnet.BasicBlock(2, 6, 2).eval()
    nn.init.zeros_(block.bn2.weight)  # the residual branch gives 0
    x = torch.arange(32.0).view(1, 2, 4, 4)
    y = block(x)
    assert y.shape == (1, 6, 2, 2)
    assert torch.equal(y[0, 2:4], x[0, :, ::2, ::2])
    assert not y[0, [0, 1, 4, 5]].any()


def test_cifar_resnet20_loads_the_reference_checkpoint(shared: Path) -> None:
    model = cifar_resnet.cifar_resnet20()
    load_weights(model, shared / "data" / "resnet20_cifar10_jpeg.safetensors")
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_cifar_resnet_says_what_it_wants_to_see() -> None:
    config = timm.data.resolve_model_data_config(cifar_resnet.cifar_resnet20())
    assert config["input_size"] == (3, 32, 32)
    assert config["crop_pct"] == 1.0


def test_unknown_name_gets_near_names() -> None:
    with pytest.raises(ValueError, match=r"timm has no network 'resnet181'.*resnet18.*change model.name"):
        create_timm("resnet181")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_in_either_format(tmp_path: Path, suffix: str) -> None:
    source, target, path = nn.Linear(2, 3), nn.Linear(2, 3), tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": source.state_dict(), "epoch": 3}, path)
    else:
        save_file(source.state_dict(), path)
    load_weights(target, path)
    assert torch.equal(source.weight, target.weight)


def test_weights_that_do_not_fit_are_named_and_change_nothing(tmp_path: Path) -> None:
    path, model = tmp_path / "weights.safetensors", nn.Linear(2, 3)
    save_file({"weight": torch.zeros(4, 2), "bais": torch.zeros(3)}, path)
    before = model.weight.clone()
    expected = r"missing bias; unexpected bais; weight is \(4, 2\) instead of \(3, 2\).*change model.checkpoint"
    with pytest.raises(ValueError, match=expected):
        load_weights(model, path)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("name", ["none.safetensors", "cut.safetensors", "cut.pt", "code.pt", "list.pt"])
def test_unreadable_weights_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.startswith("cut"):
        path.write_bytes(b"\x80\x02 not weights")
    elif name == "code.pt":
        torch.save(nn.Linear(1, 1), path)  # a pickled module: code
    elif name == "list.pt":
        torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=rf"{name}.*change model.checkpoint"):
        read_weights(path)


def test_pretrained_head_of_another_width_is_refused() -> None:
    model = timm.create_model("resnet18.tv_in1k", num_classes=10)
    with pytest.raises(ValueError, match="the pretrained head has 1000 classes, the data 10"):
        require_head(model, 10)
    require_head(timm.create_model("test_resnet.r160_in1k"), 1000)
    require_head(nn.Linear(1, 10), 10)  # nothing known of it


def test_one_blank_image_tells_whether_network_and_data_fit() -> None:
    model = cifar_resnet.cifar_resnet20(num_classes=7)
    require_logits(model, (3, 32, 32), 7)
    assert model.training
    with pytest.raises(ValueError, match=r"gives \(1, 7\) where logits of \(1, 10\)"):
        require_logits(model, (3, 32, 32), 10)
    with pytest.raises(ValueError, match=r"takes no images of \(1, 28, 28\).*model.kwargs"):
        require_logits(model, (1, 28, 28), 7)


def test_compiled_network_draws_anew_at_every_step() -> None:
    torch.manual_seed(0)
    model = to_gaussian(cifar_resnet.CifarResNet(1, 4)).train()
    model.compile(backend="aot_eager")
    images, seen = torch.randn(2, 3, 16, 16), []
    for _ in range(3):
        model(images).sum().backward()
        seen.append([w.eps.clone() for _, _, w in gaussian_weights(model) if w.eps is not None])
    assert len(seen[0]) == len(list(gaussian_weights(model)))
    for earlier, later in pairwise(seen):
        assert all(not torch.equal(a, b) for a, b in zip(earlier, later, strict=True))
    assert all(w.sigma is not None and w.sigma.grad is not None for _, _, w in gaussian_weights(model))
    plain = to_gaussian(cifar_resnet.CifarResNet(1, 4)).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(images), plain(images))

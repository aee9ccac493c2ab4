"""The CIFAR ResNets of He et al. (2016, section 4.2): 6n + 2 layers, shortcuts without parameters (option A).

Keys of the state dict: ``conv1 bn1 layer{1,2,3}.{block}.{conv1,bn1,conv2,bn2} linear``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import pad, relu

__all__ = ["CifarResNet", "cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity, which is subsampled and padded with zero channels if need be."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.missing = stride, channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.missing:
            before = self.missing // 2
            x = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))
        return relu(x + y)


class CifarResNet(nn.Module):
    """Three stages of ``blocks`` basic blocks with 16, 32 and 64 channels, average pooling, a linear layer.

    Args:
        blocks: n, blocks per stage.
        num_classes: width of the logits.
        in_chans: channels of the images.
    """

    # the customary checkpoints of these networks were trained with ImageNet's mean and deviation
    pretrained_cfg: ClassVar[dict[str, Any]] = {
        "input_size": (3, 32, 32),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }

    def __init__(self, blocks: int, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def cifar_resnet20(num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """0.27 million parameters, 20 layers."""
    return CifarResNet(3, num_classes, in_chans)


def cifar_resnet32(num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """0.46 million parameters, 32 layers."""
    return CifarResNet(5, num_classes, in_chans)


def cifar_resnet44(num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """0.66 million parameters, 44 layers."""
    return CifarResNet(7, num_classes, in_chans)


def cifar_resnet56(num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """0.85 million parameters, 56 layers."""
    return CifarResNet(9, num_classes, in_chans)

"""Distillation: the network in training is also asked to answer as a teacher does.

Hinton et al. (2015), https://arxiv.org/abs/1503.02531. The teacher is the network's own start unless another one is
given: that costs no other training, and says on every image what is lost by sharing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Distillation", "divergence", "normalised_anew"]

Normalisation = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel."""


def divergence(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """The mean over images of ``T**2 KL(softmax(teacher / T), softmax(logits / T))``.

    The factor ``T**2`` keeps the size of the gradient as T grows.

    Args:
        logits: of the network in training, ``[B, classes]``.
        teacher: of the teacher, the same shape.
        temperature: T, positive.

    Returns:
        A scalar in nats, at least 0 up to rounding.
    """
    student, wanted = ((x.float() / temperature).log_softmax(1) for x in (logits, teacher))
    return temperature**2 * nn.functional.kl_div(student, wanted, reduction="batchmean", log_target=True)


def normalised_anew(network: nn.Module, seen: Normalisation, wanted: Normalisation) -> nn.Module:
    """Let a network see images that were normalised for another one.

    Args:
        network: of images ``[B, C, H, W]``.
        seen: how the images are normalised.
        wanted: how the network was trained.

    Returns:
        The network behind a channel-wise affine map; the network itself where both are the same.
    """
    (mean, std), (own_mean, own_std) = (map(torch.tensor, pair) for pair in (seen, wanted))
    if torch.equal(mean, own_mean) and torch.equal(std, own_std):
        return network
    return nn.Sequential(_ChannelAffine(std / own_std, (mean - own_mean) / own_std), network)


class _ChannelAffine(nn.Module):
    """Scales and shifts each channel of images."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


class Distillation:
    """Mixes a training loss with the divergence from a teacher: a frozen copy of a network, or a given one.

    It is no module on purpose: the teacher is in no checkpoint and no optimizer, and whoever trains the network
    cannot put it into training mode. A resumed run builds it again from the same starting weights.

    Args:
        weight: share of the divergence in the mixed loss, in [0, 1].
        temperature: T, positive.
        teacher: a trained network of the same classes, which is put into evaluation mode and frozen; a copy of the
            network given to :meth:`keep` if None.

    Raises:
        ValueError: naming the setting to change.
    """

    def __init__(self, *, weight: float = 0.5, temperature: float = 4.0, teacher: nn.Module | None = None) -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {weight}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        # without gradients, too: autocast would keep casts of weights that ask for them from step to step
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.given = teacher is not None
        self.weight = weight
        self.temperature = temperature

    def keep(self, network: nn.Module) -> None:
        """Make the teacher a copy of a network as it is now, before its weights are shared; unless one was given."""
        if not self.given:
            self.teacher = copy.deepcopy(network).eval().requires_grad_(False) if self.weight else None

    def __call__(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """Mix ``loss`` of the network's ``logits`` on ``images`` with their divergence from the teacher's."""
        if self.weight == 0:
            return loss
        if self.teacher is None:
            raise RuntimeError("distillation has no teacher: call keep(network) before the weights are shared")
        with torch.no_grad():
            teacher = self.teacher.to(images.device)(images)
        return (1 - self.weight) * loss + self.weight * divergence(logits, teacher, self.temperature)

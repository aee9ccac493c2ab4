"""Diagonal Fisher information: how sensitive the loss is to each weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["damp", "diagonal", "draw", "sigma"]

SIGMA_MAX = 0.05


@torch.no_grad()
def draw(logits: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
    """Random gradients of the loss with respect to the logits, of mean 0 and covariance ``diag(p) - p p^T``.

    Labels drawn from the network have gradients of this covariance, too, but a network that is sure of most
    images then rarely draws another label than its own, and all of the estimate hangs on those few. Here every
    image brings its share: ``sqrt(p) e - p (sqrt(p) . e)`` with random signs e.

    Args:
        logits: ``[B, classes]``.
        generator: draws the signs, on the CPU.
        temperature: p is the softmax of ``logits / temperature``.

    Returns:
        ``[B, classes]``, of the dtype of ``logits``.
    """
    p = (logits.float() / temperature).softmax(1)
    signs = torch.randint(2, p.shape, generator=generator).to(p).mul_(2).sub_(1)
    root = p.sqrt() * signs
    return (root - p * root.sum(1, keepdim=True)).to(logits.dtype)


def diagonal(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    images: Iterable[Tensor],
    *,
    generator: torch.Generator,
    damping: float = 0.02,
    temperature: float = 1.0,
) -> list[Tensor]:
    """Diagonal of the Fisher information, ``F_i + damping mean(F)``, labels as if drawn from the network.

    A micro-batch of B images adds ``B grad**2`` of its mean loss: its images' gradients, see :func:`draw`, are
    independent and of mean 0, so this estimates the mean of their squares.

    Args:
        model: a classifier, in the mode in which it is to be judged; it maps a batch to logits.
        parameters: those wanted. Their ``grad`` is not touched.
        images: micro-batches, 16 to 64 images each.
        generator: draws the labels, on the CPU.
        temperature: of the network's probabilities, see :func:`draw`.
        damping: share of the mean of F, over all parameters wanted, that is added.

    Returns:
        float32, one of the shape of each parameter; nats per squared unit of the weight, never 0.

    Raises:
        ValueError: if there are no images.
    """
    totals = [torch.zeros_like(p, dtype=torch.float32) for p in parameters]
    batches = 0
    for batch in images:
        with torch.enable_grad():
            logits = model(batch)
            gradient = draw(logits, generator, temperature) / len(batch)
            gradients = torch.autograd.grad(logits, parameters, gradient, allow_unused=True)
        for total, gradient in zip(totals, gradients, strict=True):
            if gradient is not None:
                total.addcmul_(gradient, gradient, value=len(batch))
        batches += 1
    if batches == 0:
        raise ValueError("images must hold at least one batch")
    return damp([total.div_(batches) for total in totals], damping)


def damp(information: Sequence[Tensor], damping: float = 0.02) -> list[Tensor]:
    """``F_i + damping mean(F)``, the mean over all tensors; above 0 even where F is 0 everywhere."""
    size = sum(x.numel() for x in information)
    mean = sum(float(x.double().sum()) for x in information) / max(1, size)
    return [x + (damping * mean + 1e-30) for x in information]


def sigma(sensitivity: Tensor, images: int) -> Tensor:
    """Standard deviation of the Laplace posterior, ``min((n D)**-0.5, 0.05)`` after n images.

    Args:
        sensitivity: ``D``, any shape, positive.
        images: n.

    Raises:
        ValueError: if ``images`` is below 1.
    """
    if images < 1:
        raise ValueError(f"images must be at least 1, got {images}")
    return (images * sensitivity).rsqrt().clamp(max=SIGMA_MAX)

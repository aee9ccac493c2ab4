"""The diagonal Fisher information of a network, as the prior of its weights and as what fixing pays for their moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pwfn.gaussian import gaussian_weights
from pwfn.ranks import mean_over_ranks, of_this_rank, rank_of
from pwfn.rate_distortion import fisher
from pwfn.scope import Scope, names_in_scope

__all__ = ["FisherPrior", "fisher_of_weights"]

Images = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class FisherPrior:
    """The prior whose sigma is the standard deviation of the Laplace posterior, ``min((n D)**-0.5, largest)``.

    Attributes:
        images: how many images the Fisher information is estimated on.
        count: n; the posterior after that many images.
        largest: the upper bound of sigma.
        damping: share of the mean Fisher information added to all.
        seed: of the random gradients.

    Raises:
        ValueError: naming the argument out of range.
    """

    images: int = 4000
    count: int = 50_000
    largest: float = 0.05
    damping: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("images", 1), ("count", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("largest", "damping"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def sigmas(self, model: nn.Module, scope: Scope, images: Iterable[Tensor]) -> dict[str, Tensor]:
        """The sigma of every parameter in scope of a plain network, by name.

        Args:
            model: the network, on the device to use.
            scope: which parameters.
            images: micro-batches of 16 to 64 images, without labels.
        """
        names = names_in_scope(model, scope)
        by_name = dict(model.named_parameters(remove_duplicate=False))
        information = _diagonal(model, [by_name[name] for name in names], images, self.damping, self.seed)
        return {
            name: fisher.sigma(d, self.count).clamp(max=self.largest)
            for name, d in zip(names, information, strict=True)
        }


def fisher_of_weights(model: nn.Module, images: Images, *, damping: float = 0.02, seed: int = 0) -> Tensor:
    """The damped diagonal Fisher information of the weights in scope of a converted network.

    Args:
        model: maps a batch to logits; a network converted by :func:`pwfn.to_gaussian`, or a module around it.
        images: gives micro-batches of 16 to 64 images, without labels.
        damping: share of the mean added to all.
        seed: of the random gradients.

    Returns:
        float32 ``[N]``, in module order. In data-parallel training each rank looks at its share of the batches, and
        all have the same mean over them.
    """
    parameters = [mu for _, mu, _ in gaussian_weights(model)]
    return torch.cat([d.flatten() for d in _diagonal(model, parameters, images(), damping, seed)])


def _diagonal(
    model: nn.Module, parameters: Sequence[nn.Parameter], images: Iterable[Tensor], damping: float, seed: int
) -> list[Tensor]:
    training, device, seen = model.training, parameters[0].device, 0

    def batches() -> Iterator[Tensor]:
        nonlocal seen
        for batch in of_this_rank(images):
            seen += 1
            yield batch.to(device)

    model.eval()
    generator = torch.Generator().manual_seed(seed + rank_of())
    try:
        found = fisher.diagonal(model, parameters, batches(), generator=generator, damping=damping)
    finally:
        model.train(training)
    return mean_over_ranks(found, seen)

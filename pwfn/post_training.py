"""Post-training fixing of a converted network: all its weights in one round, from what images tell of the layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pwfn import rate_distortion
from pwfn.assignment import Assignment, from_values
from pwfn.gaussian import gaussian_weights
from pwfn.ranks import all_ranks
from pwfn.scope import Scope

__all__ = ["PostTraining"]


@dataclass
class PostTraining:
    """Assigns all weights in scope of a converted network by :func:`pwfn.rate_distortion.fix`.

    In data-parallel training all ranks must call it: each looks at its share of the images.

    Attributes:
        images: gives batches of images, with or without labels.
        scope: that of the conversion.
        bits, max_unique, max_order, min_exponent, floor, shift, sweeps, norms, seed: as of
            :func:`pwfn.rate_distortion.fix`.
        network: the plain network that :meth:`keep` remembers.
    """

    images: Callable[[], Iterable[Tensor]]
    scope: Scope
    bits: float = 3.0
    max_unique: int = 64
    max_order: int = 2
    min_exponent: int | None = None
    floor: float = 0.0
    shift: bool = False
    sweeps: int = 1
    norms: bool = True
    seed: int = 0
    network: nn.Module | None = None

    def keep(self, network: nn.Module) -> None:
        """Remember a network as it is now, before its conversion: the layers are looked at in a copy."""
        self.network = copy.deepcopy(network)

    def __call__(self, model: nn.Module) -> Assignment:
        """Assign all weights as they are now; the statistics of norm layers are corrected for it if ``norms``, all
        else stays as it is.

        Args:
            model: a network converted by :func:`pwfn.to_gaussian`, or a module around one.
        """
        if self.network is None:
            raise RuntimeError("post-training fixing needs the plain network: call keep(network) before its conversion")
        fixed = self.network
        device = next(model.parameters()).device
        fixed.to(device)
        network = next(module for module in model.modules() if type(module) is type(fixed))
        fixed.load_state_dict(_plain(network), strict=False)  # of tied parameters it lacks all but the first
        result = rate_distortion.fix(
            fixed,
            (batch.to(device) for batch in self.images()),
            self.bits,
            max_unique=self.max_unique,
            max_order=self.max_order,
            min_exponent=self.min_exponent,
            floor=self.floor,
            shift=self.shift,
            sweeps=self.sweeps,
            norms=self.norms,
            seed=self.seed,
            scope=self.scope,
            group=all_ranks(),
        )
        _copy_norms(fixed, network)
        weights = dict(fixed.named_parameters(remove_duplicate=False))
        values = torch.cat([weights[name].detach().flatten() for name, _, _ in gaussian_weights(network)])
        figures = {
            "lambda": result.scale,
            "expected_bits": result.bits,
            "distortion": result.distortion,
            "unique_up_to_shift": result.unique,
        }
        return replace(from_values(values), figures=figures, shares=result.share)


def _plain(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of a converted network as a plain one's, with the hidden weights of straight-through learning."""
    state = {name: value for name, value in network.state_dict().items() if ".parametrizations." not in f".{name}"}
    return state | {name: mu.detach() for name, mu, _ in gaussian_weights(network)}


def _copy_norms(source: nn.Module, target: nn.Module) -> None:
    """Give the norm layers of a converted network the statistics of a plain one's."""
    norms = dict(source.named_modules())
    for name, module in target.named_modules():
        if isinstance(module, _BatchNorm):
            module.load_state_dict(norms[name].state_dict(), strict=False)

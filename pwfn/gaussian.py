"""Gaussian weights: every weight in scope is ``mu + sigma * eps`` in training and ``mu`` in evaluation.

A parametrization (:mod:`torch.nn.utils.parametrize`) of the parameter does it, so that every layer of every
network keeps its own forward. :func:`to_gaussian` converts a network in place, :func:`to_deterministic`
converts it back to the plain network, with the types and keys it had.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pwfn import prior as priors
from pwfn import scope as scopes
from pwfn.gaussian_weight import GaussianWeight
from pwfn.kernels.noise import Draws, normals

__all__ = ["Flat", "GaussianWeight", "draw", "flat_weights", "gaussian_weights", "to_deterministic", "to_gaussian"]

Prior = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Flat:
    """The weights in scope as flat vectors: mean and sigma in force, and whether each is fixed."""

    mu: Tensor
    sigma: Tensor
    fixed: Tensor

    def split(self, lengths: Sequence[int]) -> list[Flat]:
        """The weights of consecutive tensors, each by itself."""
        parts = (vector.split(lengths) for vector in (self.mu, self.sigma, self.fixed))
        return [Flat(*part) for part in zip(*parts, strict=True)]


def to_gaussian(
    model: nn.Module,
    *,
    prior: Prior | None = priors.pow2,
    scope: scopes.Scope = scopes.conv_linear,
    weight: type[GaussianWeight] = GaussianWeight,
    noise: Draws = normals,
) -> nn.Module:
    """Make every weight in scope Gaussian, in place. Build optimizers afterwards.

    Noise is drawn anew whenever the network itself is called in training mode, once per weight. Tied
    parameters stay tied: they share one mu and one sigma.

    Args:
        model: any network; its evaluation output does not change by a bit.
        prior: gives the initial sigma of a parameter tensor; None for weights without noise.
        scope: which parameters take part.
        weight: the parametrization; :class:`pwfn.released.ReleasedWeight` is the other one.
        noise: makes the draws of a step; :class:`pwfn.kernels.noise.Table` is the faster way on a CPU.

    Returns:
        ``model``.

    Raises:
        ValueError: if no parameter is in scope, the network is converted already, or the prior refuses a tensor,
            which is named.
    """
    if next(gaussian_weights(model), None):
        raise ValueError("the network has Gaussian weights already")
    seen: dict[nn.Parameter, GaussianWeight] = {}
    places = list(scope(model))
    frozen = sum(not getattr(module, key).requires_grad for _, module, key in places)
    if frozen:
        warnings.warn(
            f"{frozen} of {len(places)} parameters in scope are frozen, and share values like the others; "
            "scope=pwfn.scope.trainable(scope) leaves them as they are",
            stacklevel=2,
        )
    for prefix, module, key in places:
        mu = getattr(module, key)
        if mu not in seen:
            seen[mu] = weight(mu, None if prior is None else _sigma(prior, mu, f"{prefix}.{key}".lstrip(".")))
            seen[mu].noisy = False  # it is called once on registration
    for _, module, key in places:
        parametrize.register_parametrization(module, key, seen[getattr(module, key)])
    if not seen:
        raise ValueError("no parameter of the network is in scope: choose another scope")
    for made in seen.values():
        made.noisy = True
    model.register_forward_pre_hook(partial(draw, noise=noise))
    return model


def to_deterministic(model: nn.Module) -> nn.Module:
    """Undo :func:`to_gaussian` in place: plain parameters again, each at its mean in force.

    Returns:
        ``model``, with the module types and state dict keys that it had before.
    """
    for module in model.modules():
        for key, chain in list(_parametrizations(module)):
            if not isinstance(chain[0], GaussianWeight):
                continue
            chain.eval()
            parametrize.remove_parametrizations(module, key, leave_parametrized=True)
    for handle, hook in list(model._forward_pre_hooks.items()):
        if getattr(hook, "func", None) is draw:
            del model._forward_pre_hooks[handle]
    return model


def gaussian_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, GaussianWeight]]:
    """Every Gaussian weight tensor of a network, tied ones once.

    Yields:
        ``(name, mu, weight)`` in module order; ``name`` is the parameter's key in the plain network.
    """
    seen = set()
    for prefix, module in model.named_modules():
        for key, chain in _parametrizations(module):
            weight = chain[0]
            if isinstance(weight, GaussianWeight) and weight not in seen:
                seen.add(weight)
                yield f"{prefix}.{key}" if prefix else key, chain.original, weight


@torch.no_grad()
def flat_weights(model: nn.Module) -> Flat:
    """Gather the weights in scope of a converted network, in module order.

    Returns:
        mu, sigma: float32 ``[N]``, as in force (sigma 0 for weights without noise); fixed: bool ``[N]``.
    """
    mus, sigmas, fixed = [], [], []
    for _, mu, weight in gaussian_weights(model):
        mean, sigma = weight.mean(mu), weight.deviation()
        mus.append(mean.flatten())
        sigmas.append(torch.zeros_like(mus[-1]) if sigma is None else sigma.flatten())
        fixed.append(weight.fixed.flatten())
    return Flat(torch.cat(mus), torch.cat(sigmas), torch.cat(fixed))


@torch.compiler.disable  # a compiled network finds the draws made; there is nothing in here to compile
@torch.no_grad()
def draw(model: nn.Module, args: Any = None, *, noise: Draws = normals) -> None:
    """Draw eps for one training step; the forward pre-hook that :func:`to_gaussian` installs.

    All tensors are drawn before the forward, so that a layer which reads its weight twice, or runs again for
    activation checkpointing, sees one draw. Also projects sigma back to at least 2**-30, where the optimizer may
    have left it. Does nothing in evaluation mode.

    Args:
        model: the network that :func:`to_gaussian` converted.
        args: ignored; hooks are called with the forward's arguments.
        noise: makes the draws.
    """
    if not model.training:
        return
    noisy = [(w, w.sigma) for _, _, w in gaussian_weights(model) if w.sigma is not None and w.noisy]
    if not noisy:
        return
    sigmas: list[Tensor] = [sigma for _, sigma in noisy]
    raised: list[Tensor] = [sigma for w, sigma in noisy if w.raise_sigma]
    if raised:
        torch._foreach_clamp_min_(raised, priors.SIGMA_MIN)
    for (weight, _), eps in zip(noisy, noise(sigmas), strict=True):
        weight.eps = eps


@torch.no_grad()
def _sigma(prior: Prior, mu: Tensor, name: str) -> Tensor:
    try:
        return prior(mu)
    except ValueError as error:
        raise ValueError(f"the prior gives {name} no sigma: {error}") from error


def _parametrizations(module: nn.Module) -> Iterator[tuple[str, Any]]:
    chains = module._modules.get("parametrizations")  # a step asks every module, and getattr is slow to say no
    if isinstance(chains, nn.ModuleDict):
        yield from chains.items()

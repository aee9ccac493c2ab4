"""Scopes: which parameters of a network take part.

Each scope is a function ``scope(model)`` that yields ``(module name, module, parameter name)`` once for every
place in which a parameter in scope is held. A tied parameter comes once for each module that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

__all__ = ["Place", "Scope", "all", "conv_linear", "conv_linear_norm", "names_in_scope", "trainable"]

Place = tuple[str, nn.Module, str]
"""Module name, module and parameter name: where a parameter is held."""

Scope = Callable[[nn.Module], Iterator[Place]]
"""Yields the places of the parameters of a network that take part."""


def conv_linear(model: nn.Module) -> Iterator[Place]:
    """Weight and bias of every convolution and linear layer, subclasses included (the paper's scope).

    Raises:
        ValueError: if such a layer computes its weight from other parameters, as ``weight_norm`` lets it.

    >>> [key for _, _, key in conv_linear(nn.Sequential(nn.Linear(2, 2, bias=False), nn.LayerNorm(2)))]
    ['weight']
    """
    _require_own_weights(model)
    for name, module, key in all(model):
        if key in ("weight", "bias") and _is_conv_or_linear(module):
            yield name, module, key


def conv_linear_norm(model: nn.Module) -> Iterator[Place]:
    """As :func:`conv_linear`, and the weight and bias of normalisation layers.

    Raises:
        ValueError: as :func:`conv_linear`.

    >>> [key for _, _, key in conv_linear_norm(nn.Sequential(nn.LayerNorm(2), nn.PReLU()))]
    ['weight', 'bias']
    """
    _require_own_weights(model)
    for name, module, key in all(model):
        if key in ("weight", "bias") and (_is_conv_or_linear(module) or _is_norm(module)):
            yield name, module, key


def all(model: nn.Module) -> Iterator[Place]:
    """Every floating-point parameter: norms, embeddings, tokens, packed attention projections and the rest.

    >>> [key for _, _, key in all(nn.MultiheadAttention(2, 1))]
    ['in_proj_weight', 'in_proj_bias', 'weight', 'bias']
    """
    for name, module in model.named_modules(remove_duplicate=True):
        for key, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point():
                yield name, module, key


def trainable(scope: Scope) -> Scope:
    """Return a scope without the parameters that are frozen, that is, require no gradient.

    >>> layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2).requires_grad_(False))
    >>> [name for name, _, _ in trainable(conv_linear)(layers)]
    ['0']
    """

    def places(model: nn.Module) -> Iterator[Place]:
        return (place for place in scope(model) if getattr(place[1], place[2]).requires_grad)

    return places


def names_in_scope(model: nn.Module, scope: Scope) -> list[str]:
    """State-dict names of the parameters in scope of a plain network, tied ones by their first name.

    >>> layer = nn.Linear(2, 2)
    >>> names_in_scope(nn.Sequential(layer, layer, nn.PReLU()), conv_linear)
    ['0.weight', '0.bias']
    """
    seen: dict[nn.Parameter, str] = {}
    for prefix, module, key in scope(model):
        seen.setdefault(getattr(module, key), f"{prefix}.{key}" if prefix else key)
    return list(seen.values())


def _require_own_weights(model: nn.Module) -> None:
    layers = [(name, module) for name, module in model.named_modules() if _is_conv_or_linear(module)]
    computed = [name or "the network" for name, module in layers if "weight" not in module._parameters]
    if computed:
        more = f" and {len(computed) - 4} more" if len(computed) > 4 else ""
        raise ValueError(
            f"{', '.join(computed[:4])}{more} compute their weights from other parameters (weight_norm, spectral_norm "
            "or another parametrization): remove it first, by torch.nn.utils.remove_weight_norm, remove_spectral_norm "
            "or parametrize.remove_parametrizations"
        )


def _is_conv_or_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd | nn.Linear)


def _is_norm(module: nn.Module) -> bool:
    # Networks bring norm layers of their own that share no base class; what they do share is the name.
    return "Norm" in "".join(cls.__name__ for cls in type(module).__mro__)

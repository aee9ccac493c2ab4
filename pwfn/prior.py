"""Priors: the initial sigma of every weight, from its trained value alone.

Each prior is a function ``prior(mu) -> sigma`` of one parameter tensor; the network's tensors are treated
one by one. Known values: 0.75 = 3/4 lies half-way between 1/2 and 1 and may move most; 0.5 may not move.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pwfn.kernels.deterministic import kthvalue

__all__ = ["constant", "pow2"]

SIGMA_MIN = 2.0**-30
"""No sigma is ever smaller."""


def pow2(mu: Tensor, *, scale: float = 0.0025, largest: float = 0.05) -> Tensor:
    """Relative distance to the two neighbouring powers of two (the paper's prior).

    With ``up`` and ``down`` the powers of two around ``|mu|``, ``r = |(mu-up)/mu| * |(mu-down)/mu|`` and
    ``sigma = clip(scale * r / Q75(r), 2**-30, largest)``, Q75 being the tensor's 75% quantile. A weight that
    is zero or a power of two has r = 0 and gets 2**-30. Where Q75 is 0, so does r = 0, and all others get
    ``largest``.

    Args:
        mu: trained weights, any shape, floating point.
        scale: sigma of a weight at the quantile.
        largest: upper bound of sigma.

    Returns:
        sigma, of the shape and dtype of ``mu``.

    Raises:
        ValueError: if a weight is NaN or infinite.
    """
    if not mu.isfinite().all():
        raise ValueError("mu must be finite")
    mantissa, _ = torch.frexp(mu.detach().abs())  # |mu| = mantissa * 2**exponent, mantissa in [1/2, 1)
    ratio = 2 * mantissa  # |mu| / down, in [1, 2); up / down = 2
    r = torch.where(mantissa == 0, 0.0, (2 - ratio) * (ratio - 1) / ratio**2)
    quantile = _quantile(r, 0.75)
    sigma = torch.where(r == 0, SIGMA_MIN, scale * r / quantile)  # r / 0 = inf, clipped to `largest`
    return sigma.clamp(SIGMA_MIN, largest).to(mu.dtype)


def constant(mu: Tensor, *, sigma: float = 1e-4) -> Tensor:
    """The same sigma everywhere: the ablation "no prior".

    Args:
        mu: trained weights, any shape.
        sigma: the value, at least 2**-30.

    Returns:
        sigma, of the shape and dtype of ``mu``.

    Raises:
        ValueError: if ``sigma`` is below 2**-30 or not finite.
    """
    if not (math.isfinite(sigma) and sigma >= SIGMA_MIN):
        raise ValueError(f"prior.sigma must be finite and at least 2**-30, got {sigma}")
    return torch.full_like(mu, sigma)


def _quantile(x: Tensor, q: float) -> Tensor:
    """Linear-interpolation quantile by selection: ``torch.quantile`` refuses more than 16.7M elements."""
    x = x.flatten()
    if x.numel() == 0:
        return x.new_zeros(())
    place = q * (x.numel() - 1)
    low = math.floor(place)
    return torch.lerp(kthvalue(x, low + 1), kthvalue(x, min(low + 2, x.numel())), place - low)

"""One Gaussian weight tensor: the parametrization of a parameter by mean and sigma."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pwfn.kernels.noise import Sample

__all__ = ["GaussianWeight"]


class GaussianWeight(nn.Module):
    """Parametrization of one parameter tensor by its mean mu (the original parameter) and its sigma.

    Fixedness lives in the forward: where ``free`` is 0 the mean is ``centroid`` and sigma is ``joined``, both
    constants, so that no momentum and no weight decay on the hidden values is ever seen.

    Attributes:
        sigma: parameter of the shape of mu, or None for weights without noise (WFN, plain rounding).
        free: buffer of the dtype of mu, 1 where the weight learns and 0 where it is fixed. It is a number and no
            bool because interpolation with it runs at the speed of memory, selection by bool far below.
        centroid: buffer, the value of each fixed weight.
        joined: buffer, the sigma of each fixed weight (None without sigma).
        eps: this step's standard normal draw, set by :func:`draw`.
        noisy: whether training draws at all.
        retrain_sigma: sigma goes on learning after its weight is fixed (sigma join ``allow_retraining``).
        straight_through: the mean is ``centroid`` for free weights, too, whose gradient goes to mu as if it were mu.
        raise_sigma: :func:`draw` puts a sigma below 2**-30 back to it.
        decay_sigma: the optimizer's weight decay acts on sigma.
    """

    raise_sigma = True
    decay_sigma = False

    sigma: nn.Parameter | None
    free: Tensor
    centroid: Tensor
    joined: Tensor | None

    def __init__(self, mu: Tensor, sigma: Tensor | None) -> None:
        super().__init__()
        self.sigma = None if sigma is None else nn.Parameter(sigma.detach().clone())
        self.register_buffer("free", torch.ones_like(mu))
        self.register_buffer("centroid", mu.detach().clone())
        self.register_buffer("joined", None if sigma is None else sigma.detach().clone())
        self.eps: Tensor | None = None
        self.noisy = True
        self.retrain_sigma = False
        self.straight_through = False

    @property
    def fixed(self) -> Tensor:
        """bool, true where the weight is fixed."""
        return self.free == 0

    def mean(self, mu: Tensor) -> Tensor:
        """The mean in force: the centroid of a fixed weight, mu of a free one (see ``straight_through``)."""
        if self.straight_through:  # exact: what is added is zero
            return torch.addcmul(self.centroid, mu - mu.detach(), self.free)
        return torch.lerp(self.centroid, mu, self.free)  # exact: the ends of lerp are its arguments

    def deviation(self) -> Tensor | None:
        """The sigma in force, at least 2**-30; None without sigma."""
        if self.sigma is None or self.joined is None or self.retrain_sigma:
            return self.sigma
        return torch.lerp(self.joined, self.sigma, self.free)

    def pulled(self) -> Tensor | None:
        """Where the regulariser pulls sigma: 1 where free and 0 where fixed; None for everywhere."""
        return None if self.retrain_sigma else self.free

    def settle(self, mu: Tensor, values: Tensor, fixed: Tensor, sigma: Tensor) -> None:
        """Take over a round's outcome: ``mu`` becomes ``values``, free but where ``fixed``, with this sigma."""
        # a weight that never was fixed keeps its mu, of which straight-through learning shows the shared value only
        mu.copy_(torch.where(fixed | self.fixed, values, mu))
        self.centroid.copy_(values)
        self.free.copy_(~fixed)
        if self.sigma is not None and self.joined is not None:
            self.sigma.copy_(sigma)
            self.joined.copy_(self.sigma)

    def forward(self, mu: Tensor) -> Tensor:
        """One draw of the weight in training, its mean in evaluation. Shape and dtype of ``mu``."""
        if self.sigma is None or not self.training:
            return self.mean(mu)
        if not self.noisy:  # data-parallel training wants every parameter in the graph, at zero gradient
            return torch.add(self.mean(mu), self.sigma, alpha=0)
        if self.eps is None:  # the layer was called without its network: no draw has been made for it
            self.eps = torch.randn_like(mu)
        joined = None if self.retrain_sigma else self.joined
        weight: Tensor = Sample.apply(mu, self.sigma, self.eps, self.free, self.centroid, joined)
        return weight

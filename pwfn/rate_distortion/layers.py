"""What fixing needs to know of each parameter: sensitivity, second moment of its inputs, scale.

The layers share one codebook and one lambda, so their errors must be measured in one unit, nats of mean loss.
The second moment says how the errors of a row work together, the Fisher information how much they matter: g_r
is such that ``g_r mean diag H`` is the mean Fisher information of row r.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from pwfn.rate_distortion import fisher
from pwfn.rate_distortion.damping import choose_damping, damped
from pwfn.rate_distortion.feedback import cholesky_of_inverse
from pwfn.rate_distortion.moments import Moment, second_moments
from pwfn.rate_distortion.rows import has_rows, matrix
from pwfn.scope import Place

__all__ = ["Layer", "observe"]

MICRO, NUMBERS = 25, 2**20  # at most so many images, and numbers in them, go through a backward pass together
GROUP_FLOOR = 1e-2  # of the mean over a layer: a row whose outputs are dead is still worth that much


@dataclass
class Layer:
    """One parameter in scope.

    Attributes:
        name: of the parameter.
        parameter: it.
        w: float32 ``[G, R, K]``; a parameter without inputs is ``[1, 1, n]``.
        g: float32 ``[G, R]``, what a row's error weighs; None without inputs.
        sensitivity: float32, of the shape of ``w``: what error feedback pays for a unit of error, ``g_r / U_jj**2``,
            or, without inputs, the damped Fisher information.
        exponent: w was multiplied by ``2**-exponent``.
    """

    name: str
    parameter: nn.Parameter
    w: Tensor
    g: Tensor | None
    sensitivity: Tensor
    exponent: int = 0
    factors: tuple[Tensor, Tensor] | Path | None = None

    def load(self) -> tuple[Tensor, Tensor]:
        """``U`` and ``H``, float32 ``[G, K, K]``, read from disk if they lie there."""
        assert self.factors is not None
        return torch.load(self.factors) if isinstance(self.factors, Path) else self.factors

    def scale(self, exponent: int) -> None:
        """Multiply w by ``2**-exponent``: exact, and what an error weighs grows with the square."""
        self.exponent += exponent
        self.w = torch.ldexp(self.w, torch.tensor(-exponent))
        self.sensitivity = self.sensitivity * 4.0**exponent
        self.g = None if self.g is None else self.g * 4.0**exponent


def observe(
    model: nn.Module,
    places: Sequence[Place],
    images: Sequence[Tensor],
    *,
    seed: int,
    temperature: float,
    damping: float | None,
    positions: int,
    memory: float,
    folder: tempfile.TemporaryDirectory[str],
    group: distributed.ProcessGroup | None = None,
) -> list[Layer]:
    """Measure all parameters at the given places.

    Second moments are gathered for as many layers at a time as fit into ``memory`` bytes, each such part in a
    pass over the images; if all do not fit at once they are kept in ``folder``. The processes of ``group``, all
    given the same images, share them out.
    """
    parameters = [getattr(module, key) for _, module, key in places]
    half = math.ceil(sum(map(len, images)) / 2)  # two parts at least, of which one is held out for the damping
    micro = [few for batch in images if len(batch) for few in batch.split(min(half, _micro(batch)))]
    if group is not None and len(micro) < distributed.get_world_size(group):
        group = None  # too few to share out
    generator = torch.Generator().manual_seed(seed + (0 if group is None else distributed.get_rank(group)))
    information: list[Tensor] = []
    layers: dict[int, Layer] = {}
    parts = list(_parts(places, memory)) or [[]]
    for part in parts:
        watched = [(places[k][1], places[k][2]) for k in part]
        moments, squares = second_moments(
            model,
            watched,
            micro,
            generator=generator,
            temperature=temperature,
            positions=positions,
            parameters=() if information else parameters,
            group=group,
        )
        information = information or fisher.damp(squares)
        for k, moment in zip(part, moments, strict=True):
            if moment is not None:
                path = Path(folder.name, f"{k}.pt") if len(parts) > 1 else None
                layers[k] = _with_inputs(places[k], information[k], moment, damping, path)
    for k, (name, _, key) in enumerate(places):
        if k not in layers:
            flat = parameters[k].detach().float().reshape(1, 1, -1)
            layers[k] = Layer(f"{name}.{key}", parameters[k], flat, None, information[k].reshape(1, 1, -1))
    return [layers[k] for k in range(len(places))]


def _micro(batch: Tensor) -> int:
    # large activations come as fresh pages each time, and clearing these takes as long as the work itself
    return max(1, min(MICRO, NUMBERS // max(1, batch[0].numel())))


def _parts(places: Sequence[Place], memory: float) -> Iterator[list[int]]:
    part: list[int] = []
    held = 0.0
    for k, (_, module, key) in enumerate(places):
        if not has_rows(module, key):
            continue
        g, _, columns = matrix(module, getattr(module, key).detach()).shape
        need = 12.0 * g * columns**2  # two halves, and one of them in work
        if part and held + need > memory:
            yield part
            part, held = [], 0.0
        part.append(k)
        held += need
    if part:
        yield part


def _with_inputs(place: Place, information: Tensor, moment: Moment, damping: float | None, path: Path | None) -> Layer:
    name, module, key = place
    parameter = getattr(module, key)
    w = matrix(module, parameter.detach()).float()
    h = damped(moment.inputs, choose_damping(moment.halves) if damping is None else damping)
    u = cholesky_of_inverse(h)
    spread = moment.inputs.double().diagonal(dim1=1, dim2=2).mean(1)
    g = matrix(module, information).double().mean(2) / spread.clamp(min=1e-30)[:, None]
    # a group without any input would get an infinite weight
    g = torch.where(spread[:, None] > 1e-6 * spread.mean(), g, 0.0)
    g = g.clamp(min=max(GROUP_FLOOR * float(g.mean()), math.ldexp(1, -60)))
    sensitivity = (g[:, :, None] / u.diagonal(dim1=1, dim2=2)[:, None].square()).float().expand_as(w)
    factors: tuple[Tensor, Tensor] | Path = (u.float(), h.float())
    if path is not None:
        torch.save(factors, path)
        factors = path
    return Layer(f"{name}.{key}", parameter, w, g.float(), sensitivity.contiguous(), factors=factors)

"""Assigning all weights anew while they learn, from the counts of the assignment before.

The weights move little between two assignments, so that the counts need not come to rest in each of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pwfn.rate_distortion.codebook import TOLERANCE, search
from pwfn.rate_distortion.codes import Code, above, code_of
from pwfn.rate_distortion.envelope import Envelope

__all__ = ["Sharing", "begin", "counted", "falling", "follow", "reassign", "settle"]

SHORTFALL = 0.1  # bits


class Sharing(NamedTuple):
    """The codebook in use and lambda, the nats of loss that a bit may cost in the next assignment."""

    code: Code
    scale: float


def falling(progress: float, start: float, end: float, over: float) -> float:
    """The value at ``progress`` of a parabola from ``start`` at 0 that lands on ``end`` at ``over`` and stays there.

    It lands without a slope: the fewer the bits, the longer the weights have for the next assignment.

    >>> falling(0.25, 5.0, 3.0, 0.5)
    3.5
    """
    return end if progress >= over else end + (start - end) * (1 - progress / over) ** 2


def follow(scale: float, entropy: float, target: float) -> float:
    """The lambda after an assignment whose entropy missed the target.

    At high rates the entropy falls by one bit as lambda grows fourfold, by ``log 4 = 1.4`` nats; half of that step
    is taken, and at most half a nat, because weights and counts lag behind: a lambda that meets a falling target
    in every assignment rises far above the one that holds it.
    """
    return scale * math.exp(max(-0.5, min(0.5, 0.7 * (entropy - target))))


def reassign(
    w: Tensor, sensitivity: Tensor, sharing: Sharing, target: float, max_unique: int, floor: float = 0.0
) -> tuple[Tensor, Sharing]:
    """Assign all weights once, with the lengths that their last assignment gave the values.

    Args:
        w: hidden weights, floating point ``[N]``.
        sensitivity: ``D``, ``[N]``, positive, up to a factor, which lambda takes up.
        sharing: what the last assignment left.
        target: bits a weight to come nearer to.
        max_unique: most values; the least used ones beyond it are dropped first.
        floor: so are those that a smaller share of the weights had in the last assignment.

    Returns:
        The values float32 ``[N]``, and what the next assignment starts from. Where the entropy would fall more than
        0.1 bits short of the target, the assignment is that of :func:`settle`: values that nobody takes do not
        come back.
    """
    code = code_of(sharing.code.values, sharing.code.counts, max_unique=max_unique, floor=floor)
    values, taken = _share(w, sensitivity, Sharing(code, sharing.scale))
    if taken.entropy < target - SHORTFALL:
        return settle(w, sensitivity, sharing, target, max_unique, floor)
    return values, Sharing(taken, follow(sharing.scale, taken.entropy, target))


def settle(
    w: Tensor, sensitivity: Tensor, sharing: Sharing, target: float, max_unique: int, floor: float = 0.0
) -> tuple[Tensor, Sharing]:
    """Assign all weights once, as :func:`reassign`, at a lambda searched for.

    The lengths stay, so that few weights change: what the last assignment changes, no training makes up for. Where a
    value ends below the floor, it is dropped and they are assigned again.

    Returns:
        As :func:`reassign`. The entropy lies in ``[target - 0.02, target]``; where it jumps over that interval, or
        all weights at their nearest values need fewer bits, it is the nearest one found below.
    """
    code = code_of(sharing.code.values, sharing.code.counts, max_unique=max_unique, floor=floor)
    found: dict[float, tuple[Tensor, Code]] = {}

    def entropy(scale: float) -> float:
        found[scale] = _share(w, sensitivity, Sharing(code, scale))
        return found[scale][1].entropy

    scale = search(entropy, target, sharing.scale)
    if scale not in found:  # the search gives the end of an interval, which it need not have looked at
        entropy(scale)
    values, taken = found[scale]
    if (frequent := above(taken, floor)) is not None:
        return settle(w, sensitivity, Sharing(frequent, scale), target, max_unique, floor)
    # where no lambda is small enough, the one before is the better guess for the next assignment
    return values, Sharing(taken, scale if taken.entropy >= target - TOLERANCE else sharing.scale)


def begin(
    w: Tensor, sensitivity: Tensor, values: Tensor, target: float, max_unique: int, floor: float = 0.0
) -> tuple[Tensor, Sharing]:
    """Make the first assignment, from the counts that the values have when each weight takes the nearest one.

    Args:
        values: float64 ``[C]``, sorted, the candidates.
        w, sensitivity, target, max_unique, floor: as of :func:`reassign`.

    Returns:
        As :func:`settle`.
    """
    free = Code(values, torch.ones_like(values), torch.zeros_like(values))
    _, code = _share(w, sensitivity, Sharing(free, 0.0))
    guess = float(sensitivity.double().mean() * w.double().var(correction=0)) * 4.0**-target + 1e-30
    shared, sharing = settle(w, sensitivity, Sharing(code, guess), target, len(values))
    if len(sharing.code.values) <= max_unique and above(sharing.code, floor) is None:
        return shared, sharing
    return settle(w, sensitivity, sharing, target, max_unique, floor)


def counted(values: Tensor, scale: float) -> Sharing:
    """What an assignment made elsewhere leaves for the next one.

    Args:
        values: float32 ``[N]``, the value of each weight.
        scale: lambda.
    """
    distinct, counts = values.unique(return_counts=True)
    return Sharing(code_of(distinct.double(), counts), scale)


def _share(w: Tensor, sensitivity: Tensor, sharing: Sharing) -> tuple[Tensor, Code]:
    """The value that costs each weight least, float32 ``[N]``, and the code of the counts that this makes."""
    values, _, lengths = sharing.code
    index = Envelope(values, lengths).assign(w, (2 * sharing.scale) / sensitivity)
    return values.float().index_select(0, index), code_of(values, index.bincount(minlength=len(values)))

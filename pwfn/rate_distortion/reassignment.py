"""Assigning all weights anew while they learn: one pass from the counts of the assignment before, and the next lambda.

The weights move little between two assignments, so that the counts need not come to rest in each of them, nor
lambda be searched: both are followed over the training.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pwfn.rate_distortion.assignment import TOLERANCE, Code, code_of, search
from pwfn.rate_distortion.envelope import Envelope

__all__ = ["Sharing", "begin", "falling", "follow", "reassign", "settle", "share"]


class Sharing(NamedTuple):
    """The codebook in use and lambda, the nats of loss that a bit may cost in the next assignment."""

    code: Code
    scale: float


def falling(progress: float, start: float, end: float, over: float) -> float:
    """The value at ``progress`` of a parabola from ``start`` at 0 that lands on ``end`` at ``over`` and stays there.

    It lands without a slope, so that lambda, which follows from behind, does not pass the target.

    >>> falling(0.25, 5.0, 3.0, 0.5)
    3.5
    """
    return end if progress >= over else end + (start - end) * (1 - progress / over) ** 2


def follow(scale: float, entropy: float, target: float) -> float:
    """The lambda after an assignment whose entropy missed the target.

    At high rates the entropy falls by one bit as lambda grows fourfold, by ``log 4 = 1.4`` nats; half of that step
    is taken, and at most half a nat, because the counts lag behind.
    """
    return scale * math.exp(max(-0.5, min(0.5, 0.7 * (entropy - target))))


def share(w: Tensor, sensitivity: Tensor, sharing: Sharing) -> Tensor:
    """Index of the value, among those of the codebook, that costs each weight least; int32 ``[N]``."""
    code, scale = sharing
    return Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)


def reassign(
    w: Tensor, sensitivity: Tensor, sharing: Sharing, target: float, max_unique: int
) -> tuple[Tensor, Sharing]:
    """Assign all weights once, with the lengths that their last assignment gave the values.

    Where the entropy would fall short of the target, lambda is searched for after all: values that nobody takes
    do not come back.

    Args:
        w: hidden weights, floating point ``[N]``.
        sensitivity: ``D``, ``[N]``, positive, up to a factor, which lambda takes up.
        sharing: what the last assignment left.
        target: bits a weight to come nearer to.
        max_unique: most values; the least used ones beyond it are dropped first.

    Returns:
        The values float32 ``[N]``, and what the next assignment starts from: a value that nobody took is gone.
    """
    code = code_of(sharing.code.values, sharing.code.counts, max_unique=max_unique)
    index = share(w, sensitivity, Sharing(code, sharing.scale))
    taken = code_of(code.values, index.bincount(minlength=len(code.values)))
    if taken.entropy < target - TOLERANCE:
        return settle(w, sensitivity, sharing, target, max_unique)
    values = code.values.float().index_select(0, index)
    return values, Sharing(taken, follow(sharing.scale, taken.entropy, target))


def settle(w: Tensor, sensitivity: Tensor, sharing: Sharing, target: float, max_unique: int) -> tuple[Tensor, Sharing]:
    """Assign all weights once, with the lengths of their last assignment and a lambda that is searched for.

    Few weights change their value, as it should be at the end: what the last assignment changes, no training
    makes up for.

    Args:
        w, sensitivity, sharing, target, max_unique: as of :func:`reassign`.

    Returns:
        As :func:`reassign`, at an entropy in ``[target - 0.02, target]``; where the entropy jumps over the
        interval, it is the nearest one found below.
    """
    code = code_of(sharing.code.values, sharing.code.counts, max_unique=max_unique)
    found: dict[float, tuple[Tensor, Code]] = {}

    def entropy(scale: float) -> float:
        index = share(w, sensitivity, Sharing(code, scale))
        taken = code_of(code.values, index.bincount(minlength=len(code.values)))
        found[scale] = code.values.float().index_select(0, index), taken
        return taken.entropy

    scale = search(entropy, target, sharing.scale)
    if scale not in found:  # the search gives the end of an interval, which it need not have looked at
        entropy(scale)
    values, taken = found[scale]
    return values, Sharing(taken, scale)


def begin(w: Tensor, sensitivity: Tensor, values: Tensor, target: float, max_unique: int) -> tuple[Tensor, Sharing]:
    """Make the first assignment, from the counts that the values have when each weight takes the nearest one.

    Args:
        values: float64 ``[C]``, sorted, the candidates.
        w, sensitivity, target, max_unique: as of :func:`reassign`.

    Returns:
        As :func:`settle`.
    """
    index = share(w, sensitivity, Sharing(Code(values, torch.ones_like(values), torch.zeros_like(values)), 0.0))
    code = code_of(values, index.bincount(minlength=len(values)))
    guess = float(sensitivity.double().mean() * w.double().var(correction=0)) * 4.0**-target + 1e-30
    return settle(w, sensitivity, Sharing(code, guess), target, max_unique)

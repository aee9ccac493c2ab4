"""Assigning all weights anew while they learn: one pass from the counts of the assignment before, and the next lambda.

The weights move little between two assignments, so that the counts need not come to rest in each of them, nor
lambda be searched: both are followed over the training.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from pwfn.rate_distortion.assignment import Code, alternate, code_of, search
from pwfn.rate_distortion.envelope import Envelope

__all__ = ["Sharing", "falling", "follow", "reassign", "settle", "share"]


class Sharing(NamedTuple):
    """The codebook in use and lambda, the nats of loss that a bit may cost in the next assignment."""

    code: Code
    scale: float


def falling(progress: float, start: float, end: float, over: float) -> float:
    """The value on a line from ``start`` to ``end`` that is reached at ``progress = over``, and ``end`` after it.

    >>> falling(0.25, 5.0, 3.0, 0.5)
    4.0
    """
    return end if progress >= over else start + (end - start) * progress / over


def follow(scale: float, entropy: float, target: float) -> float:
    """The lambda after an assignment whose entropy missed the target.

    At high rates the entropy falls by one bit as lambda grows fourfold, ``log 4 = 1.4`` nats; the step taken is
    a little shorter, and at most half a nat, because the counts lag behind.
    """
    return scale * math.exp(max(-0.5, min(0.5, entropy - target)))


def share(w: Tensor, sensitivity: Tensor, sharing: Sharing) -> Tensor:
    """Index of the value, among those of the codebook, that costs each weight least; int32 ``[N]``."""
    code, scale = sharing
    return Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)


def reassign(
    w: Tensor, sensitivity: Tensor, sharing: Sharing, target: float, max_unique: int
) -> tuple[Tensor, Sharing]:
    """Assign all weights once, with the lengths that their last assignment gave the values.

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
    values = code.values.float().index_select(0, index)
    return values, Sharing(taken, follow(sharing.scale, taken.entropy, target))


def settle(
    w: Tensor, sensitivity: Tensor, sharing: Sharing, target: float, max_unique: int, *, rest: bool
) -> tuple[Tensor, Sharing]:
    """Assign all weights at an entropy in ``[target - 0.02, target]``, by a search for lambda.

    Args:
        w, sensitivity, sharing, target, max_unique: as of :func:`reassign`.
        rest: compute counts and assignment in turn until they rest, as a first assignment must, whose values have
            no lengths. Otherwise the lengths stay, and few weights change: what the last assignment changes, no
            training makes up for.

    Returns:
        As :func:`reassign`. Where the entropy jumps over the interval, it is the nearest one found below.
    """
    found: dict[float, tuple[Tensor, Code]] = {}
    last = code_of(sharing.code.values, sharing.code.counts, max_unique=max_unique)

    def entropy(scale: float) -> float:
        code = alternate(w, sensitivity, scale, sharing.code, max_unique=max_unique) if rest else last
        index = share(w, sensitivity, Sharing(code, scale))
        taken = code_of(code.values, index.bincount(minlength=len(code.values)))
        found[scale] = code.values.float().index_select(0, index), taken
        return taken.entropy

    scale = search(entropy, target, sharing.scale)
    if scale not in found:  # the search gives the end of an interval, which it need not have looked at
        entropy(scale)
    values, code = found[scale]
    return values, Sharing(code, scale)

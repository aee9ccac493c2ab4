"""Assignment and counts in turn: entropy-constrained scalar quantisation (Chou, Lookabaugh and Gray, 1989).

Weight i takes ``argmin_c 0.5 D_i (c - w_i)**2 + lambda bits(c)`` with ``bits(c) = -log2(count(c) / N)``; counts
and assignment are computed in turn until they rest. Where there are more values than wanted, those go whose
weights lose least by it: values that few weights have, but weights to which the loss is sensitive, stay.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pwfn.rate_distortion.codes import Code, code_of
from pwfn.rate_distortion.envelope import Envelope

__all__ = ["alternate"]

PASSES = 50
REST = 5e-4  # bits by which the entropy still moves when counts and assignment count as resting


def alternate(
    w: Tensor,
    sensitivity: Tensor,
    scale: float,
    start: Code,
    *,
    max_unique: int,
    floor: float = 0.0,
    mass: Tensor | None = None,
) -> Code:
    """Compute assignment and counts in turn until they rest; then drop the most dispensable values, and again.

    Args:
        w: floating point ``[N]``.
        sensitivity: floating point ``[N]``, positive, ``D_i``.
        scale: lambda, nats of mean loss that a bit may cost.
        start: the code of the first assignment.
        max_unique: most values at the end. A quarter at most of those too many are dropped at a time.
        floor: least share of the weights of a value at the end.
        mass: floating point ``[N]``, how many weights each one stands for; 1 if None.

    Returns:
        The code of the last assignment; entropy never rises above what the last code gave it.
    """
    code, before = start, math.inf
    t = (2 * scale) / sensitivity
    passes = 0
    while True:
        index = Envelope(code.values, code.lengths).assign(w, t)
        counts = index.bincount(mass, minlength=len(code.values))
        used = code_of(code.values, counts)
        passes += 1
        if before - used.entropy >= REST and passes < PASSES:
            code, before = used, used.entropy
            continue
        pruned = code_of(used.values, used.counts, floor=floor)
        if len(pruned.values) == len(used.values) > max_unique:
            loss = _dispensing(w, t, sensitivity, index, code, mass)[counts > 0]
            pruned = _without(used, loss, len(used.values) - max_unique)
        if len(pruned.values) == len(used.values):
            return used
        code, before, passes = pruned, math.inf, 0


def _dispensing(w: Tensor, t: Tensor, sensitivity: Tensor, index: Tensor, code: Code, mass: Tensor | None) -> Tensor:
    """Rise of the cost if a value goes and its weights take the better of its two neighbours, ``[C]``."""
    values, lengths = code.values.to(w.dtype), code.lengths.to(w.dtype)

    def cost(k: Tensor) -> Tensor:
        return (values[k] - w).square() + t * lengths[k]

    index = index.long()
    last = len(values) - 1
    below = torch.where(index > 0, cost((index - 1).clamp_(min=0)), math.inf)
    above = torch.where(index < last, cost((index + 1).clamp_(max=last)), math.inf)
    rise = (torch.minimum(below, above) - cost(index)).mul_(sensitivity)
    return rise.new_zeros(last + 1, dtype=torch.float64).index_add_(
        0, index, (rise if mass is None else rise * mass).double()
    )


def _without(code: Code, rise: Tensor, excess: int) -> Code:
    """The code without the values of least rise, a quarter of the excess at most, and no two neighbours at once."""
    dropped: set[int] = set()
    for k in rise.argsort(stable=True).tolist():
        if not {k - 1, k + 1} & dropped:
            dropped.add(k)
        if len(dropped) >= max(1, excess // 4):
            break
    keep = torch.tensor([k not in dropped for k in range(len(rise))], device=code.values.device)
    return code_of(code.values[keep], code.counts[keep])

"""Entropy-constrained assignment: what a move costs in loss, and a value in bits.

Weight i takes ``argmin_c 0.5 D_i (c - w_i)**2 + lambda bits(c)`` with ``bits(c) = -log2(count(c) / N)``; counts
and assignment are computed in turn until they rest (Chou, Lookabaugh and Gray, 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pwfn import apot
from pwfn.assignment import Assignment
from pwfn.rate_distortion.codes import Code, candidates, code_of
from pwfn.rate_distortion.envelope import Envelope

__all__ = ["Code", "alternate", "assign", "candidates", "code_of", "fit", "search"]

TOLERANCE = 0.02  # bits
SAMPLE = 2**15  # weights among which the codebook is found first, of far more
PASSES = 50
REST = 5e-4  # bits by which the entropy still moves when counts and assignment count as resting


def alternate(
    w: Tensor, sensitivity: Tensor, scale: float, start: Code, *, max_unique: int, floor: float = 0.0
) -> Code:
    """Compute assignment and counts in turn until they rest; then drop the least used values, and again.

    Args:
        w: floating point ``[N]``.
        sensitivity: floating point ``[N]``, positive, ``D_i``.
        scale: lambda, nats of mean loss that a bit may cost.
        start: the code of the first assignment.
        max_unique: most values at the end. A quarter at most of those too many are dropped at a time.
        floor: least share of the weights of a value at the end.

    Returns:
        The code of the last assignment; entropy never rises above what the last code gave it.
    """
    code, before = start, math.inf
    t = (2 * scale) / sensitivity
    for _ in range(PASSES):
        index = Envelope(code.values, code.lengths).assign(w, t)
        code = code_of(code.values, index.bincount(minlength=len(code.values)))
        if before - code.entropy < REST:
            excess = len(code.values) - max_unique
            most = len(code.values) - max(1, excess // 4) if excess > 4 else max_unique
            pruned = code_of(code.values, code.counts, max_unique=most, floor=floor)
            if len(pruned.values) == len(code.values):
                break
            code = pruned
            before = math.inf
        else:
            before = code.entropy
    return code_of(code.values, code.counts, max_unique=max_unique, floor=floor)


def search(entropy: Callable[[float], float], bits: float, start: float) -> float:
    """The lambda at which a falling function reaches ``[bits - 0.02, bits]``, by bisection of its logarithm.

    Where the entropy jumps over the interval, the smallest lambda found with an entropy below it.

    Args:
        entropy: bits a weight as a function of lambda.
        bits: the target.
        start: a first guess, positive.
    """
    low, high = -math.inf, math.inf  # entropy(exp(low)) > bits >= entropy(exp(high))
    x = math.log(start)
    for attempt in range(60):
        found = entropy(math.exp(x))
        if found > bits:
            low = x
        else:
            high = x
            if found >= bits - TOLERANCE:
                break
        if high - low < 1e-6 or x < math.log(start) - 60:  # even free of charge, the weights need fewer bits
            break
        # at many bits the distortion, and with it lambda, falls by 4 a bit
        step = math.log(4) * (found - bits + TOLERANCE / 2)
        if math.isinf(high - low):
            x += step * 1.5**attempt if abs(step) > 0.02 else math.copysign(0.5, step)
        else:
            x = x + step if attempt < 8 and low < x + step < high else (low + high) / 2
    return math.exp(high)


@torch.no_grad()
def assign(
    w: Tensor,
    sensitivity: Tensor,
    *,
    bits: float = 3.0,
    max_unique: int = 64,
    max_order: int = 2,
    min_exponent: int | None = None,
    floor: float = 0.0,
) -> Assignment:
    """Assign every weight the shared value that costs it least, at ``bits`` bits a weight.

    The entropy lies in ``[bits - 0.02, bits]``; where it jumps over that interval, or the weights need fewer
    bits at no cost, it is the nearest one found below.

    Args:
        w: float32 ``[N]``, weights.
        sensitivity: floating point ``[N]``, ``D_i``, second derivative of the mean loss in nats, positive.
        bits: target of the entropy, in bits a weight.
        max_unique: most values in the codebook.
        max_order: most powers of two that a value is a sum of.
        min_exponent: smallest power; None is 12 below the power that no weight exceeds.
        floor: least share of the weights that a value may have, in [0, 1).

    Returns:
        An assignment that fixes every weight, its groups in ascending order of their values, ``reaches`` the
        largest ``|c - w|`` of each. O(N log C) time for each pass over the weights, O(N) memory.

    Raises:
        ValueError: if ``w`` is not a finite float32 vector, ``sensitivity`` not as long, finite and positive,
            ``bits`` not positive, ``max_unique`` below 1, or ``floor`` outside [0, 1).
    """
    _check(w, sensitivity, bits, max_unique, floor)
    if len(w) == 0:
        none = w.new_zeros(0)
        numbers = none.long()
        return Assignment(none, none.bool(), none.int(), none, numbers, numbers, none)
    w, sensitivity = w.detach(), sensitivity.detach()
    values = candidates(w, max_order=max_order, min_exponent=min_exponent)
    scale, code = fit(w, sensitivity, values, bits=bits, max_unique=max_unique, floor=floor)
    group = Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)
    return _assignment(w, group, code.values)


def fit(
    w: Tensor, sensitivity: Tensor, values: Tensor, *, bits: float, max_unique: int, floor: float = 0.0
) -> tuple[float, Code]:
    """lambda and the code whose assignment has the wanted entropy.

    Alternation ends in the nearest of many local optima, and all candidates together are a bad place to start
    from: the values around 0, which lie densest, keep what they have. At a few bits the best values lie about
    evenly (Gish and Pierce, 1968). So it starts from all candidates, and from the multiples of ``2**k`` and
    ``3 * 2**k`` among them whose nearest values have somewhat more bits than wanted; the start with the least
    ``distortion + lambda bits`` is taken. That is done on a sample.

    Args:
        w: float32 ``[N]``.
        sensitivity: floating point ``[N]``, positive.
        values: float64 ``[C]``, the candidates, sorted.
        bits: the target, in bits a weight.
        max_unique: most values in the code.
        floor: least share of the weights of a value.
    """
    if len(w) > SAMPLE:
        part = torch.linspace(0, len(w) - 1, SAMPLE, device=w.device, dtype=torch.float64).long()
        few, weight = w[part], sensitivity[part]
    else:
        few, weight = w, sensitivity
    mean = float((weight.double() * few.double().square()).mean())
    scale = mean * 4.0**-bits / 4 + 1e-30
    starts: list[Code] = []
    for start in _starts(values):
        # too coarse cannot reach the target, far too fine would end where a coarser one does
        if not starts or bits < _used(few, weight, 0.0, start).entropy < bits + 2:
            starts.append(start)
    found: list[tuple[float, float, float, Code]] = []
    for keep in (1, 3):  # the first lambda is a guess
        ends = [alternate(few, weight, scale, start, max_unique=max_unique, floor=floor) for start in starts]
        costs = torch.tensor([_cost(few, weight, scale, end) for end in ends], dtype=torch.float64)
        starts = [starts[k] for k in costs.argsort(stable=True)[:6].tolist()]
        found = []
        for start in starts[:keep]:
            end, code = _reach(few, weight, bits, scale, start, max_unique, floor)
            distortion = _cost(few, weight, end, code) - end * code.entropy
            # values of equal use die together, and then the entropy jumps; another start may come nearer
            found.append((max(0.0, bits - TOLERANCE - code.entropy), distortion, end, code))
        _, _, scale, code = min(found, key=lambda x: x[:2])
    if few is not w:
        code = alternate(w, sensitivity, scale, code, max_unique=max_unique, floor=floor)
    # of one code the entropy does not jump
    return search(lambda scale: _used(w, sensitivity, scale, code).entropy, bits, scale), code


def _used(w: Tensor, sensitivity: Tensor, scale: float, code: Code) -> Code:
    index = Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)
    return code_of(code.values, index.bincount(minlength=len(code.values)))


def _starts(values: Tensor) -> Iterator[Code]:
    """Multiples of ``2**k`` and of ``3 * 2**k`` among the values, all equally cheap."""
    smallest = float(values.abs()[values != 0].min()) if (values != 0).any() else 1.0
    largest = float(values.abs().max())
    step = smallest
    while step <= max(largest, smallest):
        for factor in (1, 3):
            kept = values[values.remainder(factor * step) == 0]
            if len(kept) > 1 or (step == smallest and factor == 1):
                yield Code(kept, torch.ones_like(kept, dtype=torch.int64), torch.zeros_like(kept))
        step *= 2


def _cost(w: Tensor, sensitivity: Tensor, scale: float, code: Code) -> float:
    """Mean over the weights of ``0.5 D (c - w)**2 + lambda bits``."""
    index = Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)
    squares = (code.values.float().index_select(0, index) - w).square()
    return float((0.5 * sensitivity * squares).double().mean()) + scale * float(code.lengths[index].mean())


def _reach(
    w: Tensor, sensitivity: Tensor, bits: float, scale: float, start: Code, max_unique: int, floor: float
) -> tuple[float, Code]:
    codes: dict[float, Code] = {}

    def entropy(scale: float) -> float:
        codes[scale] = alternate(w, sensitivity, scale, start, max_unique=max_unique, floor=floor)
        return _used(w, sensitivity, scale, codes[scale]).entropy

    scale = search(entropy, bits, scale)
    return scale, codes[scale]


def _assignment(w: Tensor, group: Tensor, values: Tensor) -> Assignment:
    counts = group.bincount(minlength=len(values))
    used = counts > 0
    group = (used.cumsum(0, dtype=torch.int32) - 1).index_select(0, group)
    centroids = values[used].float()
    rounded = centroids.index_select(0, group)
    away = (w - rounded).abs_()
    return Assignment(
        values=rounded,
        fixed=torch.ones_like(w, dtype=torch.bool),
        group=group,
        centroids=centroids,
        counts=counts[used],
        orders=apot.order_of(centroids),
        reaches=torch.zeros_like(centroids).scatter_reduce_(0, group.long(), away, "amax"),
    )


def _check(w: Tensor, sensitivity: Tensor, bits: float, max_unique: int, floor: float) -> None:
    if w.dim() != 1 or w.dtype != torch.float32:
        raise ValueError(f"w must be a float32 vector, got {w.dtype} of shape {tuple(w.shape)}")
    if w.shape != sensitivity.shape or w.device != sensitivity.device:
        raise ValueError("sensitivity must have the length and the device of w")
    if len(w) and not torch.stack(w.aminmax()).isfinite().all():
        raise ValueError("w must be finite")
    if len(w) and not (sensitivity.min() > 0 and sensitivity.max() < math.inf):
        raise ValueError("sensitivity must be finite and positive")
    if not bits > 0:
        raise ValueError(f"bits must be positive, got {bits}")
    if max_unique < 1:
        raise ValueError(f"max_unique must be at least 1, got {max_unique}")
    if not 0 <= floor < 1:
        raise ValueError(f"floor must lie in [0, 1), got {floor}")

"""Codebook and lambda for a number of bits a weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pwfn.rate_distortion.alternation import alternate
from pwfn.rate_distortion.codes import Code, above, code_of
from pwfn.rate_distortion.envelope import Envelope

__all__ = ["TOLERANCE", "fit", "search"]

TOLERANCE = 0.02
"""How far below its target the entropy may end, in bits."""

SAMPLE = 2**15  # weights among which the codebook is found first, of far more


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
        floor: least share of the weights of a value; the values below it are dropped until none is left.
    """
    few, weight, mass = _sample(w, sensitivity)
    total = float(mass.double().sum())
    mean = float((mass * weight.double() * few.double().square()).sum()) / total
    scale = mean * 4.0**-bits / 4 + 1e-30
    starts: list[Code] = []
    for start in _starts(values):
        # too coarse cannot reach the target, far too fine would end where a coarser one does
        if not starts or bits < _used(few, weight, 0.0, start, mass).entropy < bits + 2:
            starts.append(start)
    found: list[tuple[float, float, float, Code]] = []
    for keep in (1, 3):  # the first lambda is a guess
        ends = [alternate(few, weight, scale, start, max_unique=max_unique, floor=floor, mass=mass) for start in starts]
        costs = torch.tensor([_cost(few, weight, scale, end, mass) for end in ends], dtype=torch.float64)
        starts = [starts[k] for k in costs.argsort(stable=True)[:6].tolist()]
        found = []
        for start in starts[:keep]:
            end, code = _reach(few, weight, bits, scale, start, max_unique, floor, mass)
            distortion = _cost(few, weight, end, code, mass) - end * code.entropy
            # values of equal use die together, and then the entropy jumps; another start may come nearer
            found.append((max(0.0, bits - TOLERANCE - code.entropy), distortion, end, code))
        _, _, scale, code = min(found, key=lambda x: x[:2])
    if len(few) < len(w):
        code = alternate(w, sensitivity, scale, code, max_unique=max_unique, floor=floor)

    def used(scale: float) -> Code:
        return _used(w, sensitivity, scale, code, None)

    while True:
        scale = search(lambda scale: used(scale).entropy, bits, scale)  # of one code the entropy does not jump
        if not floor or (frequent := above(used(scale), floor)) is None:
            return scale, code
        code = frequent


def _sample(w: Tensor, sensitivity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, their sensitivities, and how many weights each of them stands for: all of them, or a sample.

    Half of the sample is even and half goes by sensitivity, so that a small sensitive layer is not missed.
    """
    if len(w) <= SAMPLE:
        return w, sensitivity, torch.ones_like(w)
    share = 0.5 / len(w) + 0.5 * sensitivity.double() / sensitivity.double().sum()
    chance = (SAMPLE * share).clamp_(max=1.0)
    place = chance.cumsum(0).floor_()
    part = (place.diff(prepend=place.new_zeros(1)) > 0).nonzero()[:, 0]
    return w[part], sensitivity[part], chance[part].reciprocal().to(w.dtype)


def _used(w: Tensor, sensitivity: Tensor, scale: float, code: Code, mass: Tensor | None) -> Code:
    index = Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)
    return code_of(code.values, index.bincount(mass, minlength=len(code.values)))


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


def _cost(w: Tensor, sensitivity: Tensor, scale: float, code: Code, mass: Tensor) -> float:
    """Mean over the weights of ``0.5 D (c - w)**2 + lambda bits``."""
    index = Envelope(code.values, code.lengths).assign(w, (2 * scale) / sensitivity)
    squares = (code.values.float().index_select(0, index) - w).square()
    costs = 0.5 * sensitivity * squares + scale * code.lengths.to(w)[index]
    return float((mass * costs).double().sum() / mass.double().sum())


def _reach(
    w: Tensor,
    sensitivity: Tensor,
    bits: float,
    scale: float,
    start: Code,
    max_unique: int,
    floor: float,
    mass: Tensor,
) -> tuple[float, Code]:
    codes: dict[float, Code] = {}

    def entropy(scale: float) -> float:
        codes[scale] = alternate(w, sensitivity, scale, start, max_unique=max_unique, floor=floor, mass=mass)
        return _used(w, sensitivity, scale, codes[scale], mass).entropy

    scale = search(entropy, bits, scale)
    return scale, codes[scale]

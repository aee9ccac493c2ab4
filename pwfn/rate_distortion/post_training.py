"""Fix a trained network at a few bits a weight, without training.

>>> # fix(model, images, bits=3)  # images: some 500 to 2,000, as the network wants them; labels are not needed
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, distributed, nn

from pwfn.rate_distortion import norm_statistics
from pwfn.rate_distortion.codebook import TOLERANCE, search
from pwfn.rate_distortion.codebook import fit as fit_code
from pwfn.rate_distortion.codes import Code, above, candidates, code_of
from pwfn.rate_distortion.envelope import Envelope
from pwfn.rate_distortion.feedback import feedback, refine
from pwfn.rate_distortion.layers import Layer, observe
from pwfn.rate_distortion.result import Result, write
from pwfn.rate_distortion.shift import choose_shifts
from pwfn.scope import Place, Scope, conv_linear

__all__ = ["Result", "fix"]

PASSES = 12


@torch.no_grad()
def fix(
    model: nn.Module,
    images: Tensor | Iterable[Tensor | tuple[Tensor, Tensor] | list[Tensor]],
    bits: float = 3.0,
    *,
    max_unique: int = 64,
    max_order: int = 2,
    min_exponent: int | None = None,
    floor: float = 0.0,
    scope: Scope = conv_linear,
    shift: bool = False,
    sweeps: int = 1,
    temperature: float = 3.0,
    damping: float | None = None,
    positions: int = 128,
    norms: bool = True,
    memory: float = 2e9,
    seed: int = 0,
    group: distributed.ProcessGroup | None = None,
) -> Result:
    """Fix every weight in scope, in place, at a shared value; labels are not needed.

    Args:
        model: a classifier that maps a batch of images to logits.
        images: as the network wants them, some 500 to 2,000: one tensor, or batches, with or without labels.
            They are gone through several times and kept in memory.
        bits: target of the entropy, in bits a weight; met within 0.02 and never exceeded by more.
        max_unique: most values in the codebook.
        max_order: most powers of two that a value is a sum of.
        min_exponent: smallest power; None is 12 below the power that no weight exceeds.
        floor: least share of the weights that a value may have, in [0, 1).
        scope: which parameters; see :mod:`pwfn.scope`.
        shift: give each parameter a power-of-two scale of its own, by which one codebook serves layers of
            different size and sensitivity.
        sweeps: how often each weight is chosen anew after error feedback.
        temperature: at which the network's probabilities are taken for the sensitivities; above 1 the images
            of which it is sure count as well.
        damping: share of the mean diagonal added to each second moment; None is for each layer the share with
            which one half of the images serves the other half best.
        positions: about how many positions of an image are looked at in each layer.
        norms: correct the running statistics of norm layers afterwards, on the same images.
        memory: bytes for second moments; beyond it they are gathered in several passes and kept on disk.
        seed: of the random gradients and positions.
        group: processes that all fix the same network with the same images. Each gathers moments and gradients on
            its share of them; all go on with the sums, and make the same assignment on like devices.

    Returns:
        The figures of the fixed network.

    Raises:
        ValueError: if there are no images or no weights in scope, ``bits`` is not positive, ``max_unique`` is
            below 1, ``floor`` is outside [0, 1) or a weight is not finite.
    """
    if not bits > 0:
        raise ValueError(f"bits must be positive, got {bits}")
    if max_unique < 1:
        raise ValueError(f"max_unique must be at least 1, got {max_unique}")
    if not 0 <= floor < 1:
        raise ValueError(f"floor must lie in [0, 1), got {floor}")
    batches = _batches(images)
    places = _once(scope(model))
    if not places:
        raise ValueError("model has no weights in scope")
    if not all(bool(getattr(module, key).isfinite().all()) for _, module, key in places):
        raise ValueError("model has weights that are not finite")
    training = model.training
    model.eval()
    reference = copy.deepcopy(model) if norms else None
    with tempfile.TemporaryDirectory() as name:
        folder = tempfile.TemporaryDirectory(dir=name)
        layers = observe(
            model,
            places,
            batches,
            seed=seed,
            temperature=temperature,
            damping=damping,
            positions=positions,
            memory=memory,
            folder=folder,
            group=group,
        )
        first = partial(_first_code, layers, bits, max_unique, max_order, min_exponent, floor)
        start, scale = choose_shifts(layers, first) if shift else first()
        code, index, scale = _settle(layers, start, scale, bits, sweeps, floor)
        result = write(layers, code, index, scale)
    count = norm_statistics.correct(model, reference, batches) if reference is not None else 0
    model.train(training)
    return replace(result, norm_layers=count)


def _batches(images: Tensor | Iterable[Tensor | tuple[Tensor, Tensor] | list[Tensor]]) -> list[Tensor]:
    if isinstance(images, Tensor):
        found = list(images.split(50))
    else:
        found = [batch if isinstance(batch, Tensor) else batch[0] for batch in images]
    if not any(len(batch) for batch in found):
        raise ValueError("images must hold at least one image")
    return found


def _once(places: Iterable[Place]) -> list[Place]:
    seen: dict[int, Place] = {}
    for place in places:
        seen.setdefault(id(getattr(place[1], place[2])), place)  # a tied parameter comes once
    return list(seen.values())


def _first_code(
    layers: list[Layer], bits: float, max_unique: int, max_order: int, min_exponent: int | None, floor: float
) -> tuple[Code, float]:
    """Codebook and lambda of an assignment without feedback."""
    w = torch.cat([layer.w.flatten() for layer in layers])
    sensitivity = torch.cat([layer.sensitivity.flatten() for layer in layers])
    values = candidates(w, max_order=max_order, min_exponent=min_exponent)
    scale, code = fit_code(w, sensitivity, values, bits=bits, max_unique=max_unique, floor=floor)
    return code, scale


def _settle(
    layers: list[Layer], code: Code, scale: float, bits: float, sweeps: int, floor: float
) -> tuple[Code, Tensor, float]:
    """Feedback through all layers and counting in turn, lambda following the bits, until they are as wanted.

    Where they do not come to rest, the code stays, but for values below the floor, and lambda alone is searched for.
    """

    def choose(scale: float) -> Tensor:
        return torch.cat([_choose(layer, code, scale, sweeps).flatten() for layer in layers])

    def count(index: Tensor) -> Code:
        return code_of(code.values, index.bincount(minlength=len(code.values)))

    for attempt in range(PASSES):
        index = choose(scale)
        used = count(index)
        frequent = above(used, floor)
        missing = used.entropy - (bits - TOLERANCE / 2)
        # the first passes still change the codebook
        if attempt >= 3 and abs(missing) <= TOLERANCE / 2 and frequent is None:
            return code, index, scale
        # at many bits the distortion, and with it lambda, falls by 4 a bit
        scale *= math.exp(1.386 * max(-2.0, min(2.0, missing)))
        code = frequent or used
    while True:
        scale = search(lambda scale: count(choose(scale)).entropy, bits, scale)
        index = choose(scale)
        frequent = above(count(index), floor)
        if frequent is None:
            return code, index, scale
        code = frequent


def _choose(layer: Layer, code: Code, scale: float, sweeps: int) -> Tensor:
    if layer.g is None:
        return Envelope(code.values, code.lengths).assign(layer.w.flatten(), 2 * scale / layer.sensitivity.flatten())
    u, h = layer.load()
    index = feedback(layer.w, u, layer.g, scale, code.values, code.lengths)
    return refine(layer.w, h, layer.g, scale, code.values, code.lengths, index, sweeps=sweeps) if sweeps else index

"""The compressed file of a fixed network, ``model.pwfn``: written, read, and rebuilt bit for bit.

Four sections of a :mod:`pwfn.artifact.container`::

    header     JSON (zstd): the architecture; name, dtype and shape of every tensor; ties
    codebook   JSON (zstd): the shared values as sums of powers of two (else float32 bits), and their counts in
               the whole network or in each tensor, whichever makes the smaller file
    indices    one entropy-coded stream over all shared tensors, in state-dict order, by these counts
               (:mod:`pwfn.artifact.codebook`)
    plain      the bytes of every other tensor as they are; zstd would save a tenth of these few percent

Reading trusts nothing that a file says: it never unpickles and never imports, sizes are checked against the
file's length before memory is taken, and only networks of timm's registry and of pwfn's own are built by name
(:mod:`pwfn.model.architecture`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pwfn.artifact.codebook import MAX_UNIQUE
from pwfn.artifact.reader import Packed, unpack
from pwfn.artifact.sizes import Sizes
from pwfn.artifact.writer import pack
from pwfn.model import architecture as networks
from pwfn.model.ties import owners
from pwfn.rundir.files import atomic

__all__ = ["MAX_UNIQUE", "Sizes", "load", "read", "save", "sizes"]

log = logging.getLogger(__name__)

_MAX_BUFFERS = 2**30  # bytes beyond the file's own; a network computes tables for itself that no file holds


def save(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    shared: Iterable[str],
    *,
    architecture: Mapping[str, Any],
) -> Sizes:
    """Write a fixed network to ``path``, replacing what is there in one step.

    Args:
        path: the file.
        state_dict: a plain state dict, named as the rebuilt network names it.
        shared: the float32 tensors whose values come from the network-wide codebook; all others are stored
            plainly. A tied tensor is stored once, and shared if one of its names is.
        architecture: how to rebuild the network, see :func:`pwfn.model.architecture.check`. One that a file may
            not have built is written as information, with a warning.

    Returns:
        What the network weighs, ``entropy_coded`` being the size of the file.

    Raises:
        ValueError: if a shared tensor is missing or not float32, or the architecture has not that form.
    """
    reason = networks.refusal(architecture)
    if reason is not None:
        log.warning("%s is read with pwfn.load(path, architecture=...) alone: %s", path, reason)
    data, measured = pack(state_dict, [*shared], architecture)
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(data)
    return measured


def sizes(state_dict: Mapping[str, Tensor], shared: Iterable[str]) -> Sizes:
    """What a network weighs, fixed or not, without writing a file (whose header here names no architecture).

    Raises:
        ValueError: if a shared tensor is missing or not float32.
    """
    return pack(state_dict, [*shared], {})[1]


def load(path: str | Path, *, architecture: nn.Module | Callable[[], nn.Module] | None = None) -> nn.Module:
    """The network of a file in evaluation mode, every weight bit for bit what was saved.

    Args:
        path: a file that :func:`save` wrote.
        architecture: the network to load the weights into, or a callable without arguments that makes it; for
            networks that neither timm nor pwfn knows by name. What the file says of its network is then not read.

    Raises:
        ValueError: if the file is truncated, altered or foreign, its network is unknown, or does not fit.
    """
    packed = _unpack(path)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and then thrown away
        if architecture is None:
            shapes = _named(path, packed, meta=True)
            _require_fit(path, packed, shapes)
            if sum(buffer.nbytes for buffer in shapes.buffers()) > _MAX_BUFFERS + sum(map(len, packed.sections)):
                raise ValueError(f"{path} names a network that computes too many buffers: give architecture=")
            network = _named(path, packed)
        else:
            network = architecture if isinstance(architecture, nn.Module) else architecture()
            _require_fit(path, packed, network)
    state = _tensors(path, packed)
    apart = [name for name, owner in owners(network.state_dict()).items() if not _same(state[name], state[owner])]
    if apart:
        raise ValueError(f"{path}: its network ties {apart[0]!r} to a tensor from which it differs in the file")
    network.load_state_dict(state)
    return network.eval()


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The architecture, as the writer described it, and the state dict of a file; tied names hold one tensor.

    Raises:
        ValueError: if the file is truncated, altered, foreign or of another version.
    """
    packed = _unpack(path)
    return packed.architecture, _tensors(path, packed)


def _unpack(path: str | Path) -> Packed:
    try:
        return unpack(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _tensors(path: str | Path, packed: Packed) -> dict[str, Tensor]:
    try:
        return packed.tensors()
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _named(path: str | Path, packed: Packed, *, meta: bool = False) -> nn.Module:
    """The network that a file names, or its shapes alone."""
    try:
        return networks.build(packed.architecture, meta=meta)
    except ValueError as error:
        raise ValueError(
            f"{path} holds a network that cannot be built from the file alone ({error}): "
            "give the network itself, as pwfn.load(path, architecture=...)"
        ) from error


def _require_fit(path: str | Path, packed: Packed, network: nn.Module) -> None:
    """Refuse a file whose tensors are not those of the network."""
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    unlike = expected.items() ^ packed.shapes.items()
    if unlike:
        names = sorted({name for name, _ in unlike})
        raise ValueError(f"{path}: {len(names)} of its tensors do not fit its network, such as {names[0]!r}")


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.dtype == b.dtype and torch.equal(a.view(-1).view(torch.uint8), b.view(-1).view(torch.uint8)))

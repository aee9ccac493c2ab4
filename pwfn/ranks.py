"""Data-parallel training: what the ranks must have in common, and what each keeps to itself."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pwfn.gaussian import gaussian_weights

__all__ = [
    "all_ranks",
    "broadcast_from_rank_0",
    "from_rank_0",
    "ignore_in_ddp_broadcast",
    "is_clustering_rank",
    "mean_over_ranks",
    "of_this_rank",
    "rank_of",
    "seed_rank",
]

T = TypeVar("T")


@torch.no_grad()
def broadcast_from_rank_0(model: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0, bit for bit. Does nothing in a single process."""
    if not _connected():
        return
    for tensor in [*model.parameters(), *model.buffers()]:
        distributed.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, 0)


def from_rank_0(tensor: Tensor) -> Tensor:
    """The tensor of rank 0, of the shape and dtype that all ranks have; in a single process the tensor itself."""
    if not _connected():
        return tensor
    shared = tensor.contiguous()
    distributed.broadcast(shared, 0)
    return shared


def all_ranks() -> distributed.ProcessGroup | None:
    """The group of all ranks; None in a single process."""
    return distributed.group.WORLD if _connected() else None


def is_clustering_rank() -> bool:
    """Whether this process clusters: rank 0, and any process that is not connected with others."""
    return not _connected() or distributed.get_rank() == 0


def rank_of() -> int:
    """The number of this process among those that are connected; 0 for one that is not."""
    return distributed.get_rank() if _connected() else 0


def of_this_rank(batches: Iterable[T]) -> Iterator[T]:
    """The batches that this rank looks at where all ranks were given the same: each has one in as many as there are."""
    return islice(batches, rank_of(), None, distributed.get_world_size() if _connected() else 1)


@torch.no_grad()
def mean_over_ranks(means: Sequence[Tensor], count: int) -> list[Tensor]:
    """The mean over what all ranks have seen, the same on each.

    Args:
        means: the means of this rank, floating point.
        count: over how many; 0 leaves this rank out.
    """
    if not _connected():
        return [*means]
    total = torch.tensor(count, dtype=torch.float64, device="cpu" if distributed.get_backend() == "gloo" else "cuda")
    distributed.all_reduce(total)
    found = [mean * count for mean in means]
    for tensor in found:
        distributed.all_reduce(tensor)
    return [tensor.div_(float(total)) for tensor in found]


def seed_rank(rank: int) -> None:
    """Give this rank random numbers of its own, where all ranks were seeded alike: for the weights' noise in torch, for
    the mixing of images in NumPy.
    """
    seed = int(np.random.SeedSequence([torch.initial_seed(), rank]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def ignore_in_ddp_broadcast(module: nn.Module) -> None:
    """Spare the buffers of Gaussian weights the broadcast that data-parallel training makes before each forward.

    They change in fixing rounds alone, and :func:`broadcast_from_rank_0` runs there. BatchNorm's statistics stay in it.

    Args:
        module: the module that ``DistributedDataParallel`` will wrap.
    """
    ours = {id(buffer) for _, _, weight in gaussian_weights(module) for buffer in weight.buffers()}
    names = [name for name, buffer in module.named_buffers(remove_duplicate=False) if id(buffer) in ours]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()

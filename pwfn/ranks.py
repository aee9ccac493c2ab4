"""Data-parallel training: what the ranks must have in common, and what each keeps to itself."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pwfn.gaussian import gaussian_weights

__all__ = ["broadcast_from_rank_0", "ignore_in_ddp_broadcast", "is_clustering_rank", "seed_rank"]


@torch.no_grad()
def broadcast_from_rank_0(model: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0, bit for bit. Does nothing in a single process."""
    if not _connected():
        return
    for tensor in [*model.parameters(), *model.buffers()]:
        distributed.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, 0)


def is_clustering_rank() -> bool:
    """Whether this process clusters: rank 0, and any process that is not connected with others."""
    return not _connected() or distributed.get_rank() == 0


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

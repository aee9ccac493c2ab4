"""Data-parallel training: what the ranks must have in common, and what each keeps to itself."""

from __future__ import annotations

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pwfn.gaussian import gaussian_weights

__all__ = ["agree", "leave_out"]


@torch.no_grad()
def agree(model: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0, bit for bit. Does nothing in a single process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    for tensor in [*model.parameters(), *model.buffers()]:
        distributed.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, 0)


def leave_out(module: nn.Module) -> None:
    """Spare the buffers of Gaussian weights the broadcast that data-parallel training makes before each forward.

    They change in fixing rounds alone, where :func:`agree` sees to them. BatchNorm's statistics stay in it.

    Args:
        module: the module that ``DistributedDataParallel`` will wrap.
    """
    ours = {id(buffer) for _, _, weight in gaussian_weights(module) for buffer in weight.buffers()}
    names = [name for name, buffer in module.named_buffers(remove_duplicate=False) if id(buffer) in ours]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)

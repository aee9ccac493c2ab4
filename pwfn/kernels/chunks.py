"""Long vectors in chunks: on a CPU what a core's cache holds, a thread to each; on a GPU far longer ones."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["chunks", "map_chunks"]

CPU, GPU = 2**15, 2**22
"""Elements in a chunk: float64 intermediates of 32 MB each fit a GPU that is full of activations."""

T = TypeVar("T")


def chunks(vector: Tensor, threads: int = 1) -> tuple[Tensor, ...]:
    """Views of a vector, one after the other; one empty chunk of an empty vector.

    Args:
        vector: of any dtype.
        threads: how many CPU threads share one chunk.
    """
    parts: tuple[Tensor, ...] = vector.split(GPU if vector.is_cuda else CPU * threads)
    return parts


def map_chunks(work: Callable[..., T], *vectors: Tensor) -> list[T]:
    """Apply ``work`` to corresponding chunks of vectors of one length.

    On a CPU as many threads as torch uses share the chunks; they track gradients, so detach what needs none.

    Returns:
        What ``work`` returned, in the order of the chunks, whatever the number of threads.
    """
    parts = [chunks(vector) for vector in vectors]
    if vectors[0].is_cuda or len(parts[0]) == 1 or torch.get_num_threads() == 1:
        return list(map(work, *parts))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(work, *parts))

"""The length of Huffman's code for values that occur some number of times."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

__all__ = ["bits"]


def bits(counts: Iterable[int]) -> int:
    """Compute how many bits Huffman's code (1952) spends on all occurrences together.

    A lone value takes one bit each, since a code word is never empty.

    >>> bits([1, 1, 2])  # words of 2, 2 and 1 bits
    6
    >>> bits([5])
    5

    Args:
        counts: occurrences of each value, positive.
    """
    heap = list(counts)
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined  # each of these occurrences gets one bit more
        heapq.heappush(heap, joined)
    return total

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pwfn.kernels import chunks


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 1000])
def test_each_element_once_and_in_order(length: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CPU", 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, y = torch.arange(length), torch.zeros(length, dtype=torch.int64)

    def work(x: Tensor, y: Tensor) -> list[int]:
        y += 2 * x + 1  # chunks are views
        return x.tolist()

    found = chunks.map_chunks(work, x, y)
    assert [i for part in found for i in part] == list(range(length))
    assert y.equal(2 * torch.arange(length) + 1)
    assert all(len(part) <= 7 for part in found) and len(found) >= 1


def test_a_chunk_for_several_threads_is_as_many_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CPU", 5)
    assert [len(part) for part in chunks.chunks(torch.zeros(32), threads=3)] == [15, 15, 2]


def test_an_error_in_a_thread_is_an_error() -> None:
    def work(part: Tensor) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        chunks.map_chunks(work, torch.zeros(chunks.CPU + 1))

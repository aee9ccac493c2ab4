"""Damaged and forged files: refused with a ValueError, or read as a harmless state dict; never anything else."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pwfn.artifact import codebook, container, reader
from pwfn.artifact.writer import pack
from pwfn.model import architecture

RESNET = {"name": "test_resnet", "kwargs": {"num_classes": 10}}
SAVED = {
    "w": torch.tensor([0.5, -0.25, 0.5, 0.0] * 20).view(8, 10),
    "v": torch.tensor([0.5, 0.125] * 9),
    "b": torch.tensor([1.5]),
    "n": torch.tensor(7),
    "half": torch.ones(3).half(),
    "mask": torch.tensor([True, False]),
}
STATE = {**SAVED, "tied": SAVED["w"]}
FILE = pack(STATE, ["w", "v"], RESNET)[0]
"""A file of some 400 bytes: read in memory it takes a tenth of a millisecond, most of it for the tensors."""


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crafted sizes are believed up to a few megabytes only, which makes the tests fast."""
    monkeypatch.setattr(reader, "_FREE_WEIGHTS", 2**16)


def read(data: bytes) -> dict[str, Tensor] | None:
    """The state dict of a file, None if it is refused."""
    try:
        packed = reader.unpack(data)
        state = packed.tensors()
    except ValueError:
        return None
    assert {name: tensor.shape for name, tensor in state.items()} == packed.shapes
    assert sum(tensor.numel() for tensor in state.values()) <= 2 * len(packed.entries) * reader.most_weights(len(data))
    return state


def damaged(draw: random.Random) -> bytes:
    """The file with one bit turned over, cut short, or with a piece taken out, doubled or drawn anew."""
    kind, at = draw.randrange(6), draw.randrange(len(FILE))
    piece = draw.randrange(1, 40)
    if kind < 2:
        return FILE[:at] + bytes([FILE[at] ^ (1 << draw.randrange(8))]) + FILE[at + 1 :]
    if kind == 2:
        return FILE[:at]
    if kind == 3:
        return FILE[:at] + FILE[at + piece :]
    if kind == 4:
        return FILE[: at + piece] + FILE[at:]
    return FILE[:at] + draw.randbytes(piece) + FILE[at + piece :]


def forged(draw: random.Random) -> bytes:
    """The file with damage inside of one section, whose checksum and compression hold."""
    sections = container.split(FILE)
    for _ in range(draw.choice((1, 1, 2, 5))):
        which = draw.randrange(4)
        packed = which < 2
        content = bytearray(zstandard.decompress(sections[which]) if packed else sections[which])
        at, kind = draw.randrange(len(content) or 1), draw.randrange(4)
        if kind == 0 and content:
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            content[at : at + 1] = draw.choice([b"9", b"-", b"[", b"]", b",", b"e", b"null", b'"', b"0", b"{}", b"\0"])
        elif kind == 2:
            del content[at : at + draw.randrange(1, 9)]
        else:
            content[at:at] = content[draw.randrange(len(content) or 1) :][: draw.randrange(1, 30)]
        sections[which] = zstandard.compress(bytes(content), 1) if packed else bytes(content)
    return container.join(sections)


def test_the_file_itself_is_read() -> None:
    state = read(FILE)
    assert state is not None and state["tied"] is state["w"]
    assert all(torch.equal(state[name], tensor) for name, tensor in STATE.items())


def test_ten_thousand_flips_and_cuts_are_refused() -> None:
    draw = random.Random(0)
    for _ in range(10_000):
        data = damaged(draw)
        assert data == FILE or read(data) is None


def test_every_bit() -> None:
    for at in range(len(FILE)):
        for bit in range(8):
            assert read(FILE[:at] + bytes([FILE[at] ^ (1 << bit)]) + FILE[at + 1 :]) is None
        assert read(FILE[:at]) is None


def test_ten_thousand_forgeries_are_refused_or_harmless() -> None:
    draw = random.Random(1)
    found = [read(forged(draw)) for _ in range(10_000)]
    assert 200 < sum(state is not None for state in found) < 9_000  # both ends of the test are reached


@pytest.mark.slow
def test_a_minute_of_forgeries() -> None:
    draw, ends = random.Random(time.time_ns()), time.monotonic() + 60
    tried = 0
    while time.monotonic() < ends:
        state = draw.getstate()
        try:
            read(forged(draw))
            data = damaged(draw)
            assert data == FILE or read(data) is None
        except BaseException as error:
            raise AssertionError(f"forged from the random state {state}") from error
        tried += 2
    print(f"{tried} files tried")


NUMBERS = st.integers(-(2**70), 2**70) | st.integers(-3, 100) | st.floats() | st.booleans() | st.none()
JSON = st.recursive(
    NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
SHAPES = st.lists(st.integers(0, 90) | st.integers(-1, 2**64), max_size=9) | JSON
ENTRIES = st.fixed_dictionaries(
    {"name": st.sampled_from(["w", "v", "b", "tied"]) | JSON},
    optional={
        "kind": st.sampled_from(["shared", "float32", "bool", "load", "float8_e5m2", "dtype"]) | JSON,
        "shape": SHAPES,
        "tie": st.sampled_from(["w", "nowhere"]) | JSON,
    },
)
ROWS = st.lists(st.integers(-3, 90) | st.integers(-(2**70), 2**70) | JSON, max_size=8) | JSON
TABLES = st.fixed_dictionaries(
    {"counts": st.lists(ROWS, max_size=4) | JSON},
    optional={
        "sums": st.lists(st.lists(st.integers(-200, 200) | JSON, max_size=6), max_size=6) | JSON,
        "float32": st.lists(st.integers(-(2**33), 2**33) | JSON, max_size=6) | JSON,
    },
)


def with_sections(given: dict[int, bytes]) -> bytes:
    return container.join([given.get(i, section) for i, section in enumerate(container.split(FILE))])


def squeezed(content: Any) -> bytes:
    return zstandard.compress(json.dumps(content).encode(), 1)


@settings(deadline=None, max_examples=300)
@given(
    st.fixed_dictionaries({"architecture": JSON, "tensors": st.lists(ENTRIES, max_size=5) | JSON}) | JSON, st.binary()
)
def test_any_header(header: Any, plain: bytes) -> None:
    read(with_sections({0: squeezed(header), 3: plain}))


@settings(deadline=None, max_examples=300)
@given(TABLES | JSON, st.binary() | st.none())
def test_any_codebook_and_stream(table: Any, stream: bytes | None) -> None:
    read(with_sections({1: squeezed(table)} | ({} if stream is None else {2: stream})))


@settings(deadline=None, max_examples=500)
@given(st.lists(st.integers(1, 2**30), min_size=2, max_size=40), st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_any_counts_and_words(counts: list[int], words: list[int]) -> None:
    """The entropy decoder gets counts that make no distribution of the stream: it must not end the process."""
    few = [min(n, 50) for n in counts]
    stream = b"".join(word.to_bytes(4, "little") for word in words)
    try:
        codebook.decode(stream, [torch.tensor(few), torch.tensor([5])])
    except ValueError:
        return


@settings(deadline=None, max_examples=300)
@given(st.fixed_dictionaries({}, optional={"name": JSON, "_target_": JSON, "kwargs": JSON, "x": JSON}) | JSON)
def test_any_architecture(description: Any) -> None:
    try:
        assert architecture.refusal(description) is not None
    except ValueError:
        return


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert read(data) is None
    assert read(b"PWFN" + data) is None

"""The compressed file: small, bit-exact, and whole or refused."""

from __future__ import annotations

import json
import pickle
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pwfn.artifact.container
import pwfn.rundir.files
from pwfn.artifact import codebook
from pwfn.artifact import file as artifact
from pwfn.artifact.sizes import Sizes

RESNET = {"name": "test_resnet", "kwargs": {"num_classes": 10}}


def fix(network: nn.Module) -> list[str]:
    """Round every convolution and linear weight to the nearest of a few sums of powers of two."""
    magnitudes = {2.0**-a + 2.0**-b for a in range(2, 9) for b in range(a, 9)} | {0.0}
    grid = torch.tensor(sorted({sign * m for m in magnitudes for sign in (1, -1)}))
    names = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data = grid[torch.bucketize(module.weight.data, (grid[1:] + grid[:-1]) / 2)]
            names.append(f"{name}.weight")
    return names


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


@pytest.fixture(scope="module")
def shared_names(network: nn.Module) -> list[str]:
    return fix(network)


@pytest.fixture(scope="module")
def path(network: nn.Module, shared_names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("run") / "model.pwfn"
    artifact.save(file, network.state_dict(), shared_names, architecture=RESNET)
    return file


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A file of some 300 bytes."""
    state = {"w": torch.tensor([0.5, -0.25, 0.5, 0.0] * 20), "b": torch.tensor([1.5])}
    artifact.save(tmp_path / "tiny.pwfn", state, ["w"], architecture=RESNET)
    return tmp_path / "tiny.pwfn"


def same_bits(a: Tensor, b: Tensor) -> bool:
    whole = a.dtype == b.dtype and a.shape == b.shape
    return whole and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def test_weights_and_logits_are_bit_identical(network: nn.Module, path: Path) -> None:
    loaded = artifact.load(path)
    assert not loaded.training
    state, expected = loaded.state_dict(), network.state_dict()
    assert list(state) == list(expected)
    assert all(same_bits(state[name], expected[name]) for name in expected)
    images = torch.randn(4, 3, 64, 64)
    assert torch.equal(loaded(images), network(images))


def test_loading_leaves_the_random_state(path: Path) -> None:
    before = torch.get_rng_state()
    artifact.load(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_read(network: nn.Module, path: Path) -> None:
    description, state = artifact.read(path)
    assert description == RESNET
    assert list(state) == list(network.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_plain_tensors_of_any_dtype_and_shape(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.empty(0, 3, dtype=dtype),
        "matrix": (torch.randn(5, 7) * 10).to(dtype).t(),
    }
    artifact.save(tmp_path / "f", state, [], architecture=RESNET)
    back = artifact.read(tmp_path / "f")[1]
    assert all(same_bits(back[name], tensor.contiguous()) for name, tensor in state.items())


def test_odd_values_keep_their_bits(tmp_path: Path) -> None:
    odd = [0.0, -0.0, 1e-45, float("inf"), float("nan"), 0.1, -0.1, 3.4e38]
    state = {
        "odd": torch.tensor(odd),
        "zeros": torch.tensor([0.0, -0.0, -0.0]),
        "one": torch.full((3, 2), 0.5),
    }
    for names in (["odd"], ["zeros"], ["one"], ["zeros", "one"], list(state)):
        artifact.save(tmp_path / "f", state, names, architecture=RESNET)
        back = artifact.read(tmp_path / "f")[1]
        assert all(same_bits(back[name], state[name]) for name in state), names


def test_shared_tensors_not_contiguous_or_empty(tmp_path: Path) -> None:
    weight = torch.randint(-3, 4, (2, 3, 4, 5)) / 4
    state = {
        "nhwc": weight.to(memory_format=torch.channels_last),
        "t": weight[0, 0].t(),
        "none": torch.empty(0),
        "scalar": torch.tensor(0.75),
    }
    artifact.save(tmp_path / "f", state, state, architecture=RESNET)
    back = artifact.read(tmp_path / "f")[1]
    assert all(same_bits(back[name], state[name].contiguous()) for name in state)


def test_tied_tensors_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    weight = torch.randn(1000)
    state = {"a": weight, "b": weight, "c": torch.randint(0, 9, (1000,)) / 8}
    for names in (["a", "c"], ["b", "c"], ["c"]):
        sizes = artifact.save(tmp_path / "f", state, names, architecture=RESNET)
        back = artifact.read(tmp_path / "f")[1]
        assert back["a"] is back["b"] and same_bits(back["a"], weight)
        assert sizes.float32 == 8000


def test_close_to_the_entropy_bound(tmp_path: Path) -> None:
    """Four million weights of a Laplace-like histogram over 155 values, and a free vector."""
    torch.manual_seed(0)
    values = torch.tensor(
        sorted({s * (2.0**-a + 2.0**-b) for a in range(1, 13) for b in range(a, 13) for s in (1, -1)})
    )
    values = values[:155]
    share = torch.distributions.Laplace(77.0, 9.0).log_prob(torch.arange(155.0)).exp()
    drawn = torch.multinomial(share, 4_000_000, replacement=True)
    state = {"w": values[drawn].view(2000, 2000), "free": torch.randn(10_000)}
    sizes = artifact.save(tmp_path / "f", state, ["w"], architecture=RESNET)
    share = drawn.bincount() / drawn.numel()
    entropy = -(share[share > 0] * share[share > 0].log2()).sum().item()
    bound = entropy * drawn.numel() / 8 + 40_000
    assert sizes.bound == pytest.approx(bound, rel=1e-4)
    assert bound <= sizes.entropy_coded <= 1.002 * bound
    assert sizes.entropy_coded < sizes.zstd < sizes.float32
    assert sizes.entropy_coded < sizes.fixed_width


def test_sizes_by_hand(tmp_path: Path) -> None:
    """8 weights of 4 values, two bits each whether fixed or entropy-coded, one free float, one counter."""
    state = {"w": torch.tensor([0.0, 0.5, 1.0, 2.0] * 2), "b": torch.tensor([0.3]), "n": torch.tensor(7)}
    sizes = artifact.save(tmp_path / "f", state, ["w"], architecture=RESNET)
    assert sizes.float32 == 8 * 4 + 4 + 8
    assert sizes.float16 == 8 * 2 + 2 + 8
    assert sizes.unquantised == 4 + 8
    assert sizes.fixed_width == 2 + 4 * 4 + 12
    assert sizes.bound == 2 + 12
    assert sizes.unique == 4
    assert sizes.entropy_coded == (tmp_path / "f").stat().st_size
    assert sizes.ratio_float32 == sizes.float32 / sizes.entropy_coded
    assert sizes.summary()["ratio_float16"] == sizes.ratio_float16
    json.dumps(sizes.summary())


def test_sizes_of_tensors_that_differ_by_hand(tmp_path: Path) -> None:
    """Two tensors of 4096 weights, each half of its own value and half of a common one: 1 bit a weight or 1.5."""
    state = {"a": torch.tensor([0.5, 1.0] * 2048), "b": torch.tensor([0.5, 2.0] * 2048)}
    sizes = artifact.save(tmp_path / "f", state, state, architecture=RESNET)
    assert (sizes.unique, sizes.unique_layers) == (3, 4)
    assert (sizes.bound, sizes.bound_layers) == (8192 * 1.5 / 8, 8192 / 8)
    assert sizes.fixed_width == 8192 / 8 + 4 * 4
    assert sizes.layered and sizes.bound_layers < sizes.entropy_coded < sizes.bound
    assert sizes.overhead == sizes.entropy_coded / 1024 - 1
    assert all(same_bits(tensor, state[name]) for name, tensor in artifact.read(tmp_path / "f")[1].items())


def test_tensors_alike_are_coded_together(tmp_path: Path) -> None:
    """A table for each tensor would only cost; the file lies above the network's entropy."""
    torch.manual_seed(0)
    state = {str(i): torch.randint(0, 64, (500,)) / 64 for i in range(8)}
    sizes = artifact.save(tmp_path / "f", state, state, architecture=RESNET)
    assert not sizes.layered and sizes.bound_layers < sizes.bound < sizes.entropy_coded
    assert sizes.overhead == sizes.entropy_coded / sizes.bound - 1 > 0
    assert all(same_bits(tensor, state[name]) for name, tensor in artifact.read(tmp_path / "f")[1].items())


def network_wide(path: Path, weights: Tensor) -> int:
    """Size of a file if its indices were coded with the counts of the whole network."""
    header, _, _, plain = pwfn.artifact.container.split(path.read_bytes())
    whole = codebook.counted({"": weights})
    stream = codebook.encode([codebook.indices(weights, whole.values)], [whole.counts])
    table = zstandard.compress(codebook.to_json(whole.values, [whole]).encode(), 19)
    return len(pwfn.artifact.container.join([header, table, stream, plain]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 60), st.integers(0, 99)), min_size=1, max_size=6))
def test_never_larger_than_with_one_model(layers: list[tuple[int, int, int]]) -> None:
    """Tensors of any size (none too), number of values and place of these: what is read is what was saved."""
    state = {}
    for i, (weights, unique, first) in enumerate(layers):
        drawn = torch.randint(0, unique, (weights,), generator=torch.Generator().manual_seed(i))
        state[f"w{i}"] = (first + drawn) / 16
    state["free"] = torch.tensor([0.3])
    names = [name for name in state if name != "free"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        sizes = artifact.save(path, state, names, architecture=RESNET)
        assert sizes.entropy_coded <= network_wide(path, torch.cat([state[name] for name in names]))
        back = artifact.read(path)[1]
    assert all(same_bits(back[name], tensor) for name, tensor in state.items())
    assert sizes.bound_layers <= sizes.bound and sizes.unique <= sizes.unique_layers


def test_half_floats_count_as_the_float32_network_they_are_part_of() -> None:
    sizes = artifact.sizes({"a": torch.zeros(3, dtype=torch.bfloat16), "b": torch.ones(2)}, [])
    assert (sizes.float32, sizes.float16, sizes.unquantised) == (20, 10, 14)


def test_a_network_that_is_not_fixed(tmp_path: Path) -> None:
    """More values than a codebook is for: stored plainly, measured honestly."""
    state = {"w": torch.randn(300, 300), "b": torch.randn(3)}
    sizes = artifact.save(tmp_path / "f", state, ["w"], architecture=RESNET)
    assert sizes.unique > artifact.MAX_UNIQUE
    assert sizes.float32 < sizes.entropy_coded < sizes.float32 + 400
    assert all(same_bits(state[name], tensor) for name, tensor in artifact.read(tmp_path / "f")[1].items())
    unwritten = artifact.sizes(state, ["w"])
    assert isinstance(unwritten, Sizes) and abs(unwritten.entropy_coded - sizes.entropy_coded) < 60


@pytest.mark.parametrize("names", [["nowhere"], ["half"]])
def test_shared_names_must_be_float32_tensors(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=names[0]):
        artifact.save(tmp_path / "f", {"half": torch.zeros(2).half()}, names, architecture=RESNET)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pwfn.rundir.files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        artifact.save(tiny, {"w": torch.ones(3)}, [], architecture=RESNET)
    assert tiny.read_bytes() == before and list(tiny.parent.iterdir()) == [tiny]


def test_every_truncation_is_refused(tiny: Path, tmp_path: Path) -> None:
    data, cut = tiny.read_bytes(), tmp_path / "cut.pwfn"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.pwfn (is truncated|is not a pwfn file)"):
            artifact.read(cut)
    cut.write_bytes(data + b"\0")
    with pytest.raises(ValueError, match="altered"):
        artifact.read(cut)


def test_every_altered_byte_is_refused(tiny: Path, path: Path, tmp_path: Path) -> None:
    draw, altered = random.Random(0), tmp_path / "altered.pwfn"
    small, large = tiny.read_bytes(), path.read_bytes()
    flips = [(small, position) for position in range(len(small))]
    flips += [(large, draw.randrange(len(large))) for _ in range(50)]
    for data, position in flips:
        flipped = bytes([data[position] ^ draw.randrange(1, 256)])
        altered.write_bytes(data[:position] + flipped + data[position + 1 :])
        with pytest.raises(ValueError, match=r"altered\.pwfn (is |has version)"):
            artifact.load(altered)


def test_unknown_version_is_named(tiny: Path) -> None:
    data = bytearray(tiny.read_bytes())
    struct.pack_into("<I", data, 4, 7)
    tiny.write_bytes(data)
    with pytest.raises(ValueError, match=r"tiny\.pwfn has version 7 .* reads version 2"):
        artifact.load(tiny)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02", pickle.dumps([1, 2, 3]), b"PWFM" * 100])
def test_foreign_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(ValueError, match="foreign is not a pwfn file"):
        artifact.load(tmp_path / "foreign")


def forge(path: Path, **changes: Any) -> None:
    """Rewrite a file's header with a checksum that holds."""
    sections = pwfn.artifact.container.split(path.read_bytes())
    header = json.loads(zstandard.decompress(sections[0])) | changes
    sections[0] = zstandard.compress(json.dumps(header).encode())
    path.write_bytes(pwfn.artifact.container.join(sections))


W = {"name": "w", "kind": "shared", "shape": [80]}
B = {"name": "b", "kind": "float32", "shape": [1]}


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [W],
        [{**W, "shape": [79]}, B],
        [{**W, "shape": [81]}, B],
        [{**W, "shape": [-80]}, B],
        [{**W, "shape": "80"}, B],
        [W, {**B, "kind": "load"}],
        [W, {**B, "kind": "float64"}],
        [W, B, {"name": "c", "tie": "nowhere"}],
        [W, {"name": "b"}],
        "tensors",
        3,
    ],
)
def test_headers_that_contradict_the_sections(tensors: Any, tiny: Path) -> None:
    forge(tiny, tensors=[W, B])
    artifact.read(tiny)
    forge(tiny, tensors=tensors)
    with pytest.raises(ValueError, match=r"tiny\.pwfn contradicts itself"):
        artifact.read(tiny)


@pytest.fixture
def layered(tmp_path: Path) -> Path:
    """Tensors of the values 0.5, 1 and 0.5, 2: the table says [[2048, 2048], [2048, -1, 2048]]."""
    state = {"a": torch.tensor([0.5, 1.0] * 2048), "b": torch.tensor([0.5, 2.0] * 2048)}
    artifact.save(tmp_path / "layered.pwfn", state, state, architecture=RESNET)
    return tmp_path / "layered.pwfn"


HALF = 2048


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[HALF, HALF]],
        [[3 * HALF, HALF]],
        [[HALF, HALF], [HALF, -1, HALF], []],
        [[HALF, HALF + 1], [HALF, -1, HALF - 1]],
        [[HALF - 1, HALF + 1], [HALF, -1, HALF]],
        [[HALF, HALF], [HALF, -2, HALF]],
        [[HALF, HALF], [HALF, 0, HALF]],
        [[HALF, HALF], [2 * HALF]],
        [[HALF, HALF], "rows"],
        [[HALF, HALF], [[HALF], [HALF]]],
        [[HALF, HALF], 2 * HALF],
        [[HALF, HALF], [1e300, HALF]],
        "rows",
        None,
    ],
)
def test_counts_that_contradict_the_weights(rows: Any, layered: Path) -> None:
    sections = pwfn.artifact.container.split(layered.read_bytes())
    table = json.loads(zstandard.decompress(sections[1]))
    assert table["counts"] == [[HALF, HALF], [HALF, -1, HALF]]
    sections[1] = zstandard.compress(json.dumps(table | {"counts": rows}).encode())
    layered.write_bytes(pwfn.artifact.container.join(sections))
    with pytest.raises(ValueError, match=r"layered\.pwfn contradicts itself"):
        artifact.read(layered)


@pytest.mark.parametrize("stream", [b"", b"\1\2\3", bytes(1024), b"\1\0\0\0" * 300])
def test_streams_of_other_weights(stream: bytes, layered: Path) -> None:
    sections = pwfn.artifact.container.split(layered.read_bytes())
    layered.write_bytes(pwfn.artifact.container.join([*sections[:2], stream, sections[3]]))
    with pytest.raises(ValueError, match=r"layered\.pwfn contradicts itself"):
        artifact.read(layered)


def test_header_bomb_is_refused(tiny: Path) -> None:
    sections = pwfn.artifact.container.split(tiny.read_bytes())
    sections[0] = zstandard.compress(bytes(2**27))
    tiny.write_bytes(pwfn.artifact.container.join(sections))
    with pytest.raises(ValueError, match="more than"):
        artifact.read(tiny)


def test_a_network_of_the_users_own_is_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, own = tmp_path / "own.pwfn", nn.Linear(8, 2)
    described = {"_target_": "mine.make_network", "kwargs": {"width": 8}}
    artifact.save(path, own.state_dict(), [], architecture=described)
    assert "is read with pwfn.load(path, architecture=...) alone: 'mine.make_network'" in caplog.text
    assert artifact.read(path)[0] == described
    with pytest.raises(ValueError, match=r"own\.pwfn holds a network .*'mine\.make_network'.*architecture=\.\.\."):
        artifact.load(path)
    for network in (nn.Linear(8, 2), lambda: nn.Linear(8, 2)):
        loaded = artifact.load(path, architecture=network)
        assert not loaded.training and same_bits(loaded.state_dict()["weight"], own.weight.detach())
    with pytest.raises(ValueError, match=r"own\.pwfn: 1 of its tensors do not fit its network, such as 'weight'"):
        artifact.load(path, architecture=nn.Linear(9, 2))


def test_a_given_network_must_tie_what_the_file_ties(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    artifact.save(tmp_path / "f", tied.state_dict(), [], architecture={"_target_": "mine.tied"})
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"ties '1\.weight' to a tensor from which it differs"):
        artifact.load(tmp_path / "f", architecture=tied)


def test_weights_of_another_network_are_refused(tiny: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny\.pwfn: \d+ of its tensors do not fit its network, such as 'b'"):
        artifact.load(tiny)


def test_loading_never_unpickles(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    artifact.load(path)

"""Files that somebody wrote with a purpose: their checksums hold; what they ask for is refused before it is done."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import zstandard

import pwfn
from pwfn.artifact import container, reader
from pwfn.artifact import file as artifact

W = {"name": "w", "kind": "shared", "shape": [80]}
B = {"name": "b", "kind": "float32", "shape": [1]}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    state = {"w": torch.tensor([0.5, -0.25, 0.5, 0.0] * 20), "b": torch.tensor([1.5])}
    artifact.save(tmp_path / "tiny.pwfn", state, ["w"], architecture={"name": "test_resnet"})
    return tmp_path / "tiny.pwfn"


def forge(path: Path, section: int, content: bytes | str) -> None:
    """Replace a section, or the JSON of one, by another with a checksum that holds."""
    sections = container.split(path.read_bytes())
    sections[section] = zstandard.compress(content.encode()) if isinstance(content, str) else content
    path.write_bytes(container.join(sections))


def forge_header(path: Path, **changes: Any) -> None:
    header = json.loads(zstandard.decompress(container.split(path.read_bytes())[0])) | changes
    forge(path, 0, json.dumps(header))


def refused(path: Path, reason: str) -> None:
    """The file is refused for this reason, in a short message, and takes no memory worth speaking of."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"{path.name}.*{reason}") as caught:
        pwfn.load(path)
    assert len(str(caught.value)) < 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kilobytes


NESTED = {
    "_target_": "pwfn.model.architecture.build",
    "kwargs": {
        "architecture": {"_target_": "torch.hub.load", "kwargs": {"repo_or_dir": ".", "model": "m"}},
        "allow": ["torch"],
    },
}


@pytest.mark.parametrize(
    "architecture",
    [
        NESTED,
        {"_target_": "os.system", "kwargs": {"command": "true"}},
        {"_target_": "torch.utils.cpp_extension.load_inline", "kwargs": {"name": "x", "cpp_sources": ""}},
        {"name": "hf-hub:someone/resnet18"},
        {"name": "local-dir:/"},
        {"name": "test_resnet", "kwargs": {"checkpoint_path": "x.pth"}},
        {"name": "test_resnet", "kwargs": {"pretrained_cfg": {"file": "x.npz", "custom_load": True}}},
        {"name": "test_resnet", "kwargs": {"pretrained_cfg_overlay": {"url": "https://example.org/x"}}},
        {"name": "test_resnet", "kwargs": {"cache_dir": "/tmp"}},
        {"name": "test_resnet", "kwargs": {"num_classes": 10**15}},
        {"name": "test_vit", "kwargs": {"img_size": 10**9}},
    ],
)
def test_architectures_that_ask_for_more_than_a_network(
    architecture: dict[str, Any], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("ran"))
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("built"))
    forge_header(tiny, architecture=architecture)
    modules = set(sys.modules)
    refused(tiny, "cannot be built from the file alone.*architecture=")
    assert set(sys.modules) == modules


@pytest.mark.parametrize("architecture", [None, 3, "test_resnet", [], {}, {"name": 3}, {"kwargs": {}}])
def test_architectures_that_are_none(architecture: Any, tiny: Path) -> None:
    forge_header(tiny, architecture=architecture)
    refused(tiny, "cannot be built from the file alone")


@pytest.mark.parametrize("name", ["vit_giant_patch14_224", "eva02_enormous_patch14_clip_224"])
def test_a_giant_is_not_built_before_its_tensors_are_compared(name: str, tiny: Path) -> None:
    """Four thousand million weights, where the file has 81."""
    forge_header(tiny, architecture={"name": name})
    refused(tiny, "do not fit its network")


def test_a_large_network_by_its_arguments_is_not_built(tiny: Path) -> None:
    sizes = {"embed_dim": 2**14, "depth": 2**8, "num_heads": 2, "mlp_ratio": 64}
    forge_header(tiny, architecture={"name": "vit_tiny_patch16_224", "kwargs": sizes})
    refused(tiny, "do not fit its network")


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ([{**W, "shape": [2**62]}, B], "no shape"),
        ([{**W, "shape": [2**40]}, B], "announces more weights"),
        ([{**W, "shape": [2**30, 2**30]}, B], "too large a shape"),
        ([{**W, "shape": [0, 2**47, 2**47]}, B], "too large a shape"),
        ([{**W, "shape": [1] * 1000 + [80]}, B], "too large a shape"),
        ([{**W, "shape": [float("nan")]}, B], "NaN is no number"),
        ([{**W, "shape": [float("inf")]}, B], "Infinity is no number"),
        ([{**W, "shape": [80.0]}, B], "no shape"),
        ([{**W, "shape": [True, 80]}, B], "no shape"),
        ([{**W, "shape": [-80]}, B], "no shape"),
        ([{**W, "shape": [-8, -10]}, B], "no shape"),
        ([{**W, "shape": {"0": 80}}, B], "no shape"),
        ([W, {**B, "shape": [2**46]}], "do not use up"),
        ([W, {**B, "kind": "float64"}], "do not use up"),
        ([W, {**B, "kind": "load"}], "unknown dtype"),
        ([W, {**B, "kind": "__class__"}], "unknown dtype"),
        ([W, {**B, "kind": ["float32"]}], "contradicts itself"),
        ([W, B, B], "occurs twice"),
        ([W, {**W, "shape": [0]}, B], "occurs twice"),
        ([W, B, {"name": "b", "tie": "w"}], "occurs twice"),
        ([W, B, {"name": "c", "tie": "c"}], "contradicts itself"),
        ([W, B, {"name": "c", "tie": ["w"]}], "contradicts itself"),
        ([W, B, {"name": 3, "tie": "w"}], "occurs twice, or is none"),
        ([{"name": "c", "tie": "w"}, W, B], "contradicts itself"),
    ],
)
def test_tensors_that_lie(tensors: list[Any], reason: str, tiny: Path) -> None:
    forge_header(tiny, tensors=tensors)
    refused(tiny, reason)


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"a":' * 10**6, '{"tensors": ' + "[" * 10**5, "1" * 10**5, '"', "", "null", "[]", '{"tensors": []}'],
)
def test_json_that_is_deep_or_none(text: str, tiny: Path) -> None:
    forge(tiny, 0, text)
    refused(tiny, "contradicts itself")


@pytest.mark.parametrize("section", [0, 1])
@pytest.mark.parametrize("announced", [True, False])
def test_bombs(section: int, announced: bool, tiny: Path) -> None:
    """A kilobyte that unpacks to half a gigabyte, whether it says so or not."""
    compressor = zstandard.ZstdCompressor(write_content_size=announced).compressobj(2**29 if announced else -1)
    parts = [compressor.compress(b" " * 2**20) for _ in range(2**9)]
    forge(tiny, section, b"".join([*parts, compressor.flush()]))
    if section == 1:
        forge_header(tiny, architecture={"_target_": "mine"})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ValueError, match="contradicts itself: a section"):
            artifact.read(tiny)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18
    else:
        refused(tiny, "contradicts itself: a section")


def test_bytes_behind_a_section(tiny: Path) -> None:
    forge(tiny, 0, container.split(tiny.read_bytes())[0] + b"more")
    refused(tiny, "contradicts itself: a section")


@pytest.mark.parametrize(
    "table",
    [
        {"float32": list(range(2**16 + 1)), "counts": [[80]]},
        {"sums": [[0, k] for k in range(2**16 + 1)], "counts": [[80]]},
        {"float32": [0] * 80, "counts": [[1] * 80]},
        {"float32": [2**40], "counts": [[80]]},
        {"float32": ["0"], "counts": [[80]]},
        {"float32": [0.5], "counts": [[80]]},
        {"float32": 3, "counts": [[80]]},
        {"sums": [[0, 10**9]], "counts": [[80]]},
        {"sums": [[0, *[0] * 10**5]], "counts": [["80"]]},
        {"sums": [[0, 1], [0, 2]], "counts": [[2**63, 80]]},
        {"sums": [[0, 1], [0, 2]], "counts": [[2**62, 2**62]]},
        {"sums": [[0, 1]], "counts": [[2**47]]},
        {"sums": [[0, 1]], "counts": [[80.5]]},
        {"sums": [[0, 1]], "counts": [["80"]]},
        {"sums": [[0, 1]], "counts": [[[80]]]},
        {"sums": [[0, 1]], "counts": [[-(2**63), 80]]},
        {"sums": [[0, 1]], "counts": []},
        {"counts": [[80]]},
        {"sums": [[0, 1]]},
        [],
    ],
)
def test_codebooks_that_lie(table: Any, tiny: Path) -> None:
    forge(tiny, 1, json.dumps(table))
    forge(tiny, 2, b"")
    with pytest.raises(ValueError, match=r"tiny\.pwfn contradicts itself"):
        artifact.read(tiny)


def test_sections_of_any_length(tiny: Path) -> None:
    data = tiny.read_bytes()
    for length in (2**63, 2**64 - 1, 2**40, 0):
        tiny.write_bytes(data[:8] + length.to_bytes(8, "little") + data[16:])
        refused(tiny, "is truncated or altered")


def test_equal_weights_are_believed_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of one value take no bytes: beyond the bound the writer stores them plainly, and readers refuse them."""
    state, path = {"w": torch.full((10_000,), 0.5)}, tmp_path / "equal.pwfn"
    assert artifact.save(path, state, ["w"], architecture={"_target_": "mine"}).entropy_coded < 1000
    believed = path.read_bytes()
    monkeypatch.setattr(reader, "_FREE_WEIGHTS", 0)
    monkeypatch.setattr(reader, "_WEIGHTS_PER_BYTE", 4)
    with pytest.raises(ValueError, match="announces more weights"):
        artifact.read(path)
    assert artifact.save(path, state, ["w"], architecture={"_target_": "mine"}).entropy_coded > 40_000
    assert torch.equal(artifact.read(path)[1]["w"], state["w"])
    assert len(believed) < 1000


def test_truth_values(tmp_path: Path) -> None:
    path = tmp_path / "mask.pwfn"
    artifact.save(path, {"m": torch.tensor([True, False])}, [], architecture={"_target_": "mine"})
    forge(path, 3, b"\1\2")
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        artifact.read(path)


def test_dtypes_that_no_reader_knows_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="complex32 cannot be stored"):
        state = {"c": torch.zeros(2, dtype=torch.complex32)}
        artifact.save(tmp_path / "f", state, [], architecture={"_target_": "mine"})

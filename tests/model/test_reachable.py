"""Pretrained weights without network: the cache alone is asked where nobody listens, the server where somebody does."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from pwfn.model.network import create_timm
from pwfn.model.reachable import offline_if_unreachable


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_server_that_answers_is_asked(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with offline_if_unreachable():
        assert not constants.HF_HUB_OFFLINE


def test_where_nobody_listens_the_cache_is_asked(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free}")
    with offline_if_unreachable():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")  # the way leads through it
    with offline_if_unreachable():
        assert not constants.HF_HUB_OFFLINE


def test_weights_that_are_not_in_the_cache_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"model\.pretrained=false") as refused:
        create_timm("resnet18.a1_in1k", pretrained=True, num_classes=1000)
    assert len(str(refused.value).splitlines()) <= 3

"""How W&B is reached: WANDB_MODE in any case, the login, and whether its server answers."""

from __future__ import annotations

import http.server
import logging
import os
import socket
import threading
import time

import pytest
import wandb

from pwfn.experiment.wandb_mode import asked_mode, wandb_mode


@pytest.mark.parametrize(
    ("word", "mode"),
    [("", None), ("  ", None), ("OFFLINE", "offline"), ("Online", "online"), ("dryrun", "offline"), ("run", "online")],
)
def test_wandb_mode_in_any_case(word: str, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", word)
    assert asked_mode() == mode
    assert os.environ.get("WANDB_MODE") == mode  # which W&B itself reads


def test_a_misspelt_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ValueError, match="WANDB_MODE must be one of online, offline, disabled, got 'ofline'"):
        asked_mode()


@pytest.fixture
def port() -> int:
    """A port of this machine on which nothing listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def logged_in(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    wandb.teardown()  # it keeps the settings of an earlier run in this process


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize("asked", [None, "online"])
def test_logged_in_without_network_is_offline_at_once(asked: str | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    start = time.monotonic()
    assert wandb_mode(asked) == "offline"
    assert time.monotonic() - start < 60
    (said,) = (record.getMessage() for record in caplog.records if record.name.startswith("pwfn"))
    assert "does not answer" in said and "wandb sync" in said and "\n" not in said


@pytest.mark.usefixtures("logged_in")
def test_logged_in_with_a_server_is_online(port: int) -> None:
    server = http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler)  # 501 to all
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert wandb_mode(None) == "online"
    finally:
        server.shutdown()
        server.server_close()


def test_what_is_asked_for_needs_no_server() -> None:
    assert [wandb_mode(mode) for mode in ("offline", "disabled")] == ["offline", "disabled"]

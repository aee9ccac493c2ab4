"""Pretrained weights where there is no network: from the cache at once, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

__all__ = ["offline_if_unreachable"]

PATIENCE = 5
"""Seconds that the Hugging Face Hub has to take a connection."""


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Have huggingface_hub look into its cache alone where its server takes no connection.

    Left to itself it tries again and again, for the better part of a minute.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable() -> bool:
    server = urlsplit(constants.ENDPOINT)
    proxy = urlsplit(getproxies().get(server.scheme, ""))
    place = proxy if proxy.hostname else server
    default = 443 if place.scheme == "https" else 80
    try:
        socket.create_connection((str(place.hostname), place.port or default), timeout=PATIENCE).close()
    except OSError:
        return False
    return True

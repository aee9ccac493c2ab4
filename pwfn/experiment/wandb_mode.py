"""Whether a run is logged to W&B online or offline: what WANDB_MODE says, else what the login and the network allow."""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request

import wandb

__all__ = ["asked_mode", "wandb_mode"]

log = logging.getLogger(__name__)

MODES = ("online", "offline", "disabled")

OLDER = {"dryrun": "offline", "run": "online"}
"""W&B's first words for two of its modes; Lightning still sets them."""

PATIENCE = 5
"""Seconds that W&B's server has for its first answer."""


def asked_mode() -> str | None:
    """Read WANDB_MODE, in whatever case; None where it is unset or empty.

    Raises:
        ValueError: if it is none of W&B's modes.
    """
    word = os.environ.get("WANDB_MODE", "").strip().lower()
    mode = OLDER.get(word, word)
    if mode and mode not in MODES:
        raise ValueError(f"WANDB_MODE must be one of {', '.join(MODES)}, got {word!r}")
    if mode:
        os.environ["WANDB_MODE"] = mode  # W&B itself reads it, and knows no other case
    else:
        os.environ.pop("WANDB_MODE", None)
    return mode or None


def wandb_mode(asked: str | None) -> str:
    """Choose W&B's mode: ``asked``, else online for who is logged in; offline where the server does not answer.

    Args:
        asked: as :func:`asked_mode` gave it.

    Raises:
        ValueError: if online is asked for and nobody is logged in.
    """
    if asked not in (None, "online"):
        return str(asked)
    if not wandb.login(prompt=False, verify=False):
        if asked is None:
            return "offline"
        raise ValueError("WANDB_MODE=online, but nobody is logged in: call wandb login, or unset WANDB_MODE")
    server = wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(server, timeout=PATIENCE).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except OSError as error:
        log.warning("%s does not answer (%s): logging offline, wandb sync sends it later", server, error)
        return "offline"
    return "online"

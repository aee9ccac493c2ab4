"""Rate-distortion fixing: every weight takes the shared value whose loss and code length together are least."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwfn.rate_distortion.assignment import assign
    from pwfn.rate_distortion.post_training import fix

__all__ = ["assign", "fix"]

_HOMES = {"assign": "assignment", "fix": "post_training"}


def __getattr__(name: str) -> Any:
    # on first use: whoever only wants to know that the method exists need not wait for torch
    if name not in _HOMES:
        raise AttributeError(f"module 'pwfn.rate_distortion' has no attribute {name!r}")
    return getattr(import_module(f"pwfn.rate_distortion.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]

"""Settings that are missing, out of range or without effect, found before anything is built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from pwfn.experiment.rules import NODES, RULES
from pwfn.experiment.settings import CLOSED
from pwfn.experiment.structured import rules
from pwfn.rundir.unset import ask_for, unset

__all__ = ["check", "explanation", "require", "without_effect"]

ABSENT = object()

OURS = {
    "callbacks": "the run",
    "fast_dev_run": "dataset.limit",
    "limit_train_batches": "fixing.first_fraction and fixing.rest_fraction",
    "limit_val_batches": "dataset.val_fraction",
    "logger": "the group logger",
    "max_epochs": "fixing.first_epochs and fixing.rest_epochs",
    "max_steps": "fixing.first_epochs and fixing.rest_epochs",
    "max_time": "fixing.first_epochs and fixing.rest_epochs",
    "min_epochs": "fixing.first_epochs and fixing.rest_epochs",
    "min_steps": "fixing.first_epochs and fixing.rest_epochs",
    "plugins": "the run",
    "reload_dataloaders_every_n_epochs": "the run",
}
"""Arguments of ``lightning.Trainer`` that a run sets itself, and what they follow from."""

GROUPS = (
    *CLOSED,
    *("dataset", "logger", "method", "model", "distillation.teacher", "optimizer", "prior", "scope", "trainer"),
)
"""Settings that hold others."""

REACH = ("delta_start", "delta_end", "min_exponent", "growth", "max_order", "zero_fix", "max_unique")
TIMETABLE = ("fractions", "first_epochs", "first_fraction", "rest_epochs", "rest_fraction")


def require(settings: Mapping[str, Any]) -> None:
    """Refuse a configuration in which mandatory settings have no value.

    Args:
        settings: as nested dictionaries, its interpolations not resolved.

    Raises:
        ValueError: naming all of them as they are to be typed.
    """
    missing = unset(settings)
    if missing:
        raise ValueError(ask_for(missing))


def check(settings: Mapping[str, Any]) -> None:
    """Check every setting that has a rule and is part of this run, and those that must fit each other.

    Args:
        settings: the resolved configuration, as nested dictionaries.

    Raises:
        ValueError: one sentence that names the setting, its value and what it must be.
    """
    for name in GROUPS:
        group = _select(settings, name)
        if group is not ABSENT and not isinstance(group, Mapping):
            raise ValueError(f"{name} is a group of settings, got {group}: set {name}.KEY, or another option")
    for name in CLOSED:
        known = _known(name)
        for key in sorted(settings.get(name, {}).keys() - {*known}):
            raise ValueError(f"{name}.{key} is no setting: {name} has {', '.join(known)}")
    for key, holds, wanted in RULES:
        value = _select(settings, key)
        if value is not ABSENT and not holds(value):
            raise ValueError(f"{key} must be {wanted}, got {'null' if value is None else value}")
    for name in sorted(OURS.keys() & settings.get("trainer", {}).keys()):
        raise ValueError(f"trainer.{name} is no setting: it follows from {OURS[name]}")
    data = _select(settings, "dataset.data_config")
    channels = data["input_size"][0] if isinstance(data, Mapping) and "input_size" in data else 3
    for name in ("mean", "std"):
        if isinstance(data, Mapping) and name in data and len(data[name]) != channels:
            raise ValueError(
                f"dataset.data_config.{name} must have a number for each of the {channels} channels, got {data[name]}"
            )


def explanation(refusal: str) -> str | None:
    """Say in one sentence what Hydra refused while it composed, with what the table of settings knows of it.

    Args:
        refusal: Hydra's message with OmegaConf's, which names the key in a line ``full_key: KEY``.

    Returns:
        The sentence; None where the table knows no such key.
    """
    key, kind = (_first(pattern, refusal) for pattern in (r"full_key: ([\w.]+)", r"object_type=(\w+)"))
    place = _first(r"\A(In '.*?': )", refusal)
    group = key.rpartition(".")[0]
    own = [row for _, node in NODES if node.__name__ == kind for row in rules(node, group)]
    if re.search(r"^Key '\w+' not in ", refusal, re.MULTILINE):
        known = [row.removeprefix(f"{group}.") for row, _, _ in own or RULES if row.startswith(f"{group}.")]
        return f"{place}{key} is no setting: {group} has {', '.join(sorted(known))}"
    wanted = next((wanted for row, _, wanted in (*own, *RULES) if row == key), None)
    if wanted is None:
        return None
    got = _first(r"^(?:Invalid v|V)alue '(.*?)'", refusal) or _first(r"\AError merging override [^=]*=(.*)", refusal)
    return f"{place}{key} must be {wanted}{got and f', got {got}'}"


def without_effect(method: str, overrides: Iterable[str], *, gaussian: bool) -> list[str]:
    """Find what was asked for on the command line and plays no part in a run of this method.

    Args:
        method: the configuration of the group ``method`` as text, its interpolations not resolved.
        overrides: the command line, as ``KEY=VALUE``.
        gaussian: whether weights have a sigma.

    Returns:
        The keys among them, as typed.
    """
    unused = {f"fixing.{name}" for name in REACH if f"${{fixing.{name}}}" not in method}
    if "${fixing.rounds}" not in method:
        unused |= {f"fixing.{name}" for name in (*TIMETABLE, "recluster")} | {"distillation", "optimizer", "scheduler"}
    if not gaussian:
        unused |= {"noise", "prior", "regulariser", "sigma_join", "fixing.schedule", "fixing.first_schedule"}
        unused |= {"fixing.released", "evaluation.round_draws"}
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    places = {key: key.rpartition("@")[2] for key in keys}  # GROUP@WHERE
    return [key for key in keys if any(f"{places[key]}.".startswith(f"{name}.") for name in unused)]


def _first(pattern: str, message: str) -> str:
    """Return what the first group of a pattern matches in a message; nothing if it does not match."""
    found = re.search(pattern, message, re.MULTILINE)
    return found[1] if found else ""


def _known(group: str) -> list[str]:
    """Return the keys of a group with structured configs, whatever its option."""
    return sorted({item.name for name, node in NODES if name == group for item in fields(node)})


def _select(settings: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(settings, Mapping) or name not in settings:
            return ABSENT
        settings = settings[name]
    return settings

"""The table of settings: each value that a setting may have, and each kind of value that it may not have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from pwfn.dataset.randomise import KINDS
from pwfn.experiment.rules import RULES
from pwfn.experiment.settings import CLOSED
from pwfn.experiment.validation import check, require, without_effect
from pwfn.fixing import Recluster
from pwfn.learning import Schedule
from pwfn.rundir.unset import ask_for, unset
from pwfn.wfn import DISTANCES

NAN, INF = math.nan, math.inf
NO_NUMBER = ["text", True, None, NAN, [1], {}]
NO_WHOLE = [*NO_NUMBER, 0.5, 1.5, INF]

VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "a list of channels, height and width": ([[1, 28, 28], [3, 224, 224]], [[3, 32], [1, 0, 0], 3, None, [3.0, 8, 8]]),
    "a list of numbers": ([[0.0, 0.05, 2], []], [0.1, None, [-1], [NAN], [INF], ["x"]]),
    "a list of numbers above 0, one for each channel": ([[0.3, 0.3, 0.3]], [[0], [-1], [NAN], 1, None]),
    "a list of numbers that rise from above 0 to 1": ([[0.5, 1.0], [1]], [5, [NAN, 1.0], [0.0, 1.0], [2], None]),
    "a list of numbers, 0 or more": ([[0, 0.1], []], [5, None, [-1], [NAN], [INF], [True]]),
    "a list of numbers, one for each channel": ([[0.0, -0.5, 0.3]], [0.5, None, [NAN], ["x"], [INF]]),
    "a list of texts": ([[], ["a", "b"]], ["a", None, [1], [""], [None]]),
    "a list of two numbers above 0, at most 1": ([[0.08, 1.0], [1, 1]], [[2, 1], [0, 1], [0.5], 5, [NAN, 1], [0.5, 2]]),
    "a list of two numbers above 0, the smaller": ([[0.75, 1.33], [1, 3]], [[2, 1], [0, 1], [1], 5, [1, INF], None]),
    "a list of whole numbers from 1 to 10000": ([[], [1, 20]], [5, None, [0], [-1], [1.5], [NAN], [10**9], ["x"]]),
    "a number from 0.0001 to 1": ([1e-4, 0.01, 1], [0, -1, 1e-5, 2, INF, *NO_NUMBER]),
    "arguments by name": ([{}, {"drop_rate": 0.1}], [3, "x", None, [1]]),
    "a group of settings": ([{}, {"crop_pct": 1}], [3, "x", None, [1]]),
    "a number above 0, at most 1": ([0.05, 1], [0, -1, 1.01, INF, *NO_NUMBER]),
    "a number above 0, at most 1000000": ([1e-9, 1, 1e6], [0, -1, 1e7, INF, *NO_NUMBER]),
    "a number above 0, at most 32": ([0.5, 3, 32], [0, -1, 33, INF, *NO_NUMBER]),
    "a number above 0, at most 525600": ([0.001, 15], [0, -1, INF, *NO_NUMBER]),
    "a number above 0, auto": ([1, 8, -1, "auto", "0,1", [0, 2]], [0, -2, "foo", [], [0, 0], 1.5, True, None, 10**6]),
    "a number from 0 to 0.5": ([0, 0.5], [-0.1, 0.6, INF, *NO_NUMBER]),
    "a number from 0 to 0.9": ([0, 0.9], [-0.1, 1, 2, INF, *NO_NUMBER]),
    "a number from 0 to 0.9999": ([0, 0.9], [-1, 1, 2, INF, *NO_NUMBER]),
    "a number from 0 to 1": ([0, 0.5, 1], [-1, 5, INF, *NO_NUMBER]),
    "a number from 0 to 1000000": ([0, 1e-4, 1e6], [-1, 1e7, INF, *NO_NUMBER]),
    "a number from 0 to 4": ([0, 0.5, 4], [-1, 5, INF, *NO_NUMBER]),
    "a number from 0.000001 to 1000000": ([0.25, 1], [0, -1, 1e30, 1e-30, INF, *NO_NUMBER]),
    "a number from 1.01 to 1000000": ([1.01, 2], [1, 1.0000001, 0.5, INF, *NO_NUMBER]),
    "a text": (["run", "a/b"], ["", "  ", 5, None, ["a"], True]),
    "a figure of summary.json": (
        ["acc1", ["loss", "sizes.entropy_coded"]],
        ["", [], 5, None, [1], "foo", ["acc1", "foo"], "sizes", "method"],
    ),
    "a whole number above 0": ([1, 2000], [0, -1, *NO_WHOLE]),
    "a whole number from -20 to -1 (-b)": ([-7, -1], [0, 9, -21, -1.5, *NO_NUMBER]),
    "a whole number from 0 to 1000": ([0, 1], [-1, 1001, *NO_WHOLE]),
    "a whole number from 0 to 100000": ([0, 10], [-1, 10**8, *NO_WHOLE]),
    "a whole number from 0 to 256": ([0, 16], [-1, 10000, *NO_WHOLE]),
    "a whole number from 0 to 4294967295": ([0, 2**32 - 1], [-1, 2**32, *NO_WHOLE]),
    "a whole number from 1 to 1000": ([1, 3], [0, -1, 10**6, *NO_WHOLE]),
    "a whole number from 1 to 4096": ([1, 64], [0, -1, 100000, 10**9, *NO_WHOLE]),
    "a whole number from 1 to 67108864": ([1, 2**17], [0, -1, 2**27, *NO_WHOLE]),
    "a whole number from 1 to 6": ([1, 6], [0, 7, 100, *NO_WHOLE]),
    "a whole number from 2 to 16": ([2, 8, 16], [1, 17, -3, *NO_WHOLE]),
    "a whole number, 0 or more": ([0, 4000], [-1, *NO_WHOLE]),
    "null or a number above 0, at most 32": ([None, 5], [0, -1, INF, NAN, "x"]),
    "null or a number from 0 to 1": ([None, 0.125], [-1, 2, NAN, "x"]),
    "null or a number from 0 to 10": ([None, 0.4], [-1, 11, NAN, "x"]),
    "null or a number, 0 or more": ([None, 0, 1.0], [-1, INF, NAN, "x", True]),
    "null or a text": ([None, "x"], ["", 5, ["x"], False]),
    "null or a whole number above 0": ([None, 1, 10000], [0, -3, 1.5, NAN, "x", True]),
    "null or a whole number from -40 to 40": ([None, -12], [-41, 41, 0.5, NAN, "x"]),
    "true or false": ([True, False], ["no", "off", "maybe", 0, 1, None]),
    "one of 2, 3, 4, 5": ([2, 5], [1, 6, "a", None, 2.5]),
    "one of all, free": (["all", "free"], ["some", None, True]),
    "one of auto, ddp": (["auto", "ddp"], ["foo", "ddp_spawn", "fsdp", None]),
    "one of bicubic": (["bicubic", "random"], ["foo", None, 3]),
    "one of center": (["squash", "center"], ["foo", None]),
    "one of gaussian": (["gaussian", "post_training"], ["foo", None]),
    "one of joint": (["joint", "halves"], ["mu", None]),
    "one of null, labels": ([None, "labels"], ["foo", True]),
    "one of null, true, false": ([None, True, False], ["maybe", 1, 0]),
    "one of relative": (["relative"], ["x", None]),
    "one of true, false, warn": ([True, False, "warn"], ["x", 1, None]),
}
"""For the words of a rule, or how they begin: values that it allows, and values that it does not."""

FREE = (
    *(
        "_target_",
        "_partial_",
        "dataset.source",
        "dataset.train_transform",
        "fixing.rounds",
        "method.assign",
        "method.learning",
    ),
    *("method.by_learning", "method.gaussian", "method.penalty", "method.rounds", "model.kwargs", "prior.seed"),
    *("regulariser.pull", "scope.path", "sigma_join.path", "trainer.accelerator", "trainer.precision"),
)
"""Settings that are built, and tried, before anything is trained instead."""


def values(wanted: str) -> tuple[list[Any], list[Any]]:
    return VALUES[max((words for words in VALUES if wanted.startswith(words)), key=len)]


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def text(value: Any) -> str:
    return "null" if value is None else str(value)


GOOD = [(key, value) for key, _, wanted in RULES for value in values(wanted)[0]]
BAD = [(key, value, wanted) for key, _, wanted in RULES for value in values(wanted)[1]]


@pytest.mark.parametrize(("key", "value"), GOOD, ids=[f"{key}={text(value)}" for key, value in GOOD])
def test_allowed(key: str, value: Any) -> None:
    check(nested(key, value))


@pytest.mark.parametrize(("key", "value", "wanted"), BAD, ids=[f"{key}={text(value)}" for key, value, _ in BAD])
def test_refused_in_one_sentence(key: str, value: Any, wanted: str) -> None:
    with pytest.raises(ValueError) as refused:
        check(nested(key, value))
    assert str(refused.value) == f"{key} must be {wanted}, got {text(value)}"


def leaves(content: Any, prefix: str) -> dict[str, Any]:
    """Dotted keys and values of a file, without its defaults list and Hydra's own part."""
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    found = {}
    for name, value in content.items():
        if prefix or name not in ("defaults", "hydra"):
            found |= leaves(value, f"{prefix}.{name}".lstrip(".")) if name != "defaults" else {}
    return found


def test_every_setting_has_a_rule_and_keeps_it(root: Path) -> None:
    ruled = {key: holds for key, holds, _ in RULES}
    for path in (root / "conf").rglob("*.yaml"):
        group = path.relative_to(root / "conf").parts[0]
        if group == "hydra":
            continue
        whole = group in ("config.yaml", "experiment") or "@package _global_" in path.read_text()
        for key, value in leaves(yaml.safe_load(path.read_text()), "" if whole else group).items():
            if value in ({}, None) or any(key.startswith(free) or key.endswith(free) for free in FREE):
                continue
            assert key in ruled, f"{path}: {key} has no rule"
            if value != "???" and "${" not in str(value):
                assert ruled[key](value), f"{path}: {key}={value}"


@pytest.mark.parametrize("name", ["mean", "std"])
def test_as_many_statistics_as_channels(name: str) -> None:
    check({"dataset": {"data_config": {"input_size": [1, 8, 8], name: [0.5]}}})
    for size, given in (([1, 8, 8], [0.1, 0.2]), ([3, 8, 8], [0.5]), (None, [0.5])):
        config = {name: given} if size is None else {name: given, "input_size": size}
        with pytest.raises(ValueError, match=rf"dataset.data_config.{name} must have a number for each of the [13] ch"):
            check({"dataset": {"data_config": config}})


@pytest.mark.parametrize("name", ["max_epochs", "logger", "callbacks", "limit_val_batches", "plugins"])
def test_what_a_run_sets_itself_is_no_setting(name: str) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.{name} is no setting: it follows from "):
        check({"trainer": {name: 3}})


def test_missing_settings_are_asked_for_together() -> None:
    settings = {"dataset": {"root": "???", "source": {"name": "???", "root": "${..root}"}}, "seed": 1}
    assert unset(settings) == ["dataset.root", "dataset.source.name"]
    with pytest.raises(ValueError) as refused:
        require(settings)
    assert str(refused.value) == (
        "dataset.root and dataset.source.name must be set: add dataset.root=DIR dataset.source.name=NAME"
    )
    assert ask_for(["dataset.root"]) == "dataset.root must be set: add dataset.root=DIR"
    require({"seed": 1})


def test_settings_without_effect_are_named() -> None:
    pwfn = "assign: ${fixing.max_unique} ${fixing.growth} rounds: ${fixing.rounds}"
    asked = ["fixing.max_unique=3", "prior.scale=5", "+optimizer.nesterov=true", "seed=2", "fixing.delta_end=2"]
    assert without_effect(pwfn, asked, gaussian=True) == ["fixing.delta_end"]
    assert without_effect(pwfn, asked, gaussian=False) == ["prior.scale", "fixing.delta_end"]
    rounding = "assign: ${fixing.min_exponent} rounds: {fractions: [1.0]}"
    assert without_effect(rounding, [*asked, "fixing.min_exponent=-5", "prior=constant"], gaussian=False) == [
        *("fixing.max_unique", "prior.scale", "optimizer.nesterov", "fixing.delta_end", "prior"),
    ]
    taught = ["model@distillation.teacher=timm", "distillation.teacher.name=x", "model.name=x", "model=timm"]
    unused = ["model@distillation.teacher", "distillation.teacher.name"]
    assert without_effect("assign: {}", taught, gaussian=True) == unused
    assert without_effect(pwfn, taught, gaussian=True) == []


def test_closed_lists_are_those_of_the_code() -> None:
    """The table names them once more, because it is read where torch is not."""
    words = {key: wanted.removeprefix("one of ").split(", ") for key, _, wanted in RULES}
    assert words["fixing.schedule"] == words["fixing.first_schedule"] == [*get_args(Schedule)]
    assert words["fixing.recluster"] == [*get_args(Recluster)]
    assert words["dataset.randomise"] == ["null", *KINDS]
    assert words["method.distance"] == [*DISTANCES]


@pytest.mark.parametrize("group", ["evaluation", "export", "baseline", "checkpoint", "trainer", "model"])
@pytest.mark.parametrize("value", [5, None, True, "x"])
def test_a_group_is_no_value(group: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{group} is a group of settings"):
        check({group: value})


@pytest.mark.parametrize("group", CLOSED)
def test_settings_that_nobody_reads(group: str) -> None:
    with pytest.raises(ValueError, match=f"^{group}.foo is no setting: {group} has "):
        check({group: {"foo": 1}})

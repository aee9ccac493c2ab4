"""Settings out of range, found before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["check"]

ABSENT = object()

Rule = tuple[str, Callable[[Any], bool], str]


def _number(low: float, high: float = float("inf"), *, above: bool = False) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (low < value if above else low <= value) and value <= high

    return holds


def _whole(low: int, high: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _or_null(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


def _list_of(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(rule, value))


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)  # not the words that YAML 1.1 takes for one: no, off, yes


SCHEDULES = ("joint", "alternate", "halves", "sigma_only")

RULES: list[Rule] = [
    ("seed", _whole(0, 2**32 - 1), "a whole number from 0 to 4294967295"),
    ("fixing.schedule", SCHEDULES.__contains__, f"one of {', '.join(SCHEDULES)}"),
    ("fixing.first_schedule", SCHEDULES.__contains__, f"one of {', '.join(SCHEDULES)}"),
    ("fixing.released", (True, False).__contains__, "true or false"),
    ("fixing.recluster", ("all", "free").__contains__, "all or free"),
    ("fixing.delta_start", _number(0, above=True), "a number above 0"),
    ("fixing.delta_end", _number(0, above=True), "a number above 0"),
    ("fixing.min_exponent", _whole(-20, -1), "a whole number from -20 to -1 (-b)"),
    ("fixing.growth", _number(1, above=True), "a number above 1"),
    ("fixing.max_order", _whole(1, 6), "a whole number from 1 to 6"),
    ("fixing.max_unique", _or_null(_whole(1)), "null or a whole number above 0"),
    ("regulariser.weight", _number(0), "a number, 0 or more"),
    ("baseline.epochs", _whole(0), "a whole number, 0 or more"),
    ("baseline.gaussian_epochs", _whole(0), "a whole number, 0 or more"),
    ("checkpoint.minutes", _number(0, above=True), "a number above 0"),
    ("dataset.batch_size", _whole(1), "a whole number above 0"),
    ("dataset.workers", _whole(0), "a whole number, 0 or more"),
    ("dataset.val_fraction", _number(0, 0.9), "a number from 0 to 0.9"),
    ("dataset.limit", _or_null(_whole(1)), "null or a whole number above 0"),
    ("optimizer.lr", _number(0, 1e6, above=True), "a number above 0"),
    ("method.delta", _number(0, above=True), "a number above 0"),
    ("method.zero_distance", _number(0, above=True), "a number above 0"),
    ("method.distance", ("relative", "euclidean").__contains__, "relative or euclidean"),
    ("method.alpha", _number(0), "a number, 0 or more"),
    ("method.order", _whole(1, 6), "a whole number from 1 to 6"),
    ("method.clusters", _whole(1), "a whole number above 0"),
    ("method.per_tensor", (True, False).__contains__, "true or false"),
    ("fixing.zero_fix", _boolean, "true or false"),
    ("fixing.norm_images", _whole(0), "a whole number, 0 or more"),
    ("fixing.straight_through.every", _whole(1), "a whole number above 0"),
    ("fixing.straight_through.fisher_images", _whole(0), "a whole number, 0 or more"),
    ("fixing.straight_through.feedback_images", _whole(0), "a whole number, 0 or more"),
    ("fixing.straight_through.start", _or_null(_number(0, above=True)), "null or a number above 0"),
    ("fixing.straight_through.ramp", _number(0, 1), "a number from 0 to 1"),
    ("fixing.straight_through.freeze", _number(0, 1), "a number from 0 to 1"),
    ("fixing.post_training.images", _whole(1), "a whole number above 0"),
    ("fixing.post_training.augmented", _boolean, "true or false"),
    ("fixing.post_training.shift", _boolean, "true or false"),
    ("fixing.post_training.sweeps", _whole(0), "a whole number, 0 or more"),
    ("method.bits", _number(0, 32, above=True), "a number above 0, at most 32"),
    ("method.epochs", _whole(0), "a whole number, 0 or more"),
    ("method.max_unique", _whole(1), "a whole number above 0"),
    ("method.max_order", _whole(1, 6), "a whole number from 1 to 6"),
    ("method.min_exponent", _or_null(_whole(-40, 40)), "null or a whole number from -40 to 40"),
    ("method.floor", _number(0, 0.5), "a number from 0 to 0.5"),
    ("method.weighted", _boolean, "true or false"),
    ("distillation.weight", _number(0, 1), "a number from 0 to 1"),
    ("distillation.temperature", _number(0, above=True), "a number above 0"),
    ("prior.scale", _number(0, above=True), "a number above 0"),
    ("prior.largest", _number(0, 1e6, above=True), "a number above 0"),
    ("regulariser.biases", _boolean, "true or false"),
    ("model.pretrained", _boolean, "true or false"),
    ("optimizer.momentum", _number(0, 0.9999), "a number from 0 to 0.9999"),
    ("optimizer.weight_decay", _number(0, 1e6), "a number, 0 or more"),
    ("trainer.gradient_clip_val", _or_null(_number(0, 1e30)), "null or a number, 0 or more"),
    ("trainer.accumulate_grad_batches", _whole(1), "a whole number above 0"),
    ("trainer.devices", lambda value: value not in (0, "0", None), "a number of devices, or -1 or auto for all"),
    ("trainer.num_nodes", _whole(1), "a whole number above 0"),
    ("trainer.compile", _boolean, "true or false"),
    ("trainer.channels_last", _boolean, "true or false"),
    ("dataset.eval_batch_size", _or_null(_whole(1)), "null or a whole number above 0"),
    ("dataset.augmentation.hflip", _number(0, 1), "a number from 0 to 1"),
    ("evaluation.draws", _list_of(_whole(1)), "a list of whole numbers above 0"),
    ("evaluation.noise", _list_of(_number(0, 1e6)), "a list of numbers, 0 or more"),
    ("evaluation.round_draws", _whole(0), "a whole number, 0 or more"),
    ("evaluation.noise_draws", _whole(1), "a whole number above 0"),
    ("export.onnx", _boolean, "true or false"),
    ("export.shift_list", _boolean, "true or false"),
    ("export.codes", _boolean, "true or false"),
    ("export.openvino", _boolean, "true or false"),
    ("export.coreml", _boolean, "true or false"),
]


def check(settings: Mapping[str, Any]) -> None:
    """Check every setting that has a rule and is part of this run.

    Args:
        settings: the resolved configuration, as nested dictionaries.

    Raises:
        ValueError: one sentence that names the setting, its value and what it must be.
    """
    for key, holds, wanted in RULES:
        value = _select(settings, key)
        if value is not ABSENT and not holds(value):
            raise ValueError(f"{key} must be {wanted}, got {value}")


def _select(settings: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(settings, Mapping) or name not in settings:
            return ABSENT
        settings = settings[name]
    return settings

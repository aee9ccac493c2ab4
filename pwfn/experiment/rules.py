"""What every setting may be: one table, each row with the setting, its test and the words that tell it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["RULES", "Rule"]

Rule = tuple[str, Callable[[Any], bool], str]
"""A setting's dotted key; whether a value is allowed; the words after "must be"."""

Test = Callable[[Any], bool]


def _number(low: float, high: float, *, above: bool = False) -> Test:
    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (low < value if above else low <= value) and value <= high

    return holds


def _whole(low: int, high: int) -> Test:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _or_null(rule: Test) -> Test:
    return lambda value: value is None or rule(value)


def _list_of(rule: Test, length: int | None = None) -> Test:
    return lambda value: isinstance(value, list) and all(map(rule, value)) and length in (None, len(value))


def _rising(low: float, high: float) -> Test:
    pair = _list_of(_number(low, high, above=True), 2)
    return lambda value: pair(value) and value[0] <= value[1]


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)  # not the words that YAML 1.1 takes for one: no, off, yes


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _devices(value: Any) -> bool:
    if isinstance(value, str):
        value = value if value == "auto" else [int(word) if word.isdecimal() else -1 for word in value.split(",")]
    if isinstance(value, list):
        return bool(value) and len(set(value)) == len(value) and all(map(_whole(0, 1023), value))
    return value in ("auto", -1) or _whole(1, 1024)(value)


def _one_of(*words: Any) -> tuple[Test, str]:
    """The test and its words for a closed list; ``true`` and ``false`` are not the numbers that equal them."""
    shown = ", ".join("null" if word is None else str(word).lower() for word in words)
    return lambda value: any(type(value) is type(word) and value == word for word in words), f"one of {shown}"


SCHEDULES = _one_of("joint", "alternate", "halves", "sigma_only")
YES_NO = _boolean, "true or false"
TEXT = _text, "a text"
TEXT_OR_NULL = _or_null(_text), "null or a text"
SHARE = _number(0, 1), "a number from 0 to 1"
POSITIVE = _number(0, 1e6, above=True), "a number above 0, at most 1000000"
NOT_NEGATIVE = _number(0, 1e6), "a number from 0 to 1000000"
ANY_COUNT = _whole(0, 10**9), "a whole number, 0 or more"
COUNT = _whole(1, 10**9), "a whole number above 0"
COUNT_OR_NULL = _or_null(COUNT[0]), "null or a whole number above 0"
EPOCHS = _whole(0, 10**5), "a whole number from 0 to 100000"
SEED = _whole(0, 2**32 - 1), "a whole number from 0 to 4294967295"
REACH = _number(1e-6, 1e6), "a number from 0.000001 to 1000000"
RISING = _rising(0, 1e6), "a list of two numbers above 0, the smaller one first"
POWERS = _whole(1, 6), "a whole number from 1 to 6"

RULES: list[Rule] = [
    ("seed", *SEED),
    ("name", *TEXT),
    ("objective", lambda value: _text(value) or (_list_of(_text)(value) and value), "a text or a list of texts"),
    ("baseline.epochs", *EPOCHS),
    ("baseline.gaussian_epochs", *EPOCHS),
    ("baseline.folder", *TEXT),
    ("baseline.optimizer.lr", *POSITIVE),
    ("baseline.optimizer.weight_decay", *NOT_NEGATIVE),
    ("baseline.scheduler.max_lr", *POSITIVE),
    ("checkpoint.minutes", _number(0, 525600, above=True), "a number above 0, at most 525600"),
    ("distillation.weight", *SHARE),
    ("distillation.temperature", *POSITIVE),
    ("dataset.name", *TEXT),
    ("dataset.root", *TEXT_OR_NULL),
    ("dataset.num_classes", *COUNT_OR_NULL),
    ("dataset.batch_size", *COUNT),
    ("dataset.eval_batch_size", *COUNT_OR_NULL),
    ("dataset.workers", _whole(0, 256), "a whole number from 0 to 256"),
    ("dataset.val_fraction", _number(0, 0.9), "a number from 0 to 0.9"),
    ("dataset.limit", *COUNT_OR_NULL),
    ("dataset.randomise", *_one_of(None, "labels", "pixels", "random_pixels")),
    ("dataset.data_config.input_size", _list_of(_whole(1, 10**5), 3), "a list of channels, height and width"),
    ("dataset.data_config.mean", _list_of(_number(-1e6, 1e6)), "a list of numbers, one for each channel"),
    ("dataset.data_config.std", _list_of(POSITIVE[0]), "a list of numbers above 0, one for each channel"),
    ("dataset.data_config.crop_pct", _number(0, 1, above=True), "a number above 0, at most 1"),
    ("dataset.data_config.crop_mode", *_one_of("center", "squash", "border")),
    (
        "dataset.data_config.interpolation",
        *_one_of("bicubic", "bilinear", "nearest", "box", "hamming", "lanczos", "random"),
    ),
    ("dataset.augmentation.padding", _or_null(_number(0, 1)), "null or a number from 0 to 1"),
    ("dataset.augmentation.resize", *COUNT_OR_NULL),
    ("dataset.augmentation.scale", _rising(0, 1), "a list of two numbers above 0, at most 1, the smaller one first"),
    ("dataset.augmentation.ratio", *RISING),
    ("dataset.augmentation.hflip", *SHARE),
    ("dataset.augmentation.color_jitter", _or_null(_number(0, 10)), "null or a number from 0 to 10"),
    ("dataset.augmentation.auto_augment", *TEXT_OR_NULL),
    ("dataset.augmentation.re_prob", *SHARE),
    ("dataset.mixup.mixup_alpha", *NOT_NEGATIVE),
    ("dataset.mixup.cutmix_alpha", *NOT_NEGATIVE),
    ("dataset.mixup.prob", *SHARE),
    ("dataset.mixup.label_smoothing", _number(0, 0.9999), "a number from 0 to 0.9999"),
    ("evaluation.draws", _list_of(_whole(1, 10**4)), "a list of whole numbers from 1 to 10000"),
    ("evaluation.noise", _list_of(_number(0, 1e6)), "a list of numbers, 0 or more"),
    ("evaluation.round_draws", _whole(0, 1000), "a whole number from 0 to 1000"),
    ("evaluation.noise_draws", _whole(1, 1000), "a whole number from 1 to 1000"),
    ("evaluation.round_draws", _whole(0, 1000), "a whole number from 0 to 1000"),
    ("evaluation.seed", *SEED),
    *((f"export.{name}", *YES_NO) for name in ("onnx", "openvino", "coreml", "shift_list", "codes")),
    *((f"fixing.{name}_epochs", *EPOCHS) for name in ("first", "rest")),
    ("fixing.fractions", _list_of(_number(0, 1, above=True)), "a list of numbers that rise from above 0 to 1"),
    ("fixing.first_fraction", _number(0, 1, above=True), "a number above 0, at most 1"),
    ("fixing.rest_fraction", _number(0, 1, above=True), "a number above 0, at most 1"),
    ("fixing.learning", *_one_of("gaussian", "straight_through", "post_training")),
    ("fixing.schedule", *SCHEDULES),
    ("fixing.first_schedule", *SCHEDULES),
    ("fixing.released", *YES_NO),
    ("fixing.recluster", *_one_of("all", "free")),
    ("fixing.delta_start", *REACH),
    ("fixing.delta_end", *REACH),
    ("fixing.min_exponent", _whole(-20, -1), "a whole number from -20 to -1 (-b)"),
    ("fixing.growth", _number(1.01, 1e6), "a number from 1.01 to 1000000"),  # closer to 1 the reach hardly grows
    ("fixing.max_order", *POWERS),
    ("fixing.zero_fix", *YES_NO),
    ("fixing.max_unique", *COUNT_OR_NULL),
    ("fixing.norm_images", *ANY_COUNT),
    ("fixing.straight_through.every", *COUNT),
    ("fixing.straight_through.fisher_images", *ANY_COUNT),
    ("fixing.straight_through.feedback_images", *ANY_COUNT),
    ("fixing.straight_through.start", _or_null(_number(0, 32, above=True)), "null or a number above 0, at most 32"),
    ("fixing.straight_through.ramp", *SHARE),
    ("fixing.straight_through.freeze", *SHARE),
    ("fixing.straight_through.power", _number(0, 4), "a number from 0 to 4"),
    ("fixing.post_training.images", *COUNT),
    *((f"fixing.post_training.{name}", *YES_NO) for name in ("augmented", "shift")),
    ("fixing.post_training.sweeps", _whole(0, 1000), "a whole number from 0 to 1000"),
    *((f"logger.{name}", *TEXT_OR_NULL) for name in ("project", "entity", "group", "notes")),
    ("logger.tags", _list_of(_text), "a list of texts"),
    ("method.name", *TEXT),
    ("method.delta", *POSITIVE),
    ("method.zero_distance", *POSITIVE),
    ("method.distance", *_one_of("relative", "euclidean")),
    ("method.alpha", *NOT_NEGATIVE),
    *((f"method.{name}", *POWERS) for name in ("order", "max_order")),
    ("method.clusters", _whole(1, 4096), "a whole number from 1 to 4096"),
    *((f"method.{name}", *YES_NO) for name in ("per_tensor", "weighted")),
    ("method.bits", _number(0, 32, above=True), "a number above 0, at most 32"),
    ("method.epochs", *EPOCHS),
    ("method.edge_bits", _whole(2, 16), "a whole number from 2 to 16"),
    ("method.max_unique", *COUNT),
    ("method.min_exponent", _or_null(_whole(-40, 40)), "null or a whole number from -40 to 40"),
    ("method.floor", _number(0, 0.5), "a number from 0 to 0.5"),
    ("method.distillation", *SHARE),
    ("method.norm_images", *ANY_COUNT),
    ("model.name", *TEXT),
    ("model.pretrained", *YES_NO),
    ("model.checkpoint", *TEXT_OR_NULL),
    ("optimizer.lr", *POSITIVE),
    ("optimizer.momentum", _number(0, 0.9999), "a number from 0 to 0.9999"),
    ("optimizer.weight_decay", *NOT_NEGATIVE),
    ("prior.scale", *POSITIVE),
    ("prior.largest", *POSITIVE),
    ("prior.sigma", *POSITIVE),
    ("prior.images", *COUNT),
    ("prior.count", *COUNT),
    ("prior.damping", *POSITIVE),
    ("regulariser.weight", *NOT_NEGATIVE),
    ("regulariser.biases", *YES_NO),
    ("trainer.devices", _devices, "a number above 0, auto, -1 for all, or a list of devices"),
    ("trainer.num_nodes", _whole(1, 10**5), "a whole number above 0"),
    ("trainer.strategy", *_one_of("auto", "ddp", "ddp_find_unused_parameters_true")),
    ("trainer.gradient_clip_val", _or_null(_number(0, 1e30)), "null or a number, 0 or more"),
    ("trainer.accumulate_grad_batches", *COUNT),
    ("trainer.log_every_n_steps", *COUNT),
    ("trainer.deterministic", *_one_of(True, False, "warn")),
    ("trainer.benchmark", *_one_of(None, True, False)),
    *((f"trainer.{name}", *YES_NO) for name in ("compile", "channels_last")),
    *((f"trainer.enable_{name}", *YES_NO) for name in ("progress_bar", "model_summary")),
]
"""Precision and accelerator are left to Lightning, which knows what there is."""

"""What every setting may be: one table, each row with the setting, its test and the words that tell it.

Rows of groups and methods whose keys are all known come from their structured configs. The others follow what is
built: a network, an optimizer or Lightning's trainer takes arguments that have no row here.
"""

from __future__ import annotations

from pwfn.experiment.allowed import (
    COUNT,
    COUNT_OR_NULL,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    TEXT,
    TEXT_OR_NULL,
    YES_NO,
    Allowed,
    devices,
    figures,
    list_of,
    mapping,
    number,
    one_of,
    or_null,
    rising,
    text,
    whole,
)
from pwfn.experiment.method_settings import METHODS
from pwfn.experiment.settings import CLOSED, FIXING
from pwfn.experiment.structured import rules

__all__ = ["NODES", "RULES", "Rule"]

Rule = tuple[str, Allowed, str]
"""A setting's dotted key; which values are allowed; the words after "must be"."""

RISING = rising(0, 1e6), "a list of two numbers above 0, the smaller one first"
NETWORKS = "model", "distillation.teacher"

NODES: list[tuple[str, type]] = [
    *CLOSED.items(),
    *(("fixing", node) for node in FIXING.values()),
    *(("method", node) for node in METHODS.values()),
]
"""Every structured config with its group."""

TYPED = {row[0]: row for group, node in NODES for row in rules(node, group)}
"""The rules of structured configs by key; options of a group share rules where they share keys."""

RULES: list[Rule] = [
    *TYPED.values(),
    ("seed", *SEED),
    ("name", *TEXT),
    ("objective", figures, "a figure of summary.json, such as acc1 or sizes.entropy_coded, or a list of them"),
    ("baseline.optimizer.lr", *POSITIVE),
    ("baseline.optimizer.weight_decay", *NOT_NEGATIVE),
    ("baseline.scheduler.max_lr", *POSITIVE),
    ("dataset.name", *TEXT),
    ("dataset.root", *TEXT_OR_NULL),
    ("dataset.num_classes", *COUNT_OR_NULL),
    ("dataset.batch_size", *COUNT),
    ("dataset.eval_batch_size", *COUNT_OR_NULL),
    ("dataset.workers", whole(0, 256), "a whole number from 0 to 256"),
    ("dataset.val_fraction", number(0, 0.9), "a number from 0 to 0.9"),
    ("dataset.limit", *COUNT_OR_NULL),
    ("dataset.randomise", *one_of(None, "labels", "pixels", "random_pixels")),
    ("dataset.data_config", mapping, "a group of settings"),
    ("dataset.data_config.input_size", list_of(whole(1, 10**5), 3), "a list of channels, height and width"),
    ("dataset.data_config.mean", list_of(number(-1e6, 1e6)), "a list of numbers, one for each channel"),
    ("dataset.data_config.std", list_of(POSITIVE[0]), "a list of numbers above 0, one for each channel"),
    ("dataset.data_config.crop_pct", number(0, 1, above=True), "a number above 0, at most 1"),
    ("dataset.data_config.crop_mode", *one_of("center", "squash", "border")),
    (
        "dataset.data_config.interpolation",
        *one_of("bicubic", "bilinear", "nearest", "box", "hamming", "lanczos", "random"),
    ),
    ("dataset.augmentation.padding", or_null(number(0, 1)), "null or a number from 0 to 1"),
    ("dataset.augmentation.resize", *COUNT_OR_NULL),
    ("dataset.augmentation.scale", rising(0, 1), "a list of two numbers above 0, at most 1, the smaller one first"),
    ("dataset.augmentation.ratio", *RISING),
    ("dataset.augmentation.hflip", *SHARE),
    ("dataset.augmentation.color_jitter", or_null(number(0, 10)), "null or a number from 0 to 10"),
    ("dataset.augmentation.auto_augment", *TEXT_OR_NULL),
    ("dataset.augmentation.re_prob", *SHARE),
    ("dataset.mixup.mixup_alpha", *NOT_NEGATIVE),
    ("dataset.mixup.cutmix_alpha", *NOT_NEGATIVE),
    ("dataset.mixup.prob", *SHARE),
    ("dataset.mixup.label_smoothing", number(0, 0.9999), "a number from 0 to 0.9999"),
    *((f"logger.{name}", *TEXT_OR_NULL) for name in ("project", "entity", "group", "notes")),
    ("logger.tags", list_of(text), "a list of texts"),
    *((f"{group}.name", *TEXT) for group in NETWORKS),
    *((f"{group}.kwargs", mapping, "arguments by name") for group in NETWORKS),
    *((f"{group}.pretrained", *YES_NO) for group in NETWORKS),
    *((f"{group}.checkpoint", *TEXT_OR_NULL) for group in NETWORKS),
    ("noise.places", whole(1, 2**26), "a whole number from 1 to 67108864"),
    ("optimizer.lr", *POSITIVE),
    ("optimizer.dampening", *SHARE),
    ("optimizer.nesterov", *YES_NO),
    ("optimizer.momentum", number(0, 0.9999), "a number from 0 to 0.9999"),
    ("optimizer.weight_decay", *NOT_NEGATIVE),
    ("prior.scale", *POSITIVE),
    ("prior.largest", *POSITIVE),
    ("prior.sigma", *POSITIVE),
    ("prior.images", *COUNT),
    ("prior.count", *COUNT),
    ("prior.damping", *POSITIVE),
    ("trainer.devices", devices, "a number above 0, auto, -1 for all, or a list of devices"),
    ("trainer.num_nodes", whole(1, 10**5), "a whole number above 0"),
    ("trainer.strategy", *one_of("auto", "ddp", "ddp_find_unused_parameters_true")),
    ("trainer.gradient_clip_val", or_null(number(0, 1e30)), "null or a number, 0 or more"),
    ("trainer.accumulate_grad_batches", *COUNT),
    ("trainer.log_every_n_steps", *COUNT),
    ("trainer.deterministic", *one_of(True, False, "warn")),
    ("trainer.benchmark", *one_of(None, True, False)),
    *((f"trainer.{name}", *YES_NO) for name in ("compile", "channels_last", "detect_anomaly", "sync_batchnorm")),
    *((f"trainer.enable_{name}", *YES_NO) for name in ("progress_bar", "model_summary")),
]
"""Precision and accelerator are left to Lightning, which knows what there is."""

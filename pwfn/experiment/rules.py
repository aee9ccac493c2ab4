"""What every setting may be: one table, each row with the setting, its test and the words that tell it."""

from __future__ import annotations

from pwfn.experiment.allowed import (
    Allowed,
    boolean,
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

__all__ = ["RULES", "Rule"]

Rule = tuple[str, Allowed, str]
"""A setting's dotted key; which values are allowed; the words after "must be"."""

SCHEDULES = one_of("joint", "alternate", "halves", "sigma_only")
YES_NO = boolean, "true or false"
TEXT = text, "a text"
TEXT_OR_NULL = or_null(text), "null or a text"
SHARE = number(0, 1), "a number from 0 to 1"
POSITIVE = number(0, 1e6, above=True), "a number above 0, at most 1000000"
NOT_NEGATIVE = number(0, 1e6), "a number from 0 to 1000000"
ANY_COUNT = whole(0, 10**9), "a whole number, 0 or more"
COUNT = whole(1, 10**9), "a whole number above 0"
COUNT_OR_NULL = or_null(COUNT[0]), "null or a whole number above 0"
EPOCHS = whole(0, 10**5), "a whole number from 0 to 100000"
SEED = whole(0, 2**32 - 1), "a whole number from 0 to 4294967295"
REACH = number(1e-6, 1e6), "a number from 0.000001 to 1000000"
RISING = rising(0, 1e6), "a list of two numbers above 0, the smaller one first"
POWERS = whole(1, 6), "a whole number from 1 to 6"
NETWORKS = "model", "distillation.teacher"

RULES: list[Rule] = [
    ("seed", *SEED),
    ("name", *TEXT),
    ("objective", figures, "a figure of summary.json, such as acc1 or sizes.entropy_coded, or a list of them"),
    ("baseline.epochs", *EPOCHS),
    ("baseline.gaussian_epochs", *EPOCHS),
    ("baseline.folder", *TEXT),
    ("baseline.optimizer.lr", *POSITIVE),
    ("baseline.optimizer.weight_decay", *NOT_NEGATIVE),
    ("baseline.scheduler.max_lr", *POSITIVE),
    ("checkpoint.minutes", number(0, 525600, above=True), "a number above 0, at most 525600"),
    ("distillation.weight", *SHARE),
    ("distillation.temperature", *POSITIVE),
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
    ("evaluation.draws", list_of(whole(1, 10**4)), "a list of whole numbers from 1 to 10000"),
    ("evaluation.noise", list_of(number(0, 1e6)), "a list of numbers, 0 or more"),
    ("evaluation.round_draws", whole(0, 1000), "a whole number from 0 to 1000"),
    ("evaluation.noise_draws", whole(1, 1000), "a whole number from 1 to 1000"),
    ("evaluation.seed", *SEED),
    *((f"export.{name}", *YES_NO) for name in ("onnx", "openvino", "coreml", "shift_list", "codes")),
    *((f"fixing.{name}_epochs", *EPOCHS) for name in ("first", "rest")),
    ("fixing.fractions", list_of(number(0, 1, above=True)), "a list of numbers that rise from above 0 to 1"),
    ("fixing.first_fraction", number(0, 1, above=True), "a number above 0, at most 1"),
    ("fixing.rest_fraction", number(0, 1, above=True), "a number above 0, at most 1"),
    ("fixing.learning", *one_of("gaussian", "straight_through", "post_training")),
    ("fixing.schedule", *SCHEDULES),
    ("fixing.first_schedule", *SCHEDULES),
    ("fixing.released", *YES_NO),
    ("fixing.recluster", *one_of("all", "free")),
    ("fixing.delta_start", *REACH),
    ("fixing.delta_end", *REACH),
    ("fixing.min_exponent", whole(-20, -1), "a whole number from -20 to -1 (-b)"),
    ("fixing.growth", number(1.01, 1e6), "a number from 1.01 to 1000000"),  # closer to 1 the reach hardly grows
    ("fixing.max_order", *POWERS),
    ("fixing.zero_fix", *YES_NO),
    ("fixing.max_unique", *COUNT_OR_NULL),
    ("fixing.norm_images", *ANY_COUNT),
    ("fixing.straight_through.every", *COUNT),
    ("fixing.straight_through.fisher_images", *ANY_COUNT),
    ("fixing.straight_through.feedback_images", *ANY_COUNT),
    ("fixing.straight_through.feedback_last", *YES_NO),
    ("fixing.straight_through.start", or_null(number(0, 32, above=True)), "null or a number above 0, at most 32"),
    ("fixing.straight_through.ramp", *SHARE),
    ("fixing.straight_through.freeze", *SHARE),
    ("fixing.straight_through.power", number(0, 4), "a number from 0 to 4"),
    ("fixing.post_training.images", *COUNT),
    *((f"fixing.post_training.{name}", *YES_NO) for name in ("augmented", "shift")),
    ("fixing.post_training.sweeps", whole(0, 1000), "a whole number from 0 to 1000"),
    *((f"logger.{name}", *TEXT_OR_NULL) for name in ("project", "entity", "group", "notes")),
    ("logger.tags", list_of(text), "a list of texts"),
    ("method.name", *TEXT),
    ("method.delta", number(1e-4, 1), "a number from 0.0001 to 1"),  # below, the candidates are millions
    ("method.zero_distance", *POSITIVE),
    ("method.distance", *one_of("relative", "euclidean")),
    ("method.alpha", *NOT_NEGATIVE),
    *((f"method.{name}", *POWERS) for name in ("order", "max_order")),
    ("method.clusters", whole(1, 4096), "a whole number from 1 to 4096"),
    *((f"method.{name}", *YES_NO) for name in ("per_tensor", "weighted")),
    ("method.bits", number(0, 32, above=True), "a number above 0, at most 32"),
    ("method.epochs", *EPOCHS),
    ("method.edge_bits", whole(2, 16), "a whole number from 2 to 16"),
    ("method.max_unique", *COUNT),
    ("method.min_exponent", or_null(whole(-40, 40)), "null or a whole number from -40 to 40"),
    ("method.floor", number(0, 0.5), "a number from 0 to 0.5"),
    ("method.distillation", *SHARE),
    ("method.norm_images", *ANY_COUNT),
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
    ("regulariser.weight", *NOT_NEGATIVE),
    ("regulariser.biases", *YES_NO),
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

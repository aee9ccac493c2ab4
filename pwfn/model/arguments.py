"""The arguments that a file may give to a network of timm: names and values from closed lists.

Whatever else timm's constructors take stays out: sources of weights (``pretrained_cfg``, ``checkpoint_path``,
``cache_dir``), wrappers (``features_only``), layers by name, devices. Sizes are bounded, so that no argument alone
can ask for more than a machine has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["RULES", "refused"]

Rule = Callable[[Any], bool]

POOLS = (
    *("", "align", "avg", "avgmax", "avgmaxc", "catavgmax", "fast", "fastavg", "fastavgmax", "fastcatavgmax"),
    *("fastmax", "map", "max", "merge", "none", "prr", "soft", "token"),
)
"""What timm's networks know as ``global_pool``."""


def refused(kwargs: Mapping[str, Any]) -> list[str]:
    """The names of arguments that a file may not give, or not with this value; None leaves timm's default."""
    return [name for name, value in kwargs.items() if name not in RULES or not (value is None or RULES[name](value))]


def _whole(least: int, most: int) -> Rule:
    return lambda value: type(value) is int and least <= value <= most


def _real(least: float, most: float) -> Rule:
    return lambda value: type(value) in (int, float) and math.isfinite(value) and least <= value <= most


def _each(rule: Rule) -> Rule:
    """The rule for a value or for a list of at most eight of them, such as one for each stage."""
    return lambda value: all(map(rule, value)) and 0 < len(value) <= 8 if isinstance(value, list) else rule(value)


def _flag(value: Any) -> bool:
    return type(value) is bool


def _one_of(*words: str | int | bool) -> Rule:
    return lambda value: any(type(value) is type(word) and value == word for word in words)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("img_size", "patch_size"), _each(_whole(1, 2**13))),
    "window_size": _each(_whole(1, 2**6)),
    **dict.fromkeys(("embed_dim", "embed_dims", "dims"), _each(_whole(1, 2**14))),
    **dict.fromkeys(("depth", "depths", "layers"), _each(_whole(0, 2**8))),
    **dict.fromkeys(("num_heads", "reg_tokens", "cardinality"), _each(_whole(0, 2**10))),
    **dict.fromkeys(("mlp_ratio", "mlp_ratios"), _each(_real(0, 64))),
    **dict.fromkeys(("base_width", "stem_width"), _whole(1, 2**12)),
    **dict.fromkeys(("channel_multiplier", "width_factor"), _real(0, 64)),
    "in_chans": _whole(1, 2**12),
    "num_classes": _whole(0, 2**20),
    "pretrained": _one_of(False),
    "global_pool": _one_of(*POOLS),
    "output_stride": _one_of(8, 16, 32),
    **dict.fromkeys(("drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate"), _real(0, 1)),
    **dict.fromkeys(("patch_drop_rate", "drop_block_rate"), _real(0, 1)),
    **dict.fromkeys(("init_values", "layer_scale_init_value", "ls_init_value", "head_init_scale"), _real(-1e6, 1e6)),
    **dict.fromkeys(("class_token", "qkv_bias", "qk_norm", "pre_norm", "final_norm", "fc_norm"), _flag),
    **dict.fromkeys(("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "no_embed_class"), _flag),
    **dict.fromkeys(("use_abs_pos_emb", "use_pos_embed", "zero_init_last", "distillation"), _flag),
}
"""For each name that a file may give, which values it may have."""

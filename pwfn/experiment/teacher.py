"""The teacher of a run that names one: any trained network, beside the one in training."""

from __future__ import annotations

import re

import torch
from omegaconf import DictConfig
from torch import nn

from pwfn.distillation import normalised_anew
from pwfn.experiment.build import data_config_of, network_of
from pwfn.model.network import require_logits

__all__ = ["teacher_of"]

SETTING = re.compile(r"\bmodel\.(?=(?:checkpoint|kwargs|name|pretrained)\b)")


def teacher_of(cfg: DictConfig, student: nn.Module, num_classes: int) -> nn.Module | None:
    """Build the network of ``distillation.teacher`` with its weights; None where the run names none.

    It sees the images that the student sees; if it was trained with another normalisation, they are normalised anew.

    Args:
        cfg: the configuration.
        student: the network in training.
        num_classes: width of the logits of both.

    Raises:
        ValueError: one sentence that names the setting to change.
    """
    if not cfg.distillation.get("teacher"):
        return None
    try:
        return _teacher(cfg, student, num_classes)
    except ValueError as error:
        raise ValueError(SETTING.sub("distillation.teacher.", str(error))) from error


def _teacher(cfg: DictConfig, student: nn.Module, num_classes: int) -> nn.Module:
    settings = cfg.distillation.teacher
    if not cfg.distillation.weight:
        raise ValueError("distillation.teacher plays no part with distillation.weight=0: set a weight up to 1")
    if not settings.checkpoint and not settings.pretrained:
        raise ValueError("the teacher has no trained weights: set model.checkpoint, or model.pretrained=true")
    teacher, _ = network_of(cfg, settings, num_classes, weights=True)
    seen, wanted = data_config_of(cfg, student), data_config_of(cfg, teacher)
    require_logits(teacher, seen["input_size"], num_classes)
    if cfg.trainer.get("channels_last"):
        teacher.to(memory_format=torch.channels_last)
    if cfg.trainer.compile:
        teacher.compile()
    return normalised_anew(teacher, (seen["mean"], seen["std"]), (wanted["mean"], wanted["std"]))

"""A training transform that lets tests stretch a run, and break one; its settings are no part of the configuration.

Jobs find it through PYTHONPATH.
"""

from __future__ import annotations

import os
import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["Slowly"]


class Slowly:
    """Grey images as tensors, after ``SLOWLY_SECONDS`` each; raises in the array task ``SLOWLY_BROKEN``.

    The rank ``SLOWLY_BROKEN_RANK`` raises when it builds this, ``SLOWLY_BROKEN_LATER`` when it trains.
    """

    def __init__(self) -> None:
        if os.environ.get("SLOWLY_BROKEN_RANK") == os.environ.get("SLURM_PROCID", "none"):
            raise RuntimeError("this rank is broken on purpose")

    def __call__(self, image: Image.Image) -> Tensor:
        time.sleep(float(os.environ.get("SLOWLY_SECONDS", "0")))
        if os.environ.get("SLOWLY_BROKEN") == os.environ.get("SLURM_ARRAY_TASK_ID", "none"):
            raise RuntimeError("broken on purpose")
        if os.environ.get("SLOWLY_BROKEN_LATER") == os.environ.get("SLURM_PROCID", "none"):
            raise RuntimeError("this rank breaks in training")
        small = np.asarray(image.resize((32, 32)), dtype=np.float32) / 255
        return torch.from_numpy((small - 0.305) / 0.376)[None]

"""Post-training fixing of EfficientNet-Lite0 on 1,000 ImageNet images, half to look at, half to compare.

``python -m pytest tests/benchmarks/test_post_training_benchmark.py -s`` prints accuracy, bits, values, seconds and peak
memory. The images are very probably training images of the network: the figures compare, they are no ImageNet accuracy.
"""

from __future__ import annotations

import os
import resource
import tarfile
import time
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from pwfn import rate_distortion

SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "1").split(",")]
NETWORK = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def sample(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensor, Tensor]:
    """1,000 images as the network wants them, and their classes."""
    folder = tmp_path_factory.mktemp("sample")
    with tarfile.open(shared / "data" / "imagenet_sample_256.tar") as tar:
        tar.extractall(folder, filter="data")
    transform = timm.data.create_transform(
        (3, 224, 224), interpolation="bicubic", crop_pct=0.875, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    classes = [line.split()[1] for line in (shared / "data" / "imagenet_classes.txt").read_text().splitlines()]
    paths = sorted(folder.rglob("*.jpg"))
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    return images, torch.tensor([classes.index(path.parent.name) for path in paths])


def network(shared: Path) -> nn.Module:
    model = timm.create_model(NETWORK).eval()
    model.load_state_dict(load_file(shared / "data" / f"{NETWORK}.safetensors"))
    return model


@torch.no_grad()
def right(model: nn.Module, images: Tensor, classes: Tensor) -> float:
    answers = torch.cat([model(batch).argmax(1) for batch in images.split(50)])
    return 100 * float((answers == classes).float().mean())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("bits", "shift"), [(4.0, True), (4.0, False), (3.5, True), (3.5, False)])
def test_efficientnet(shared: Path, sample: tuple[Tensor, Tensor], bits: float, shift: bool, seed: int) -> None:
    images, classes = sample
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    look, compare = order[:500], order[500:]
    model = network(shared)
    before = right(model, images[compare], classes[compare])
    start = time.process_time()
    result = rate_distortion.fix(model, images[look], bits, shift=shift, seed=seed)
    seconds = time.process_time() - start
    after = right(model, images[compare], classes[compare])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n{NETWORK} seed {seed}: {before:.1f} % -> {after:.1f} %, {result.bits:.3f} bits, {result.unique} values"
        f" (as weights {result.unique_weights}), {seconds:.0f} s of one core, peak {peak:.1f} GiB"
    )
    assert result.bits <= bits + 0.05 and result.unique <= 64

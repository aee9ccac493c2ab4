"""A network of 300 million parameters is converted and clustered within the memory of one machine."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import pytest
import timm
import torch

from pwfn import clustering, fix, to_gaussian
from pwfn.gaussian import gaussian_weights

GIB = 2**30


def _work(name: str) -> None:
    """Convert a network and fix half, then all of its weights; prints the figures as JSON."""
    torch.manual_seed(0)
    model = to_gaussian(timm.create_model(name))
    started = time.monotonic()
    for fraction in (0.5, 1.0):
        assignment = fix(model, fraction, clustering.assign)
    weights = list(gaussian_weights(model))
    figures = {
        "weights": sum(mu.numel() for _, mu, _ in weights),
        "fixed": sum(int(w.fixed.sum()) for _, _, w in weights),
        "values": len(assignment.centroids),
        "seconds": time.monotonic() - started,
        "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    print(json.dumps(figures))


@pytest.mark.slow
def test_vit_large_fits_24_gib() -> None:
    command = [sys.executable, __file__, "vit_large_patch16_224"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["fixed"] == figures["weights"] > 300e6
    assert figures["peak"] < 24 * GIB


if __name__ == "__main__":
    _work(sys.argv[1])

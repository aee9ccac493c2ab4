"""Fixed networks on the Hugging Face Hub: a run's folder for it, its upload, and ``pwfn.load("hf://OWNER/NAME")``.

The folder holds ``model.pwfn``; ``model.safetensors`` and ``config.json`` as timm reads them, where the network is
timm's; and a card with the run's figures.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import yaml
from timm.models._hub import save_config_for_hf
from torch import nn

from pwfn.artifact import file
from pwfn.model import architecture as networks
from pwfn.rundir.files import atomic, read_json

__all__ = ["SCHEME", "listed", "load", "prepare", "push"]

SCHEME = "hf://"
"""What a path on the Hugging Face Hub begins with."""

FIGURES = (
    ("top-1 accuracy, %", "acc1", ".2f"),
    ("top-5 accuracy, %", "acc5", ".2f"),
    ("calibration error", "ece", ".4f"),
    ("unique values", "unique", ",.0f"),
    ("entropy, bits a weight", "entropy", ".2f"),
)
"""Rows of the card: label, key in ``summary.json`` (the baseline's begins with ``baseline_``), format."""

DATA = ("input_size", "mean", "std", "interpolation", "crop_pct")
"""Settings of a run's data that timm keeps with the weights."""


def load(path: str | Path, **options: Any) -> nn.Module:
    """The network of a ``model.pwfn``: a file, or ``hf://OWNER/NAME[@REVISION]`` for a repository of the Hub.

    Args:
        path: the file or the repository.
        options: as for :func:`pwfn.artifact.file.load`.

    Raises:
        ValueError: if the repository's name is malformed, or the file is refused.
        OSError: if the file cannot be had.
    """
    text = str(path)
    if not text.startswith(SCHEME):
        return file.load(path, **options)
    from huggingface_hub import hf_hub_download

    repo, _, revision = text.removeprefix(SCHEME).partition("@")
    return file.load(hf_hub_download(_checked(repo), "model.pwfn", revision=revision or None), **options)


def prepare(run: Path, repo: str) -> Path:
    """Write the folder ``hub`` of a finished run: what a repository of the Hub shall hold.

    Args:
        run: the run directory.
        repo: ``OWNER/NAME`` of the repository, which the card names.

    Raises:
        ValueError: if the run is not finished, or the repository's name is malformed.
    """
    _checked(repo)
    summary = read_json(run / "summary.json") or {}
    missing = [name for name in ("model.pwfn", "model.safetensors") if not (run / name).exists()]
    if summary.get("status") != "finished" or missing:
        raise ValueError(f"{run} holds no finished run to push: start it again, or give another folder")
    folder = run / "hub"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("model.pwfn", "model.safetensors", "summary.json", "codebook.csv"):
        if (run / name).exists():
            shutil.copyfile(run / name, folder / name)
    architecture, _ = file.read(run / "model.pwfn")
    from_timm = timm.is_model(str(architecture.get("name")))
    if from_timm:
        _write_config(folder / "config.json", architecture, run)
    with atomic(folder / "README.md") as temporary:
        temporary.write_text(_card(summary, repo, from_timm))
    return folder


def listed(run: Path, repo: str) -> str:
    """What :func:`push` would upload: the folder is written, and its files are listed, a line each.

    Raises:
        ValueError: as :func:`prepare`.
    """
    folder = prepare(run, repo)
    files = [f"  {path.stat().st_size:>12,} {path.name}" for path in sorted(folder.iterdir())]
    return "\n".join([f"to {repo}, from {folder}:", *files])


def push(run: Path, repo: str, *, private: bool | None = None) -> str:
    """Upload a finished run to the Hub as the user who is logged in; the repository is made if need be.

    Args:
        run, repo: as for :func:`prepare`.
        private: whether a new repository is private; None leaves it to the user's settings there.

    Returns:
        The address of the upload.

    Raises:
        ValueError: as :func:`prepare`.
        OSError: if the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    folder, api = prepare(run, repo), HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload a fixed network"))


def _checked(repo: str) -> str:
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo)
    if repo.count("/") != 1:
        raise ValueError(f"a repository of the Hub is OWNER/NAME, not {repo!r}")
    return repo


def _write_config(path: Path, architecture: Mapping[str, Any], run: Path) -> None:
    """timm's ``config.json``: how it builds the network, and what the network's images are like."""
    settings = run / ".hydra" / "config.yaml"
    content = yaml.safe_load(settings.read_text()) if settings.exists() else {}
    data = content.get("dataset", {}).get("data_config") or {}
    arguments = dict(architecture.get("kwargs", {}))
    network: Any = networks.build(architecture)
    about = {key: data[key] for key in DATA if key in data and not isinstance(data[key], dict)}
    known: Any = network
    known.pretrained_cfg = {**known.pretrained_cfg, **about, "num_classes": known.num_classes}
    opened: Any = path  # timm 1.0.10 wants a Path where its annotation says str
    save_config_for_hf(network, opened, model_args=arguments)


def _card(summary: Mapping[str, Any], repo: str, from_timm: bool) -> str:
    """The card: what the network is, its measured figures, how it is loaded."""
    head = {"pipeline_tag": "image-classification", "tags": ["pwfn", "quantization", "image-classification"]}
    if from_timm:
        head |= {"library_name": "timm"}
    lines = ["---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", f"# {repo.partition('/')[2]}", ""]
    lines += [
        f"{summary['model']} on {summary['dataset']}, fixed by {summary['method']} (seed {summary['seed']}): "
        f"{summary['params_in_scope']:,} of its {summary['params']:,} weights share "
        f"{summary['unique']:,} values, {summary['entropy']:.2f} bits a weight.",
        "",
        "| on test images | baseline | fixed |",
        "|---|--:|--:|",
    ]
    for label, key, style in FIGURES:
        values = [summary.get(f"baseline_{key}"), summary.get(key)]
        lines.append(f"| {label} | {' | '.join('' if v is None else format(v, style) for v in values)} |")
    sizes = summary["sizes"]
    lines += [
        f"| bytes | {sizes['float32']:,} (float32) | {sizes['entropy_coded']:,} (`model.pwfn`) |",
        "",
        "```python",
        "import pwfn",
        "",
        f'network = pwfn.load("{SCHEME}{repo}")',
    ]
    if from_timm:
        lines += ["", "import timm", "", f'network = timm.create_model("hf-hub:{repo}", pretrained=True)']
    return "\n".join([*lines, "```", ""])

"""The text of ``python launch.py --help``: every choice and every setting, with what the configuration says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["completions", "help_text"]

HEAD = """pwfn: the weights of a trained network share a few hundred additive powers-of-two values.

  python launch.py                              the default run: digits, two minutes, no network needed
  python launch.py prior=constant seed=2        other choices
  python launch.py -m seed=1,2,3                a sweep; sweeps=sigma_join one that comes with pwfn
  python launch.py hydra/launcher=slurm -m ...  on a cluster; its settings: hydra/launcher=slurm --help
  python launch.py hydra.run.dir=DIR            the same DIR again resumes the run in it
  python -m pwfn.report evaluate DIR            measures the finished run in DIR anew
"""


def help_text(conf: Path, arguments: Sequence[str]) -> str:
    """Describe the choices, with a star at those in force, and the settings of these.

    Args:
        conf: the folder of configurations.
        arguments: the command line, whose ``GROUP=OPTION`` are in force.
    """
    index = (conf / "config.yaml").read_text()
    chosen = _defaults(index) | dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    groups = sorted({path.parent.relative_to(conf).as_posix() for path in conf.rglob("*.yaml")} - {"."})
    groups = [group for group in groups if not group.startswith("experiment/")]
    lines = [HEAD, "Choices, GROUP=OPTION:"]
    for group in groups:
        files = sorted((conf / group).rglob("*.yaml"))
        options = {path.relative_to(conf / group).with_suffix("").as_posix(): path for path in files}
        lines += ["", group]
        for name, path in options.items():
            lines.append(f"  {'*' if chosen.get(group) == name else ' '} {name:<28} {_about(path)}".rstrip())
    lines += ["", "Settings of the choices with a star, KEY=VALUE:"]
    lines += _settings(index)
    for group in groups:
        path = conf / group / f"{chosen.get(group)}.yaml"
        if path.is_file() and not group.startswith("experiment"):
            lines += ["", f"{group.replace('/', '.')}:", *(f"  {line}" for line in _inherited(path))]
    return "\n".join(lines)


def completions(conf: Path, line: str) -> list[str] | None:
    """Complete a word that ends in an option of a group with folders, which Hydra's own completion leaves out.

    Args:
        conf: the folder of configurations.
        line: the command line up to the cursor, as a shell hands it on.

    Returns:
        The words that it may become; None where Hydra knows them.
    """
    match = re.search(r"(?:^|\s)(\+?)([\w/]+)=([\w/.-]*)$", line)
    group = conf / match[2] if match else conf
    if match is None or not group.is_dir() or not any(path.is_dir() for path in group.iterdir()):
        return None
    names = (path.relative_to(group).with_suffix("").as_posix() for path in sorted(group.rglob("*.yaml")))
    return [f"{match[1]}{match[2]}={name}" for name in names if name.startswith(match[3])]


def _defaults(index: str) -> dict[str, str]:
    """The option of each group in the defaults list of the index."""
    found = {}
    for line in index.partition("defaults:")[2].partition("\n\n")[0].splitlines():
        group, sign, option = line.strip().removeprefix("- ").removeprefix("override ").partition(": ")
        if sign:
            found[group] = option.partition("#")[0].strip()
    return found


def _about(path: Path) -> str:
    """The first comment of a file that is no directive of Hydra's."""
    comments = (line for line in path.read_text().splitlines() if line.startswith("# ") and "@package" not in line)
    return next(comments, "").removeprefix("# ")


def _inherited(path: Path) -> list[str]:
    """The settings of an option after those of the files that it builds on."""
    lines: list[str] = []
    for name in _bases(path.read_text()):
        lines += _inherited(path.with_name(f"{name}.yaml"))
    return lines + _settings(path.read_text())


def _bases(text: str) -> list[str]:
    entries = text.partition("defaults:\n")[2].splitlines()
    names = [line.strip().removeprefix("- ") for line in entries if line.strip().startswith("- ")]
    return [name for name in names if name.isidentifier() and name not in ("_self_",) and not name.startswith("pwfn_")]


def _settings(text: str) -> list[str]:
    """The lines of a file without its head, its defaults list and Hydra's own part."""
    lines: list[str] = []
    skipping = False
    for line in text.splitlines():
        if line[:1] not in (" ", "", "#"):
            skipping = line.startswith(("defaults:", "hydra:"))
        if not skipping and "_target_" not in line and "_partial_" not in line and line.strip():
            lines.append(line)
    while lines and lines[0].startswith("#"):
        del lines[0]
    return lines

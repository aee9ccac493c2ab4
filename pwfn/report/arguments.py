"""The command line of reports: its commands and their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pwfn.report.compare import FIGURES

__all__ = ["parser"]

EPILOG = """examples:
  python -m pwfn.report compare outputs/ --html runs.html
  python -m pwfn.report run outputs/2026-01-01/12-00-00-resnet10t-digits-pwfn
  python -m pwfn.report paper outputs/sweeps/wfn_delta --to figures
  python -m pwfn.report workspace --entity me --project pwfn outputs/sweeps/NAME
"""

Commands = Any  # what add_subparsers returns, which argparse does not name


def parser() -> argparse.ArgumentParser:
    """Build the parser; what it parses has the name of the command as ``command``."""
    found = argparse.ArgumentParser(
        prog="python -m pwfn.report",
        description="Reports from run directories.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    adding = (_compare, _run, _paper, _status, _evaluate, _check_data, _workspace, _push)
    names = "|".join(add.__name__.lstrip("_").replace("_", "-") for add in adding)
    commands = found.add_subparsers(dest="command", required=True, metavar=names)
    for add in adding:
        add(commands)
    return found


def _compare(commands: Commands) -> None:
    command = commands.add_parser("compare", help="one table of all runs below some folders")
    command.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    command.add_argument(
        "--brief", action="store_true", help="one column for all settings: what is unlike in most runs"
    )
    command.add_argument(
        "--figures",
        nargs="+",
        choices=FIGURES,
        default=tuple(FIGURES),
        metavar="FIGURE",
        help=f"columns of the table, of {', '.join(FIGURES)}",
    )
    command.add_argument("--csv", type=Path, metavar="FILE", help="write the table with unrounded figures")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    command.add_argument("--plots", type=Path, metavar="DIR", help="write a plot of accuracy against cost per dataset")
    command.add_argument("--html", type=Path, metavar="FILE", help="write table and plots as one page")


def _run(commands: Commands) -> None:
    command = commands.add_parser("run", help="a run's figures; draws its plots anew")
    command.add_argument("folders", nargs="+", type=Path, metavar="DIR")


def _paper(commands: Commands) -> None:
    command = commands.add_parser("paper", help="the figures of the papers of WFN and PWFN, as PNG and CSV")
    command.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="runs or sweeps")
    command.add_argument("--to", type=Path, required=True, metavar="DIR", help="where the figures go")


def _status(commands: Commands) -> None:
    command = commands.add_parser(
        "status", help="where the runs of a sweep stand; exit code 1: one failed, 2: no sweep"
    )
    command.add_argument("folder", type=Path, metavar="SWEEP", help="directory of the sweep")
    command.add_argument(
        "--watch", type=float, nargs="?", const=10, metavar="SECONDS", help="again until all have ended"
    )
    command.add_argument("--all", action="store_true", help="every run, however many")


def _evaluate(commands: Commands) -> None:
    command = commands.add_parser("evaluate", help="measure a finished run anew, from its folder alone")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, evaluation.draws=[100]")


def _check_data(commands: Commands) -> None:
    command = commands.add_parser("check-data", help="read every image below a folder; exit code 1: some are damaged")
    command.add_argument("folder", type=Path, metavar="DIR", help="such as dataset.root")


def _workspace(commands: Commands) -> None:
    command = commands.add_parser("workspace", help="a ready dashboard on W&B, or a report on a sweep")
    command.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="runs that tell what was swept")
    command.add_argument("--entity", required=True, help="user or team")
    command.add_argument("--project", default="pwfn")
    command.add_argument("--name", default="pwfn", help="of the workspace, or title of the report")
    command.add_argument("--report", action="store_true", help="a report with the table of DIR's runs instead")
    command.add_argument("--json", type=Path, metavar="FILE", help="write it to a file, and not to W&B")


def _push(commands: Commands) -> None:
    command = commands.add_parser("push", help="a finished run to the Hugging Face Hub")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("repo", metavar="OWNER/NAME")
    command.add_argument("--private", action="store_true", default=None, help="a new repository is private")
    command.add_argument("--dry-run", action="store_true", help="write DIR/hub and list it, upload nothing")

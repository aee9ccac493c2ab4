"""Reports from run directories: ``python -m pwfn.report compare|run|paper|status|evaluate|workspace|push``

All but ``evaluate`` need no data, only the files that runs left; ``push`` uploads them to the Hugging Face Hub.
``check-data`` looks at a folder of images before there are any runs.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from pwfn.report import arguments as command_line
from pwfn.report import compare
from pwfn.report.comparison import compared, write_bytes
from pwfn.rundir.files import read_json

__all__ = ["main"]

SHOWN = ("baseline_acc1", "acc1", "unique", "entropy", "sizes.entropy_coded")  # columns of a W&B report


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a letter shows ? instead
    chosen = command_line.parser().parse_args(arguments)
    try:
        return _status(chosen) if chosen.command == "status" else _carry_out(chosen)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _carry_out(chosen: argparse.Namespace) -> int:
    commands = {
        "compare": _compare,
        "evaluate": _evaluate,
        "paper": _paper,
        "push": _push,
        "run": _run,
        "workspace": _workspace,
    }
    try:
        if chosen.command == "check-data":
            return _check_data(chosen)
        commands[chosen.command](chosen)
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True, soft_wrap=True).print(f"{error}", style="red", highlight=False, markup=False)
        return 1
    return 0


def _compare(chosen: argparse.Namespace) -> None:
    found = compared(chosen.folders, figures=chosen.figures, brief=chosen.brief)
    found.show()
    if chosen.csv:
        found.write_csv(chosen.csv)
    if chosen.markdown:
        write_bytes(chosen.markdown, found.markdown().encode())
    plots = found.plots() if chosen.plots or chosen.html else {}
    for name, data in plots.items() if chosen.plots else ():
        write_bytes(chosen.plots / f"pareto-{name}.png", data)
    if chosen.html:
        found.write_page(chosen.html, plots)


def _status(chosen: argparse.Namespace) -> int:
    from pwfn.rundir.status import ENDED, status
    from pwfn.rundir.status_table import print_status, watch_status

    try:
        if chosen.watch:
            runs = watch_status(chosen.folder, chosen.watch, everything=chosen.all)
        else:
            runs = status(chosen.folder)
            print_status(runs, everything=chosen.all)
    except (OSError, ValueError) as error:
        Console(stderr=True, soft_wrap=True).print(str(error), highlight=False, markup=False)
        return 2
    return int(any(run.state in ENDED for run in runs))


def _run(chosen: argparse.Namespace) -> None:
    from pwfn.report import console, plots

    for folder in chosen.folders:
        summary = read_json(folder / "summary.json")
        if summary is None:
            raise ValueError(f"{folder} holds no run")
        drawn = plots.draw(folder)
        if summary["status"] == "finished":
            console.print_summary(summary, folder)
        else:
            Console().print(f"{folder}: {summary['status']} {summary.get('error', '')}", highlight=False)
        for path in drawn.values():
            Console(soft_wrap=True).print(f"plot: {path}", highlight=False)


def _evaluate(chosen: argparse.Namespace) -> None:
    from pwfn.experiment.run import evaluate
    from pwfn.report import console

    console.print_summary(evaluate(chosen.folder, chosen.overrides), chosen.folder)


def _check_data(chosen: argparse.Namespace) -> int:
    from pwfn.dataset.checking import unreadable

    count, bad = 0, Counter[str]()
    for path, problem in unreadable(chosen.folder):
        count += 1
        if problem is not None:
            print(f"{path}: {problem}")
            bad[path.relative_to(chosen.folder.expanduser()).parts[0]] += 1
    where = f" ({', '.join(f'{split}: {number}' for split, number in bad.items())})" if bad else ""
    print(f"{bad.total()} of {count} images cannot be read{where}")
    return int(bool(bad))


def _paper(chosen: argparse.Namespace) -> None:
    from pwfn.report.paper import draw

    for name, reason in draw(chosen.folders, chosen.to).items():
        Console(soft_wrap=True).print(f"{name}: {reason or chosen.to / f'{name}.png'}", highlight=False)


def _workspace(chosen: argparse.Namespace) -> None:
    from pwfn.report import panels, workspace

    if chosen.report and not chosen.folders:
        raise ValueError("--report needs the folder of a sweep: python -m pwfn.report workspace DIR --report ...")
    runs = compare.find(chosen.folders)
    keys = compare.swept(runs) if runs else panels.SWEPT
    if chosen.report:
        found = compared(chosen.folders, figures=SHOWN)
        groups = sorted({str(run.settings["logger.group"]) for run in runs if run.settings.get("logger.group")})
        text = {"table": found.markdown(), "note": found.note}
        board = workspace.report(chosen.entity, chosen.project, name=chosen.name, **text, groups=groups, swept=keys)
    else:
        board = workspace.build(chosen.entity, chosen.project, name=chosen.name, swept=keys)
    if chosen.json:
        write_bytes(chosen.json, workspace.to_json(board).encode())
    else:
        board.save()
        Console(soft_wrap=True).print(board.url, highlight=False)


def _push(chosen: argparse.Namespace) -> None:
    from pwfn.artifact import hub

    run, repo = chosen.folder, chosen.repo
    said = hub.listed(run, repo) if chosen.dry_run else hub.push(run, repo, private=chosen.private)
    Console(soft_wrap=True).print(said, highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())

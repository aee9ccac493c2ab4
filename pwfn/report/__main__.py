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
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from pwfn.report import compare, tables
from pwfn.rundir.files import atomic, read_json, write_csv

__all__ = ["main"]

EPILOG = """examples:
  python -m pwfn.report compare outputs/ --html runs.html
  python -m pwfn.report run outputs/2026-01-01/12-00-00-resnet10t-digits-pwfn
  python -m pwfn.report paper outputs/sweeps/wfn_delta --to figures
  python -m pwfn.report workspace --entity me --project pwfn outputs/sweeps/NAME
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a letter shows ? instead
    parser = argparse.ArgumentParser(
        prog="python -m pwfn.report",
        description="Reports from run directories.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="compare|run|paper|status|evaluate|check-data|workspace|push"
    )
    many = commands.add_parser("compare", help="one table of all runs below some folders")
    many.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    many.add_argument("--brief", action="store_true", help="one column for all settings: what is unlike in most runs")
    many.add_argument(
        "--figures",
        nargs="+",
        choices=compare.FIGURES,
        default=tuple(compare.FIGURES),
        metavar="FIGURE",
        help=f"columns of the table, of {', '.join(compare.FIGURES)}",
    )
    many.add_argument("--csv", type=Path, metavar="FILE", help="write the table with unrounded figures")
    many.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    many.add_argument("--plots", type=Path, metavar="DIR", help="write a plot of accuracy against cost per dataset")
    many.add_argument("--html", type=Path, metavar="FILE", help="write table and plots as one page")
    one = commands.add_parser("run", help="a run's figures; draws its plots anew")
    one.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    both = commands.add_parser("paper", help="the figures of the papers of WFN and PWFN, as PNG and CSV")
    both.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="runs or sweeps")
    both.add_argument("--to", type=Path, required=True, metavar="DIR", help="where the figures go")
    state = commands.add_parser("status", help="where the runs of a sweep stand; exit code 1: one failed, 2: no sweep")
    state.add_argument("folder", type=Path, metavar="SWEEP", help="directory of the sweep")
    state.add_argument("--watch", type=float, nargs="?", const=10, metavar="SECONDS", help="again until all have ended")
    state.add_argument("--all", action="store_true", help="every run, however many")
    again = commands.add_parser("evaluate", help="measure a finished run anew, from its folder alone")
    again.add_argument("folder", type=Path, metavar="DIR")
    again.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, evaluation.draws=[100]")
    data = commands.add_parser("check-data", help="read every image below a folder; exit code 1: some are damaged")
    data.add_argument("folder", type=Path, metavar="DIR", help="such as dataset.root")
    board = commands.add_parser("workspace", help="a ready dashboard on W&B")
    board.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="runs that tell what was swept")
    board.add_argument("--entity", required=True, help="user or team")
    board.add_argument("--project", default="pwfn")
    board.add_argument("--name", default="pwfn", help="of the workspace")
    board.add_argument("--json", type=Path, metavar="FILE", help="write it to a file, and not to W&B")
    upload = commands.add_parser("push", help="a finished run to the Hugging Face Hub")
    upload.add_argument("folder", type=Path, metavar="DIR")
    upload.add_argument("repo", metavar="OWNER/NAME")
    upload.add_argument("--private", action="store_true", default=None, help="a new repository is private")
    upload.add_argument("--dry-run", action="store_true", help="write DIR/hub and list it, upload nothing")
    chosen = parser.parse_args(arguments)
    if chosen.command == "status":
        return _status(chosen)
    try:
        if chosen.command == "compare":
            _compare(chosen)
        elif chosen.command == "paper":
            _paper(chosen.folders, chosen.to)
        elif chosen.command == "run":
            for folder in chosen.folders:
                _run(folder)
        elif chosen.command == "evaluate":
            _evaluate(chosen.folder, chosen.overrides)
        elif chosen.command == "check-data":
            return _check_data(chosen.folder)
        elif chosen.command == "push":
            _push(chosen)
        else:
            _workspace(chosen)
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True).print(f"{error}", style="red", highlight=False)
        return 1
    return 0


def _compare(chosen: argparse.Namespace) -> None:
    # a sweep's folder leads to the runs that other sweeps had finished
    links = [path for folder in chosen.folders for path in folder.glob("*") if path.is_symlink() and path.is_dir()]
    runs = compare.find([*chosen.folders, *links])
    if not runs:
        raise ValueError(f"no runs below {', '.join(map(str, chosen.folders))}")
    finished, again = compare.repeated([run for run in runs if run.status == "finished"])
    keys = compare.swept(finished)
    groups = compare.grouped(finished, keys)
    shown, shared = tables.constant(groups, keys)
    listed = groups
    if chosen.brief:
        always = [key for key in shown if key == "method.name"]
        listed, shown = tables.brief(groups, shown, always), [*always, tables.SETTINGS]
    head, rows = tables.headings(listed, shown, chosen.figures), tables.cells(listed, shown, chosen.figures)
    rest = tables.unfinished_cells(runs)
    note = f"{len(runs)} runs: {len(finished)} finished in {len(groups)} settings, {len(rest)} not finished."
    if again:
        note += f" {len(again)} older repetitions of the same run are left out."
    if rows:
        tables.print_table(head, rows, f"Finished runs: {shared}" if shared else "Finished runs", left=len(shown))
    if rest:
        tables.print_table(tables.UNFINISHED, rest, "Not finished", left=4)
    Console(soft_wrap=True).print(note, highlight=False)
    if chosen.csv:
        write_csv(chosen.csv, tables.csv_rows(groups, keys))
    if chosen.markdown:
        text = tables.markdown(head, rows, left=len(shown))
        if rest:
            text += "\n" + tables.markdown(tables.UNFINISHED, rest, left=4)
        _write(chosen.markdown, text.encode())
    plots = _plots(groups) if chosen.plots or chosen.html else {}
    for name, data in plots.items() if chosen.plots else ():
        _write(chosen.plots / f"pareto-{name}.png", data)
    if chosen.html:
        from pwfn.report.page import page

        named = {f"Accuracy against cost: {name}": data for name, data in plots.items()}
        title = f"Runs: {shared}" if shared else "Runs"
        text = page(title, head, rows, left=len(shown), plots=named, unfinished=(tables.UNFINISHED, rest), note=note)
        _write(chosen.html, text.encode())


def _plots(groups: Sequence[compare.Group]) -> dict[str, bytes]:
    from pwfn.report.pareto import pareto

    datasets = dict.fromkeys(group.settings["dataset.name"] for group in groups)
    return {dataset.replace("/", "-"): _png(pareto(groups, dataset)) for dataset in datasets}


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()


def _status(chosen: argparse.Namespace) -> int:
    from pwfn.rundir.status import ENDED, status
    from pwfn.rundir.status_table import print_status, watch_status

    try:
        if chosen.watch:
            runs = watch_status(chosen.folder, chosen.watch, everything=chosen.all)
        else:
            runs = status(chosen.folder)
            print_status(runs, everything=chosen.all)
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        Console(stderr=True).print(str(error), markup=False)
        return 2
    return int(any(run.state in ENDED for run in runs))


def _run(folder: Path) -> None:
    from pwfn.report import console, plots

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


def _evaluate(folder: Path, overrides: Sequence[str]) -> None:
    from pwfn.experiment.run import evaluate
    from pwfn.report import console

    console.print_summary(evaluate(folder, overrides), folder)


def _check_data(folder: Path) -> int:
    from pwfn.dataset.checking import unreadable

    count, bad = 0, Counter[str]()
    for path, problem in unreadable(folder):
        count += 1
        if problem is not None:
            print(f"{path}: {problem}")
            bad[path.relative_to(folder.expanduser()).parts[0]] += 1
    where = f" ({', '.join(f'{split}: {number}' for split, number in bad.items())})" if bad else ""
    print(f"{bad.total()} of {count} images cannot be read{where}")
    return int(bool(bad))


def _paper(folders: Sequence[Path], to: Path) -> None:
    from pwfn.report.paper import draw

    for name, reason in draw(folders, to).items():
        Console(soft_wrap=True).print(f"{name}: {reason or to / f'{name}.png'}", highlight=False)


def _workspace(chosen: argparse.Namespace) -> None:
    from pwfn.report import workspace

    keys = compare.swept(compare.find(chosen.folders)) if chosen.folders else workspace.SWEPT
    board = workspace.build(chosen.entity, chosen.project, name=chosen.name, swept=keys)
    if chosen.json:
        _write(chosen.json, workspace.to_json(board).encode())
    else:
        board.save()
        Console(soft_wrap=True).print(board.url, highlight=False)


def _push(chosen: argparse.Namespace) -> None:
    from pwfn.artifact import hub

    run, repo = chosen.folder, chosen.repo
    said = hub.listed(run, repo) if chosen.dry_run else hub.push(run, repo, private=chosen.private)
    Console(soft_wrap=True).print(said, highlight=False)


def _write(path: Path, data: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(data)


if __name__ == "__main__":
    raise SystemExit(main())

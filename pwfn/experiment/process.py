"""One run as a process of its own: nobody else works in its folder, and its end says how to go on."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors import SafetensorError

from pwfn.experiment.build import sentence
from pwfn.rundir.lock import LOCK

__all__ = ["process"]

EXPECTED = (FloatingPointError, OSError, SafetensorError, ValueError)
"""What a run raises for its user to read: a loss that is not finite, a full disk, a damaged file."""


@contextmanager
def process(folder: Path) -> Iterator[None]:
    """Carry a run out in the block, alone in its folder, and end the process if it does not come to its end.

    Args:
        folder: the run directory; the traceback of an error goes to its ``launch.log``.

    Raises:
        SystemExit: with one sentence and exit code 1 for an error of :data:`EXPECTED`, or if another process works
            in the folder; with 128 and the signal's number, and a line that says how to resume, after SIGINT and
            SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    lock = FileLock(folder / LOCK)
    try:
        _begin(lock, folder)
        yield
    except Timeout:
        raise SystemExit(f"another process works in {folder}: wait for it, or choose another hydra.run.dir") from None
    except EXPECTED as error:
        _write_traceback(folder / "launch.log", error)
        raise SystemExit(f"{sentence(error)}\n({_advice(folder, error)})") from error
    except KeyboardInterrupt:
        _leave(folder, signal.SIGINT)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning's answer to it, with exit code 1
            _leave(folder, signal.SIGINT)
        if isinstance(error, SIGTERMException) or error.code == 128 + signal.SIGTERM:
            _leave(folder, signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        lock.release()


@rank_zero_only
def _begin(lock: FileLock, folder: Path) -> None:
    lock.acquire(timeout=0)
    print(f"run folder: {folder}", flush=True)


def _terminate(signum: int, frame: FrameType | None) -> None:
    if signal.getsignal(signum) is _terminate:  # else Lightning trains: it calls this, and stops after the batch
        sys.exit(128 + signum)


def _leave(folder: Path, signum: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the second Ctrl-C of an impatient user
    word = "interrupted" if signum == signal.SIGINT else "terminated"
    said = f"{word}: the same command with hydra.run.dir={folder} goes on from here"
    rank_zero_only(print)(said, file=sys.stderr, flush=True)
    sys.exit(128 + signum)


@rank_zero_only
def _write_traceback(path: Path, error: BaseException) -> None:
    if not _full(error):
        with path.open("a") as log:
            log.write("".join(traceback.format_exception(error)))


def _advice(folder: Path, error: BaseException) -> str:
    if _full(error):
        return f"the same command with hydra.run.dir={folder} goes on once there is room"
    return f"where: {folder / 'launch.log'}"


def _full(error: BaseException) -> bool:
    if isinstance(error, SafetensorError):  # tells the system's error as text alone
        return str(error).endswith((f"(os error {errno.ENOSPC})", f"(os error {errno.EDQUOT})"))
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)

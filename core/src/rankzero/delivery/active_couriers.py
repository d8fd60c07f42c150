"""Find the running couriers of all runs of this user, and stop them.

A courier holds a lock in its run's directory, and lists itself in the user's state directory
(``$XDG_STATE_HOME/rankzero/couriers``, by default below ``~/.local/state``). Only the lock shows whether it is running.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from rankzero.errors import RankzeroError, RunNotFoundError
from rankzero.files.writing import read_own, state_directory, write_file
from rankzero.journal.opening import has_journal
from rankzero.journal.tail import read_start
from rankzero.processes import ProcessId, is_running, this_process
from rankzero.rundir.finding import choose_run, complete_size, find_runs
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import ask_to_stop, is_served, load_position, served_keys
from rankzero.rundir.writer_lock import Writer, writer_state
from rankzero.waiting import wait_until

_POLL = 0.1
_ASK_EVERY = 1.0


class Note(msgspec.Struct):
    """The entry of a courier in the user's state directory."""

    run_dir: str
    key: str
    process: ProcessId
    is_alone: bool
    """Whether the courier has a separate process."""
    began: float
    """Unix time in seconds."""


class CourierAtWork(NamedTuple):
    """A running courier."""

    run_dir: Path
    key: str
    run_name: str
    run_id: str
    behind: int
    """The bytes of the journal that are not delivered yet."""
    problem: str | None
    """Why the delivery fails now; None if it does not."""
    is_live: bool
    """Whether the training process may still write to the run."""
    pid: int
    """0 if unknown."""
    host: str
    note: Note | None
    """None if the courier was found only by its lock: another user's, for example."""


@contextmanager
def noted(run_dir: Path, key: str) -> Iterator[None]:
    """List this process as a courier in the user's state directory inside the ``with`` block."""
    path: Path | None = None
    with suppress(Exception):  # no home directory, one that cannot be written, a path that is not UTF-8
        directory = _directory()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / f"{hashlib.sha256(os.fsencode(run_dir / key)).hexdigest()[:32]}.json"
        is_alone = threading.current_thread() is threading.main_thread()
        write_file(path, msgspec.json.encode(Note(str(run_dir), key, this_process(), is_alone, time.time())))
    try:
        yield
    finally:
        if path is not None:
            with suppress(OSError):
                path.unlink()


def at_work(directory: Path) -> list[CourierAtWork]:
    """Return the user's running couriers, and those of the runs below ``directory``, oldest first."""
    notes = {(Path(note.run_dir), note.key): note for note in _notes()}
    found: dict[tuple[Path, str], Note | None] = {target: note for target, note in notes.items() if is_served(*target)}
    for run_dir in map(Path.resolve, find_runs(directory)):
        for key in served_keys(run_dir):
            found.setdefault((run_dir, key))
    couriers = []
    for (run_dir, key), note in found.items():
        with suppress(RankzeroError, OSError):  # a run that cannot be read must not hide the others
            couriers.append(_active_courier(run_dir, key, note))
    return sorted(couriers, key=lambda each: each.note.began if each.note else 0.0)


def choose(couriers: list[CourierAtWork], wanted: str, key: str | None = None) -> list[CourierAtWork]:
    """Return the couriers of one run.

    Args:
        couriers: the running couriers.
        wanted: the run, as in `rankzero.rundir.finding.find_run`.
        key: the key of a logger; all loggers by default.

    Raises:
        RunNotFoundError: there is no such courier, or several runs match.
    """
    path = Path(wanted)
    if has_journal(path):
        run_dir = path.resolve()
    else:
        runs = list({each.run_dir: None for each in couriers})
        run_dir = choose_run(wanted, runs, "that is being delivered", "rankzero ps")
    chosen = [each for each in couriers if each.run_dir == run_dir and key in (None, each.key)]
    if not chosen:
        where = f"to {key!r} now" if key else "now"
        raise RunNotFoundError(f"no courier delivers {run_dir} {where}; list those that are at work with: rankzero ps")
    return chosen


def stop(courier: CourierAtWork, timeout: float) -> bool:
    """Stop a courier after the batch that it is sending; return whether it ended within ``timeout`` seconds."""
    asked = -_ASK_EVERY

    def has_ended() -> bool:
        nonlocal asked
        if not is_served(courier.run_dir, courier.key):
            return True
        if time.monotonic() - asked > _ASK_EVERY:
            ask_to_stop(courier.run_dir, courier.key)
            asked = time.monotonic()
        return False

    return wait_until(has_ended, timeout, _POLL)


def kill(courier: CourierAtWork) -> bool:
    """Kill a courier's process if it runs on this machine, serves only this courier and its id was not reused.

    Returns:
        Whether it was killed.
    """
    note = courier.note
    if note is None or not note.is_alone or not is_running(note.process):
        return False
    os.kill(note.process.pid, signal.SIGKILL)
    return True


def _directory() -> Path:
    return state_directory() / "couriers"


def _notes() -> Iterator[Note]:
    try:
        paths = list(_directory().glob("*.json"))
    except OSError:
        return
    for path in paths:
        with suppress(OSError, RankzeroError, msgspec.MsgspecError):
            note = msgspec.json.decode(read_own(path), type=Note)
            if is_served(Path(note.run_dir), note.key):
                yield note
            elif note.process.host == platform.node():
                path.unlink()  # it was killed


def _active_courier(run_dir: Path, key: str, note: Note | None) -> CourierAtWork:
    position = load_position(run_dir, key)
    start = read_start(run_dir / JOURNAL)
    is_old = note is not None and position.updated < note.began
    return CourierAtWork(
        run_dir,
        key,
        start.run.name if start else run_dir.name,
        run_dir.name,
        max(0, complete_size(run_dir) - position.offset),
        None if is_old else position.problem,
        writer_state(run_dir) is Writer.ALIVE,
        note.process.pid if note else position.pid,
        note.process.host if note else position.host,
        note,
    )

"""Delivery positions: how much of a run each logger has delivered, in a small file beside the journal."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from rankzero.errors import NotAFileError
from rankzero.files.writing import check_own, open_descriptor, open_own, read_own, write_file
from rankzero.journal.tail import read_start
from rankzero.rundir.layout import COURIER_LOCK, EARLIER_POSITION, JOURNAL, POSITION, REJECTED, STOP, WAKE


class Position(msgspec.Struct, omit_defaults=True):
    """What the tracker has acknowledged, and what the courier is doing about the rest."""

    offset: int = 0
    """Bytes of the journal that are delivered."""
    line: int = 0
    """Lines of the journal that are delivered."""
    rejected: int = 0
    """How many events stand in the reject list."""
    status: str | None = None
    """How the run ended, as far as it is delivered; None while it goes on."""
    closed: bool = False
    """Whether the run is closed in the tracker."""
    problem: str | None = None
    """Why delivery does not go on; None when it does."""
    view: str | None = None
    """How a person looks at the run: a URL, or a command to type; None if the logger did not say."""
    offline: bool = False
    """Whether it was delivered to an offline logger: to files on this machine, not to the tracker."""
    disabled: bool = False
    """Whether it was delivered to a disabled logger: nowhere."""
    place: str = ""
    """The run's directory, all links followed; a copy of the run elsewhere may not have been delivered."""
    pid: int = 0
    host: str = ""
    updated: float = 0.0
    """Unix time in seconds."""


def load_position(run_dir: Path, key: str) -> Position:
    """Return the position of the logger ``key``; the beginning if it cannot be read, and so nothing is known."""
    try:
        return read_position(run_dir, key)
    except OSError:
        return Position()


def read_position(run_dir: Path, key: str) -> Position:
    """Return the position of the logger ``key``; the beginning if nothing was delivered yet.

    One that came here with a run which this user did not start does not count: it tells of the sender's deliveries.

    Raises:
        OSError: it cannot be read, and to begin again would deliver everything twice.
    """
    return _read(run_dir, key) or Position()


def _read(run_dir: Path, key: str) -> Position | None:
    try:
        position = msgspec.json.decode(read_own(_path(run_dir, key)), type=Position)
    except (FileNotFoundError, NotAFileError, msgspec.MsgspecError, ValueError):
        return None
    return position if position.place == _place(run_dir) or _is_sealed(run_dir) else None


def _place(run_dir: Path) -> str:
    return os.fsencode(os.path.realpath(run_dir)).decode(errors="backslashreplace")


def _is_sealed(run_dir: Path) -> bool:
    try:
        start = read_start(run_dir / JOURNAL)
    except (FileNotFoundError, NotAFileError):  # there is no journal
        return False
    return start is not None and start.is_sealed()


def save_position(run_dir: Path, key: str, position: Position) -> None:
    """Replace the file at once, so that a reader, or a crash, never meets a half-written one."""
    position.updated = time.time()
    position.place = _place(run_dir)
    write_file(_path(run_dir, key), msgspec.json.encode(position))


def positions(run_dir: Path) -> dict[str, Position]:
    """Return the positions of all loggers that a courier has served."""
    keys = sorted(path.name.removesuffix(POSITION) for path in run_dir.glob("*" + POSITION))
    found = {}
    for key in keys:
        try:
            found[key] = _read(run_dir, key)
        except OSError:
            found[key] = Position()
    return {key: position for key, position in found.items() if position is not None}


def reject_list(run_dir: Path, key: str) -> Path:
    """Return the path of the list of events that could not be delivered to the logger ``key``, whatever was tried."""
    return run_dir / (key + REJECTED)


def courier_lock(run_dir: Path, key: str) -> Path:
    """Return the path of the file that is locked while a courier serves the logger ``key``.

    Raises:
        NotAFileError: something else is there.
    """
    return check_own(run_dir / (key + COURIER_LOCK))


def is_served(run_dir: Path, key: str) -> bool:
    """Return whether a courier delivers this run to this logger now; nothing is written for that."""
    try:
        descriptor = open_descriptor(run_dir / (key + COURIER_LOCK), os.O_RDONLY)
    except (OSError, NotAFileError, ValueError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def served_keys(run_dir: Path) -> list[str]:
    """Return the loggers that couriers deliver this run to now."""
    keys = (path.name.removesuffix(COURIER_LOCK) for path in run_dir.glob("*" + COURIER_LOCK))
    return sorted(key for key in keys if is_served(run_dir, key))


def describe_rejected(run_dir: Path, key: str, count: int) -> str:
    """Return a sentence about the events in the reject list."""
    events, stand = ("event", "stands") if count == 1 else ("events", "stand")
    return f"{count:,} {events} could not be delivered to {key} and {stand} in {reject_list(run_dir, key)}"


def set_aside(run_dir: Path, key: str) -> None:
    """Rename the position, so that the next courier begins at the beginning."""
    path = _path(run_dir, key)
    with suppress(FileNotFoundError):
        os.replace(path, path.with_suffix(EARLIER_POSITION))


def wake(run_dir: Path, key: str) -> None:
    """Ask the courier of a logger to try again now, if it waits before its next try."""
    _touch(run_dir / (key + WAKE))


def wake_time(run_dir: Path, key: str) -> float:
    """Return when somebody last asked for that, in Unix time; 0 if nobody did."""
    return _touched(run_dir / (key + WAKE))


def ask_to_stop(run_dir: Path, key: str) -> None:
    """Ask the courier of a logger to end after what it is sending."""
    _touch(run_dir / (key + STOP))


def stop_time(run_dir: Path, key: str) -> float:
    """Return when somebody last asked for that, in Unix time; 0 if nobody did."""
    return _touched(run_dir / (key + STOP))


def _touch(path: Path) -> None:
    with suppress(OSError), open_own(path, "ab") as file:
        os.utime(file.fileno())


def _touched(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _path(run_dir: Path, key: str) -> Path:
    return run_dir / (key + POSITION)

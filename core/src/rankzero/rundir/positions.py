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
    """What the tracker has acknowledged, and the state of the courier."""

    offset: int = 0
    """The number of delivered bytes of the journal."""
    line: int = 0
    """The number of delivered lines of the journal."""
    rejected: int = 0
    """The number of events in the reject list."""
    status: str | None = None
    """The delivered final status of the run; None while the run continues."""
    closed: bool = False
    """Whether the run is closed in the tracker."""
    problem: str | None = None
    """Why delivery fails now; None if it does not."""
    view: str | None = None
    """How to view the run: a URL or a shell command; None if unknown."""
    offline: bool = False
    """Whether the logger was offline: it wrote files on this machine, and sent nothing to the tracker."""
    disabled: bool = False
    """Whether the logger was disabled, and wrote nothing."""
    place: str = ""
    """The resolved path of the run's directory; this position does not apply to a copy of the run elsewhere."""
    pid: int = 0
    host: str = ""
    updated: float = 0.0
    """Unix time in seconds."""


_decode_position = msgspec.json.Decoder(Position).decode


def load_position(run_dir: Path, key: str) -> Position:
    """Return the position of the logger ``key``; the beginning if there is none or it cannot be read."""
    try:
        return read_position(run_dir, key)
    except OSError:
        return Position()


def read_position(run_dir: Path, key: str) -> Position:
    """Return the position of the logger ``key``; the beginning if nothing was delivered yet.

    A position that was copied here with another user's run is ignored, because it describes that user's deliveries.

    Raises:
        OSError: it cannot be read; starting from the beginning would deliver everything twice.
    """
    return _read(run_dir, key) or Position()


def _read(run_dir: str | os.PathLike[str], key: str) -> Position | None:
    try:
        position = _decode_position(read_own(f"{run_dir}/{key}{POSITION}"))
    except (FileNotFoundError, NotAFileError, msgspec.MsgspecError, ValueError):
        return None
    is_here = position.place == os.fspath(run_dir) or position.place == _resolved_path(run_dir)
    return position if is_here or _is_sealed(run_dir) else None


def _resolved_path(run_dir: str | os.PathLike[str]) -> str:
    return os.fsencode(os.path.realpath(run_dir)).decode(errors="backslashreplace")


def _is_sealed(run_dir: str | os.PathLike[str]) -> bool:
    try:
        start = read_start(Path(run_dir, JOURNAL))
    except (FileNotFoundError, NotAFileError):  # there is no journal
        return False
    return start is not None and start.is_sealed()


def save_position(run_dir: Path, key: str, position: Position) -> None:
    """Save a position atomically, so that neither a reader nor a crash finds a half-written file."""
    position.updated = time.time()
    position.place = _resolved_path(run_dir)
    write_file(_path(run_dir, key), msgspec.json.encode(position))


def positions(run_dir: str | os.PathLike[str]) -> dict[str, Position]:
    """Return the positions of all loggers that a courier has served."""
    keys = sorted(name.removesuffix(POSITION) for name in os.listdir(run_dir) if name.endswith(POSITION))
    found = {}
    for key in keys:
        try:
            found[key] = _read(run_dir, key)
        except OSError:
            found[key] = Position()
    return {key: position for key, position in found.items() if position is not None}


def reject_list(run_dir: Path, key: str) -> Path:
    """Return the path of the reject list of the logger ``key``."""
    return run_dir / (key + REJECTED)


def courier_lock(run_dir: Path, key: str) -> Path:
    """Return the path of the file that a courier locks while it serves the logger ``key``.

    Raises:
        NotAFileError: the path is not a regular file.
    """
    return check_own(run_dir / (key + COURIER_LOCK))


def is_served(run_dir: Path, key: str) -> bool:
    """Return whether a courier delivers this run to this logger now; writes nothing."""
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
    """Return the keys of the loggers to which couriers deliver this run now."""
    keys = (path.name.removesuffix(COURIER_LOCK) for path in run_dir.glob("*" + COURIER_LOCK))
    return sorted(key for key in keys if is_served(run_dir, key))


def describe_rejected(run_dir: Path, key: str, count: int) -> str:
    """Return a sentence that describes the events in the reject list."""
    events, stand = ("event", "stands") if count == 1 else ("events", "stand")
    return f"{count:,} {events} could not be delivered to {key} and {stand} in {reject_list(run_dir, key)}"


def set_aside(run_dir: Path, key: str) -> None:
    """Rename the position file, so that the next courier starts from the beginning."""
    path = _path(run_dir, key)
    with suppress(FileNotFoundError):
        os.replace(path, path.with_suffix(EARLIER_POSITION))


def wake(run_dir: Path, key: str) -> None:
    """Ask the courier of a logger to retry now, if it is waiting before a retry."""
    _touch(run_dir / (key + WAKE))


def wake_time(run_dir: Path, key: str) -> float:
    """Return the Unix time of the last `wake`; 0 if there was none."""
    return _touched(run_dir / (key + WAKE))


def ask_to_stop(run_dir: Path, key: str) -> None:
    """Ask the courier of a logger to stop after the batch that it is sending."""
    _touch(run_dir / (key + STOP))


def stop_time(run_dir: Path, key: str) -> float:
    """Return the Unix time of the last `ask_to_stop`; 0 if there was none."""
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

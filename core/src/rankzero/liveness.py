"""Whether the process that writes a run's journal is alive: a lock that the kernel releases when it dies.

A POSIX record lock belongs to one process: a forked DataLoader worker that outlives the trainer does not hold
it (an ``flock`` would be inherited), and NFS shows it to other machines. Its one trap is that closing *any*
descriptor of the file releases it; so the lock has a file of its own, which this module alone opens.
"""

from __future__ import annotations

import enum
import fcntl
import logging
import os
import platform
import time
from pathlib import Path

import msgspec

from rankzero.errors import RunInUseError

log = logging.getLogger("rankzero.journal")

LOCK = "writer.lock"
_PATIENCE = 1.0  # seconds; a courier that asks holds the lock for an instant

_held: set[Path] = set()


class Owner(msgspec.Struct):
    """Who holds, or last held, the lock."""

    host: str
    boot: str
    """Identifies one run of one kernel, whatever name a container gives its host."""
    pid: int


class Writer(enum.Enum):
    """What can be said of the process that writes a journal."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """The lock is free, but it was taken on another machine, and locks may not be shared between the two."""


class WriterLock:
    """Held by the process that owns a run, from `start()` to `finish()`."""

    def __init__(self, run_dir: Path) -> None:
        """Take the lock.

        Raises:
            RunInUseError: a living process holds it.
        """
        self._path = (run_dir / LOCK).resolve()
        if self._path in _held:
            raise RunInUseError(f"the run in {run_dir} is open in this process already; finish() it first")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock_exclusively(self._fd)
        except BlockingIOError:
            owner = _read_owner(self._path, self._fd)
            os.close(self._fd)
            who = f"process {owner.pid} on {owner.host}" if owner else "another process"
            raise RunInUseError(
                f"the run in {run_dir} is being written by {who}; wait for it to end, or give another run_id"
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s); a crash is noticed only after a while", self._path, error.strerror)
        _held.add(self._path)
        os.ftruncate(self._fd, 0)
        os.write(self._fd, msgspec.json.encode(_this_process()))

    def release(self) -> None:
        """Let go of the lock; only the process that took it may call this."""
        _held.discard(self._path)
        os.close(self._fd)


def _lock_exclusively(fd: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                raise BlockingIOError from None
            time.sleep(0.01)


def writer_state(run_dir: Path) -> Writer:
    """Return whether the process that writes the journal in ``run_dir`` is alive."""
    path = (run_dir / LOCK).resolve()
    if path in _held:
        return Writer.ALIVE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Writer.DEAD
    except OSError:
        return Writer.UNKNOWN
    try:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return Writer.ALIVE
    except OSError:
        return Writer.UNKNOWN
    else:
        owner = _read_owner(path, fd)
        return Writer.DEAD if owner is not None and owner.boot == _this_process().boot else Writer.UNKNOWN
    finally:
        os.close(fd)


def _read_owner(path: Path, fd: int) -> Owner | None:
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=Owner)
    except msgspec.MsgspecError:
        return None


def _this_process() -> Owner:
    return Owner(platform.node(), _boot_id(), os.getpid())


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return platform.node()

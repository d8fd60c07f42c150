"""The writer's lock: shows whether the training process of a run is alive.

The lock is a POSIX record lock. It belongs to one process: a forked DataLoader worker that outlives the training
process does not hold it (it would inherit an ``flock``), and other machines see it over NFS. Closing *any* descriptor
of the file releases it; so the lock has its own file, which only this module opens.
"""

from __future__ import annotations

import enum
import fcntl
import logging
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from rankzero.errors import RunInUseError
from rankzero.files.writing import lock_permissions, open_descriptor
from rankzero.processes import ProcessId, boot_id, is_running, this_process
from rankzero.rundir.layout import WRITER_LOCK
from rankzero.waiting import wait_until

log = logging.getLogger("rankzero.journal")

_TIMEOUT = 1.0  # seconds; a courier that asks holds the lock for an instant

# The kernel's struct flock, in which the range is all zeros: the whole file.
_FLOCK, _TYPE, _PID = (struct.Struct("qqihh"), 3, 2) if sys.platform == "darwin" else (struct.Struct("hhqqi"), 0, 4)

_held: set[tuple[int, Path]] = set()
"""Run directory → the lock's file and the process that took it: a forked child must ask the kernel."""


class Writer(enum.Enum):
    """The state of the process that writes a journal."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """The lock is free, but it was taken on another machine, with which this one may not share locks."""


class WriterLock:
    """The lock that the process that owns a run holds from `start()` to `finish()`."""

    def __init__(self, run_dir: Path) -> None:
        """Take the lock.

        Raises:
            RunInUseError: another living process holds it.
        """
        self._path = run_dir.resolve() / WRITER_LOCK
        if (os.getpid(), self._path) in _held:
            raise RunInUseError(f"the run in {run_dir} is open in this process already; finish() it first")
        self._fd = open_descriptor(self._path, os.O_RDWR | os.O_CREAT, lock_permissions())
        try:
            self._take(run_dir)
        except BaseException:
            os.close(self._fd)
            raise
        _held.add((os.getpid(), self._path))

    def _take(self, run_dir: Path) -> None:
        try:
            _lock_exclusively(self._fd)
            is_taken = False
        except BlockingIOError:
            is_taken = True
        except OSError as error:
            is_taken = False
            log.warning("%s cannot be locked (%s); a crash is detected only after a while", self._path, error.strerror)
        owner = _read_owner(self._fd)
        if is_taken or (owner is not None and owner.pid != os.getpid() and is_running(owner)):
            who = f"process {owner.pid} on {owner.host}" if owner else "another process"
            raise RunInUseError(
                f"the run in {run_dir} is being written by {who}; wait for it to end, or give another run_id"
            )
        me = msgspec.json.encode(this_process())
        os.pwrite(self._fd, me, 0)
        os.ftruncate(self._fd, len(me))

    def release(self) -> None:
        """Release the lock; only the process that took it may call this."""
        _held.discard((os.getpid(), self._path))
        with suppress(OSError):
            os.ftruncate(self._fd, 0)  # this process continues, but it is no longer the owner
        os.close(self._fd)


def _lock_exclusively(fd: int) -> None:
    def lock() -> bool:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    if not wait_until(lock, _TIMEOUT, every=0.01):
        raise BlockingIOError


def writer_state(run_dir: Path) -> Writer:
    """Return whether the process that writes the journal in ``run_dir`` is alive."""
    path = run_dir.resolve() / WRITER_LOCK
    if (os.getpid(), path) in _held:
        return Writer.ALIVE  # opening and closing the file would release the lock
    try:
        fd = open_descriptor(path, os.O_RDWR)
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
        if not os.fstat(fd).st_size:
            return Writer.DEAD  # released
        owner = _read_owner(fd)
        if owner is None or owner.boot != boot_id():
            return Writer.UNKNOWN
        return Writer.ALIVE if is_running(owner) else Writer.DEAD
    finally:
        os.close(fd)


def writer_pid(run_dir: Path) -> int | None:
    """Return the id of the process on this machine that holds the lock of a run; None if there is none.

    The id comes from the kernel. The owner in the lock's file is ignored: another user may have written the file.
    """
    path = run_dir.resolve() / WRITER_LOCK
    if (os.getpid(), path) in _held:
        return os.getpid()
    try:
        fd = open_descriptor(path, os.O_RDWR)
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(*(fcntl.F_WRLCK if at == _TYPE else 0 for at in range(5))))
    except OSError:
        return None
    finally:
        os.close(fd)
    fields = _FLOCK.unpack(answer)
    is_locked, pid = fields[_TYPE] != fcntl.F_UNLCK, int(fields[_PID])
    return pid if is_locked and pid > 1 else None  # the kernel returns a negative id for another machine


def _read_owner(fd: int) -> ProcessId | None:
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=ProcessId)
    except msgspec.MsgspecError:
        return None

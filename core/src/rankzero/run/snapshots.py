"""Snapshots of checkpoints, which no rotation can delete before they are uploaded."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.files.writing import copy_file
from rankzero.messages import describe, did_you_mean
from rankzero.run import snapshot_files
from rankzero.values import as_utf8, safe_isinstance

log = logging.getLogger("rankzero")

DIRECTORY = "checkpoints"

_MOST_COPIES = 8  # that wait: their files are open, and take room on the disk though they may be deleted


def snapshot(source: Path, run_dir: Path) -> str:
    """Copy ``source``, a file or a directory, under another name into ``run_dir``; return that path, relative.

    Raises:
        OSError: ``source`` cannot be read or the run's directory cannot be written.
    """
    import shutil

    kept = place(source)
    target = run_dir / kept
    with _made(target.parent):
        for each, copied in snapshot_files.files_of(source, target):
            try:
                copy_file(each, copied)
                shutil.copymode(each, copied)
            except FileNotFoundError:
                if each == source:
                    raise
                log.warning("%s is not kept: it was deleted before it could be copied", each)
    return kept


def place(source: Path) -> str:
    """Return a new path for a snapshot of ``source``, relative to the run's directory."""
    return Path(DIRECTORY, uuid.uuid4().hex[:8], as_utf8(source.absolute().name) or "files").as_posix()


def why_lost(path: Any, error: Exception) -> str:
    """Return a sentence that says why a checkpoint could not be kept, and what to do."""
    if safe_isinstance(path, Mapping) or hasattr(path, "state_dict"):
        state = "state" if safe_isinstance(path, Mapping) else "model.state_dict()"
        return (
            f"log_checkpoint() takes the path of a file, not a {type(path).__name__}. Save it first: "
            f"torch.save({state}, 'model.pt'); run.log_checkpoint('model.pt')"
        )
    if not isinstance(error, FileNotFoundError) or os.path.exists(path):
        return describe(error)
    absolute, here = os.path.abspath(path), os.getcwd()
    directory, name = os.path.split(absolute)
    try:
        near = did_you_mean(name, os.listdir(directory))
    except OSError:
        near = f" There is no directory {directory} either."
    return f"there is no file or directory {absolute} (the working directory is {here}).{near}"


class Snapshots:
    """Keeps files that may be deleted or replaced at once, without taking longer for larger ones.

    That is by hard links. Where there can be none, as on another file system, the files are opened, which a deletion
    does not end, and a thread copies them, one checkpoint after the other. The thread is a daemon: who ends the
    process has to `wait`.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._waiting: deque[_Snapshot] = deque()  # the first is being copied
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def take(self, source: Path, target: Path, then: Callable[[], None], *, may_change: bool = False) -> None:
        """Keep ``source`` at ``target``; call ``then`` once it is there, in the order of these calls.

        Args:
            source: a file or a directory.
            target: where nothing is.
            then: called in a thread if one has something to copy.
            may_change: ``source`` may be written again in place, which would change what is linked to it too.

        Raises:
            OSError: ``source`` cannot be read or ``target`` cannot be written, or too many copies wait already.
        """
        self._leave_to_parent()
        with _made(target.parent):
            files = snapshot_files.files_of(source, target)
            opened: list[snapshot_files.OpenFile] = []
            if may_change or not snapshot_files.link(files):
                self._check_room()
                opened = snapshot_files.open_all(files)
            if opened or self._waiting:
                self._put(_Snapshot(source, target, opened, then))
            else:
                then()

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is being copied; return whether that was so in ``timeout`` seconds."""
        self._leave_to_parent()
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def waiting(self) -> list[str]:
        """Return the paths of what is not kept yet."""
        self._leave_to_parent()
        with self._changed:
            return [str(snapshot.source) for snapshot in self._waiting]

    def _leave_to_parent(self) -> None:
        # A forked child has none of its parent's threads, and one of them may have held the lock.
        if self._pid != os.getpid():
            self._reset()

    def _check_room(self) -> None:
        with self._changed:
            copies = sum(bool(snapshot.opened) for snapshot in self._waiting)
        if copies >= _MOST_COPIES:
            raise OSError(f"{copies} checkpoints before it are still being copied, which is slower than they are saved")

    def _put(self, snapshot: _Snapshot) -> None:
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="rankzero-checkpoint", daemon=True)
                thread.start()
                self._thread = thread
            self._waiting.append(snapshot)

    def _run(self) -> None:
        while (snapshot := self._first()) is not None:
            snapshot.complete()
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()

    def _first(self) -> _Snapshot | None:
        """Return what is to be copied now; None, and forget the thread, if that is nothing."""
        with self._changed:
            if self._waiting:
                return self._waiting[0]
            self._thread = None
            return None


class _Snapshot(NamedTuple):
    source: Path
    target: Path
    opened: list[snapshot_files.OpenFile]
    """What is to be copied; nothing if it is linked."""
    then: Callable[[], None]

    def complete(self) -> None:
        try:
            if snapshot_files.copy(self.opened):
                self.then()
                return
        except Exception as error:
            log.warning("the checkpoint %s could not be kept in the run's directory: %s", self.source, error)
        _remove(self.target.parent)


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Make ``directory``, and remove it with all in it if it cannot be filled."""
    directory.mkdir(parents=True)
    try:
        yield
    except BaseException:
        _remove(directory)
        raise


def _remove(directory: Path) -> None:
    import shutil

    shutil.rmtree(directory, ignore_errors=True)

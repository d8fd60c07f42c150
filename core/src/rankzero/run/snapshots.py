"""Snapshots of logged files and checkpoints, which the script may then overwrite or delete."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.files.writing import open_regular
from rankzero.media.store import MediaStore
from rankzero.messages import describe, did_you_mean
from rankzero.run import snapshot_files
from rankzero.rundir.layout import CHECKPOINTS
from rankzero.values import as_utf8, safe_isinstance

log = logging.getLogger("rankzero")

_MOST_COPIES = 8  # waiting copies; their files are open, and use disk space even after they are deleted
_SMALL = 16 << 20  # bytes, copied in about 10 ms

Record = Callable[[str], None]
"""Called with the path of a copy, relative to the run's directory."""


def why_lost(path: Any, error: Exception) -> str:
    """Return a sentence that explains why a checkpoint could not be copied, and what to do."""
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
    """Copies files as they are now into a run's directory, without making the caller wait for large files.

    A file that is never overwritten in place is hard-linked. A file that may be overwritten, such as one that
    `torch.save` writes to the same path in each epoch, or a log, is copied, because a link would change with it. A
    small file is copied at once. A larger file is opened, so that it may be deleted or replaced meanwhile, and a thread
    copies it; if the script overwrites it before that, a warning is logged. The thread is a daemon: call `wait` before
    the process ends.

    Args:
        media: the store for single files that are not checkpoints.
    """

    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._waiting: deque[_Snapshot] = deque()  # the first is being copied
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def take(
        self, source: Path, then: Record, *, may_change: bool = True, at_once: bool = False, even_if_full: bool = True
    ) -> None:
        """Copy ``source`` to a new path.

        Args:
            source: a file or a directory.
            then: called with the path, relative to the run's directory, when the copy is complete, in the order of the
                calls of this method; in the thread if that is copying.
            may_change: whether ``source`` may be overwritten in place.
            at_once: do not use the thread, because the caller will not `wait` for it.
            even_if_full: if too many copies are waiting, copy before this returns instead of raising an error.

        Raises:
            OSError: ``source`` cannot be read, the run's directory cannot be written, or too many copies are waiting.
        """
        self._leave_to_parent()
        kept = Path(CHECKPOINTS, uuid.uuid4().hex[:8], as_utf8(source.absolute().name) or "files").as_posix()
        target = self._media.directory / kept
        with _made(target.parent):
            files = snapshot_files.files_of(source, target)
            opened: list[snapshot_files.OpenFile] = []
            if may_change or not snapshot_files.link(files):
                if at_once or snapshot_files.size(files) <= _SMALL or (even_if_full and self._is_full()):
                    snapshot_files.copy_now(files)
                else:
                    self._check_room()
                    opened = snapshot_files.open_all(files)

            def copy() -> str:
                with _filled(target.parent):
                    snapshot_files.copy(opened)
                return kept

            self._put(_Snapshot(source, copy if opened else None, then, kept), at_once)

    def store(self, source: Path, then: Record, *, at_once: bool = False) -> None:
        """Copy a single file into the media store; the arguments are those of `take`.

        A log may grow while it is copied: the copy has its content at the time of the call.

        Raises:
            OSError: as in `take`.
        """
        self._leave_to_parent()
        with ExitStack() as stack:
            file = stack.enter_context(open_regular(source))
            before = snapshot_files.state(file)
            size = before[1]
            if at_once or size <= _SMALL or self._is_full():
                kept = self._media.put_open(file, source.name).path
                self._put(_Snapshot(source, None, then, kept), at_once)
                return

            def copy() -> str:
                with file:
                    kept = self._media.put_open(file, source.name, size=size).path
                    if snapshot_files.state(file) != before:
                        log.warning(
                            "%s was written while it was copied: appended data is not in the copy, and if the script "
                            "changed other data, the copy may contain a mixture of both",
                            source,
                        )
                return kept

            self._put(_Snapshot(source, copy, then), at_once)
            stack.pop_all()

    def wait(self, timeout: float) -> bool:
        """Wait until all copies are complete; return whether they are within ``timeout`` seconds."""
        self._leave_to_parent()
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def waiting(self) -> list[str]:
        """Return the paths of the files that are not copied yet."""
        self._leave_to_parent()
        with self._changed:
            return [str(snapshot.source) for snapshot in self._waiting]

    def _is_full(self) -> bool:
        with self._changed:
            return sum(snapshot.copy is not None for snapshot in self._waiting) >= _MOST_COPIES

    def _leave_to_parent(self) -> None:
        # A forked child has no threads of its parent, and one of them may have held the lock.
        if self._pid != os.getpid():
            self._reset()

    def _check_room(self) -> None:
        if self._is_full():
            raise OSError(f"{_MOST_COPIES} files before it are still being copied, which is slower than they are saved")

    def _put(self, snapshot: _Snapshot, at_once: bool) -> None:
        with self._changed:
            if not at_once and (snapshot.copy is not None or self._waiting):
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="rankzero-snapshots", daemon=True)
                    thread.start()
                    self._thread = thread
                self._waiting.append(snapshot)
                return
        snapshot.then(snapshot.kept)

    def _run(self) -> None:
        while (snapshot := self._first()) is not None:
            try:
                snapshot.then(snapshot.copy() if snapshot.copy is not None else snapshot.kept)
            except Exception as error:
                log.error("%s could not be kept in the run's directory: %s", snapshot.source, error)
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()

    def _first(self) -> _Snapshot | None:
        """Return the next copy; if there is none, end the thread and return None."""
        with self._changed:
            if self._waiting:
                return self._waiting[0]
            self._thread = None
            return None


class _Snapshot(NamedTuple):
    source: Path
    copy: Callable[[], str] | None
    """Copies ``source`` and returns the path of the copy; None if it is copied already."""
    then: Record
    kept: str = ""


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Make ``directory``, and remove it with its content if an exception is raised."""
    directory.mkdir(parents=True)
    with _filled(directory):
        yield


@contextmanager
def _filled(directory: Path) -> Iterator[None]:
    import shutil

    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise

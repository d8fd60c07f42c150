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

_MOST_COPIES = 8  # that wait: their files are open, and take room on the disk though they may be deleted
_SMALL = 16 << 20  # bytes, copied in about 10 ms

Record = Callable[[str], None]
"""Takes the path where a file is kept, relative to the run's directory."""


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
    """Keeps files as they are now in a run's directory; the caller waits neither for large ones nor for many.

    A file that nobody writes into again is hard-linked. One that may be written in place, such as what `torch.save`
    writes to the same path in each epoch, or a log, is copied, for a link would change with it. A small one is copied
    at once. A larger one is opened, which a deletion does not end, and a thread copies it, one after the other. It may
    be deleted or replaced meanwhile; if the script writes into it before the copy is made, that is said. The thread is
    a daemon: who ends the process has to `wait`.

    Args:
        media: where single files that are no checkpoints are kept, each content once.
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
        """Keep ``source`` under a path of its own.

        Args:
            source: a file or a directory.
            then: called with the path, relative to the run's directory, once all is there, in the order of the calls;
                in a thread if one has something to copy.
            may_change: ``source`` may be written again in place.
            at_once: let no thread copy: nobody is going to `wait` for it.
            even_if_full: if too many copies wait already, copy it before this returns, instead of an error.

        Raises:
            OSError: ``source`` cannot be read, the run's directory cannot be written, or too many copies wait already.
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
        """Keep a single file among the media; the arguments are those of `take`.

        A log may grow while it is copied: what it was at the call is kept, and what is appended is not.

        Raises:
            OSError: as `take`.
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
                            "%s was written while it was copied: what was appended is not kept, and if anything else "
                            "was changed, what is kept may be neither of both",
                            source,
                        )
                return kept

            self._put(_Snapshot(source, copy, then), at_once)
            stack.pop_all()

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

    def _is_full(self) -> bool:
        with self._changed:
            return sum(snapshot.copy is not None for snapshot in self._waiting) >= _MOST_COPIES

    def _leave_to_parent(self) -> None:
        # A forked child has none of its parent's threads, and one of them may have held the lock.
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
        """Return what is to be copied now; None, and forget the thread, if that is nothing."""
        with self._changed:
            if self._waiting:
                return self._waiting[0]
            self._thread = None
            return None


class _Snapshot(NamedTuple):
    source: Path
    copy: Callable[[], str] | None
    """Copies ``source`` and returns where it is kept; None if that is done."""
    then: Record
    kept: str = ""


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Make ``directory``, and remove it with all in it if it cannot be filled."""
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

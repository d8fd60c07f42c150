"""Snapshots of checkpoints, which no rotation can delete before they are uploaded."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from rankzero.events import Checkpoint
from rankzero.journal import JOURNAL, Tail
from rankzero.position import load_position

log = logging.getLogger("rankzero")

DIRECTORY = "checkpoints"

_CHECKPOINT = b'{"type":"checkpoint"'
_CHUNK = 1 << 20
_MOST_THREADS = 4


def snapshot(source: Path, run_dir: Path) -> str:
    """Copy ``source``, a file or a directory, under another name into ``run_dir``; return that path, relative.

    Raises:
        OSError: ``source`` cannot be read or the run's directory cannot be written.
    """
    import shutil

    kept = place(source)
    target = run_dir / kept
    target.parent.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
    return kept


def place(source: Path) -> str:
    """Return a new path for a snapshot of ``source``, relative to the run's directory."""
    return Path(DIRECTORY, uuid.uuid4().hex[:8], source.name).as_posix()


class Snapshots:
    """Keeps files that may be deleted or replaced at once, without taking longer for larger ones.

    That is by hard links. Where there can be none, as on another file system, the files are opened, which a deletion
    does not end, and a thread copies them.
    """

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def take(self, source: Path, target: Path, then: Callable[[], None], *, may_change: bool = False) -> None:
        """Keep ``source`` at ``target``; call ``then`` once it is there, in the order of these calls.

        Args:
            source: a file or a directory.
            target: where nothing is.
            then: called in a thread if one has something to copy.
            may_change: ``source`` may be written again in place, which would change what is linked to it too.

        Raises:
            OSError: ``source`` cannot be read or ``target`` cannot be written.
        """
        target.parent.mkdir(parents=True)
        files = _files_of(source, target)
        if may_change or not _link(files):
            opened = _open(files)
            self._in_thread(lambda: _copy(opened), then)
        elif self._go_on():
            self._in_thread(lambda: True, then)
        else:
            then()

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is being copied; return whether that was so in ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not self._go_on()

    def _in_thread(self, keep: Callable[[], bool], then: Callable[[], None]) -> None:
        if len(self._go_on()) >= _MOST_THREADS:  # what was deleted meanwhile takes room until it is copied
            self._threads[0].join()
        before = self._threads[-1] if self._threads else None

        def work() -> None:
            try:
                is_kept = keep()
                if before is not None:
                    before.join()
                if is_kept:
                    then()
            except Exception as error:
                log.warning("a checkpoint could not be kept in the run's directory: %s", error)

        # Not a daemon: the end of the process waits for it.
        thread = threading.Thread(target=work, name="rankzero-checkpoint")
        self._threads.append(thread)
        thread.start()

    def _go_on(self) -> list[threading.Thread]:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._threads


def _files_of(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return what files ``source`` consists of, and where each is to be kept; make the directories for it."""
    if not source.is_dir():
        return [(source, target)]
    found = []
    for directory, _, names in os.walk(source, followlinks=True):
        there = target / os.path.relpath(directory, source)
        there.mkdir(parents=True)
        found += [(Path(directory, name), there / name) for name in names]
    return found


def _link(files: list[tuple[Path, Path]]) -> bool:
    try:
        for each, kept in files:
            os.link(os.path.realpath(each), kept)  # a link to a symbolic link would lead nowhere
    except OSError:  # another file system, or one without hard links
        for _, kept in files:
            kept.unlink(missing_ok=True)
        return False
    return True


def _open(files: list[tuple[Path, Path]]) -> list[_Opened]:
    opened = [(open(each, "rb"), kept) for each, kept in files]  # noqa: SIM115
    return [_Opened(file, kept, _state(file)) for file, kept in opened]


def _copy(files: list[_Opened]) -> bool:
    import shutil

    with ExitStack() as stack:
        for file, _, _ in files:
            stack.enter_context(file)
        for file, kept, state in files:
            with open(kept, "wb") as copy:
                shutil.copyfileobj(file, copy, _CHUNK)
            if _state(file) != state:
                kept.unlink()
                log.warning("%s was written again before it was copied: its older form is lost", file.name)
                return False
    return True


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_mtime_ns, found.st_size


class _Opened(NamedTuple):
    file: BinaryIO
    kept: Path
    state: tuple[int, int]
    """As it was when it was saved."""


class SnapshotSweeper:
    """Deletes snapshots that every logger of the run has got and whose source the script has deleted or overwritten.

    Without this a run that keeps its three best checkpoints would fill the disk with all of them. The newest
    holder of each alias (``latest``, ``best``) stays, so that the run can be delivered again.
    """

    def __init__(self, run_dir: Path, keys: Iterable[str]) -> None:
        self._run_dir = run_dir
        self._keys = list(keys)
        self._delivered: dict[int, Checkpoint] = {}
        self._last = -1  # of the lines that were noted
        self._holders: dict[str, int] = {}
        self._newest: dict[str, int] = {}  # of each source

    def catch_up(self, lines: int) -> None:
        """Note the checkpoints among the first ``lines`` lines of the journal, which were delivered earlier."""
        tail = Tail(self._run_dir / JOURNAL)
        with closing(tail):
            while tail.line < lines and (read := tail.read()):
                for line in read:
                    if line.number < lines and line.data.startswith(_CHECKPOINT):
                        event = line.decode()
                        if isinstance(event, Checkpoint):
                            self.note(line.number, event)

    def delivered(self, line: int, checkpoint: Checkpoint) -> None:
        """Note that the checkpoint in this line of the journal is delivered, and sweep."""
        self.note(line, checkpoint)
        self.sweep()

    def note(self, line: int, checkpoint: Checkpoint) -> None:
        """Note that the checkpoint in this line of the journal was handed over, for `left`."""
        if line <= self._last:
            return
        self._last = line
        self._delivered[line] = checkpoint
        self._holders.update(dict.fromkeys(checkpoint.aliases, line))
        self._newest[checkpoint.source] = line

    def left(self) -> Iterator[tuple[int, Checkpoint]]:
        """Yield (line, checkpoint) of what a ModelCheckpoint has left, with the aliases that it has now.

        That is those that it did not delete or overwrite, and those that are the latest and the best.
        """
        for line, checkpoint in sorted(self._delivered.items()):
            held = [alias for alias in checkpoint.aliases if self._holders[alias] == line]
            is_there = self._newest[checkpoint.source] == line and os.path.exists(checkpoint.source)
            if checkpoint.automatic and (held or is_there):
                yield line, msgspec.structs.replace(checkpoint, aliases=held)

    def sweep(self) -> None:
        """Delete what can go."""
        import shutil

        everyone_is_past = min((load_position(self._run_dir, key).line for key in self._keys), default=0)
        for line, checkpoint in list(self._delivered.items()):
            if line in self._holders.values():
                continue
            source = checkpoint.source
            is_gone = source and (self._newest[source] > line or not os.path.exists(source))
            if line < everyone_is_past and is_gone:
                shutil.rmtree((self._run_dir / checkpoint.path).parent, ignore_errors=True)
                del self._delivered[line]

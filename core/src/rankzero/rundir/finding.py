"""Find runs below a directory, and read their state without reading the whole journal."""

from __future__ import annotations

import functools
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import RankzeroError, RunError, RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Start
from rankzero.journal.opening import has_journal, open_journal
from rankzero.journal.tail import Line, read_start
from rankzero.messages import did_you_mean, reason
from rankzero.rundir.layout import COMPRESSED, JOURNAL, JOURNALS
from rankzero.rundir.positions import Position, is_served, positions
from rankzero.rundir.writer_lock import Writer, writer_state

_TAIL = 1 << 16
_LAST_LINES = 10  # at least
_CHUNK = 1 << 20
_MOST_CANDIDATES = 5


@dataclass(frozen=True)
class Delivered:
    """The state of the delivery of a run to one logger."""

    run_dir: str | os.PathLike[str]
    position: Position
    bytes_behind: int
    """The bytes of the journal that are not delivered yet."""
    is_retried: bool = False
    """Whether a courier failed to deliver them and retries."""
    lines: int | None = None
    """The number of lines of the journal, if it is known."""

    @functools.cached_property
    def behind(self) -> int:
        """The number of events that are not delivered yet, also of superseded ones; counted when it is asked for."""
        if not self.bytes_behind:
            return 0
        if self.lines is not None:
            return max(0, self.lines - self.position.line)
        return _count_events(Path(self.run_dir), self.position.offset)

    @property
    def status(self) -> str:
        """``delivered``, ``behind``, ``retrying`` (after a failure), ``failed``, ``offline`` or ``disabled``."""
        if self.position.disabled:
            return "disabled"
        if self.position.problem:
            return "retrying" if self.is_retried else "failed"
        if self.behind:
            return "behind"
        return "offline" if self.position.offline else "delivered"

    def as_json(self) -> dict[str, Any]:
        """Return the state for the JSON of commands and pages."""
        position = self.position
        return {
            "status": self.status,
            "events": position.line,
            "behind": self.behind,
            "rejected": position.rejected,
            "problem": reason(position.problem) if position.problem else None,
            "view": position.view,
        }

    @property
    def is_complete(self) -> bool:
        """Whether the tracker has everything, and the run in the tracker is closed."""
        return self.bytes_behind <= 0 and self.position.closed and not self.position.offline


def make_runs_directory(directory: Path) -> None:
    """Make the directory for runs unless it exists, with a file that makes git ignore it.

    Raises:
        OSError: the directory cannot be made.
    """
    if directory.is_dir():
        return
    directory.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        (directory / ".gitignore").write_text("*\n", encoding="utf-8")


def find_runs(directory: Path) -> list[Path]:
    """Return the directories of all runs in or below ``directory``, in the order of their paths."""
    return [Path(path) for path in run_paths(directory)]


def run_paths(directory: Path) -> list[str]:
    """Return the same as `find_runs`, as texts: with many runs, the time for `Path` objects counts."""
    found, unseen = [], [os.fspath(directory)]
    while unseen:
        path = unseen.pop()
        if _is_run(path):
            found.append(path)  # a run contains no other run
            continue
        with suppress(OSError), os.scandir(path) as entries:
            unseen += sorted([each.path for each in entries if each.is_dir(follow_symlinks=False)], reverse=True)
    return found


def _is_run(directory: str) -> bool:
    """Return whether a directory has a journal, which may be one that cannot be read."""
    for name in (JOURNAL, JOURNAL + COMPRESSED):
        with suppress(OSError):
            return not stat.S_ISDIR(os.lstat(f"{directory}/{name}").st_mode)
    return False


def find_run(wanted: str | None, directory: Path) -> Path:
    """Return the directory of one run.

    Args:
        wanted: the run's path, id or name; the beginning of its id or name, or the end of its id. An ellipsis
            replaces a part, as in the output of ``rankzero ls``. None means the newest run.
        directory: where to search for an id or name.

    Raises:
        RunNotFoundError: there is no such run, or more than one.
    """
    if wanted is None:
        return _newest_run(directory)
    path = Path(wanted)
    if path.name in JOURNALS and path.is_file():
        path = path.parent
    if has_journal(path):
        return path
    runs = find_runs(directory)
    if path.is_dir() and wanted not in (info.name for info in _infos(runs).values()):
        raise RunNotFoundError(f"there is no run in {wanted}: it holds no {JOURNAL}. Find runs with: rankzero ls")
    return choose_run(wanted, runs, f"in {directory}", "rankzero ls")


def choose_run(wanted: str, runs: list[Path], where: str, command: str) -> Path:
    """Return the only one of several runs whose id or name matches.

    Args:
        wanted: as in `find_run`.
        runs: the directories to choose from.
        where: where the runs are, for the error message.
        command: the command that lists them, for the error message.

    Raises:
        RunNotFoundError: there is no such run, or more than one.
    """
    by_id = [run for run in runs if run.name == wanted]
    if len(by_id) == 1:
        return by_id[0]
    known = _infos(runs)
    matching = by_id or _matching(wanted, known)
    if not matching:
        hint = did_you_mean(wanted, [text for info in known.values() for text in (info.name, info.id)])
        raise RunNotFoundError(
            f"there is no run {wanted!r} {where}.{hint} Runs are found by path, id and name; list runs with: {command}"
        )
    if len(matching) > 1:
        raise RunNotFoundError(_describe_choice(wanted, matching, known))
    return matching[0]


def name_of(run_id: str, directory: Path) -> str:
    """Return the name of the run with an id; the id, if there is no such run in or below ``directory``."""
    infos = _infos([run for run in find_runs(directory) if run.name == run_id])
    return next((info.name for info in infos.values()), run_id)


def _newest_run(directory: Path) -> Path:
    known = _infos(find_runs(directory))
    if not known:
        raise RunNotFoundError(f"there are no runs in {directory}; give the path of a run")
    return max(known, key=lambda run: known[run].started)


def _infos(runs: list[Path]) -> dict[Path, RunInfo]:
    """Return the id, name, … of runs by directory, without the runs that cannot be read."""
    infos = {}
    for run in runs:
        with suppress(RankzeroError, OSError):
            if start := read_start(run / JOURNAL):
                infos[run] = msgspec.structs.replace(start.run, started=start.run.started or start.time)
    return infos


def _matching(wanted: str, known: Mapping[Path, RunInfo]) -> list[Path]:
    """Return the runs whose id or name is ``wanted``; if there are none, those of which it is a part."""
    whole = [run for run, info in known.items() if wanted in (info.id, info.name)]
    if whole:
        return whole
    head, ellipsis, tail = _split_at_ellipsis(wanted)

    def is_meant(text: str, *, is_id: bool) -> bool:
        if ellipsis and (head or is_id):  # rankzero ls always prints the beginning of a name
            return text.startswith(head) and text[len(head) :].endswith(tail)
        return text.startswith(wanted) or (is_id and text.endswith(wanted))

    return [
        run
        for run, info in known.items()
        if is_meant(run.name, is_id=True) or is_meant(info.id, is_id=True) or is_meant(info.name, is_id=False)
    ]


def _split_at_ellipsis(text: str) -> tuple[str, str, str]:
    return text.partition("…") if "…" in text else text.partition("...")


def _describe_choice(wanted: str, matching: list[Path], known: Mapping[Path, RunInfo]) -> str:
    has_ids = len({run.name for run in matching}) == len(matching)
    newest = sorted(matching, key=lambda run: known[run].started if run in known else 0.0)[-_MOST_CANDIDATES:]
    named = [_distinguished(run, known[run]) if has_ids and run in known else str(run) for run in newest]
    older = len(matching) - len(named)
    more = f" and {older} older {'one' if older == 1 else 'ones'}" if older else ""
    what = "id" if has_ids else "path"
    return f"{len(matching)} runs match {wanted!r}: {', '.join(named)}{more}. Give the {what} of one of them."


def _distinguished(run_dir: Path, info: RunInfo) -> str:
    parts = [run_dir.name]
    with suppress(RunError, OSError, OverflowError, ValueError):
        parts += [run_status(run_dir), time.strftime("%Y-%m-%d %H:%M", time.localtime(info.started))]
    return f"{info.name} ({', '.join(parts)})"


def run_status(run_dir: Path) -> str:
    """Return the same as `RunData.status`, from the last lines of the journal.

    Raises:
        RunNotFoundError: the run has no journal, or its journal has no readable event.
    """
    journal = run_dir / JOURNAL
    if read_start(journal) is None:
        raise RunNotFoundError(f"{journal} holds no run: it has no start event that can be read")
    return _status_at_end(journal) or status_without_end(run_dir)


def delivered(
    run_dir: str | os.PathLike[str], keys: list[str], size: int | None = None, lines: int | None = None
) -> dict[str, Delivered]:
    """Return the delivery state of the loggers ``keys`` and of all others that a courier has served.

    Args:
        run_dir: the run's directory.
        keys: the keys of loggers.
        size: the `complete_size` of the journal, if it is known.
        lines: the number of its lines, if it is known.
    """
    if size is None:
        size = complete_size(Path(run_dir))
    known = positions(run_dir)
    found = {key: known.get(key, Position()) for key in keys} | known
    return {
        key: Delivered(
            run_dir,
            position,
            max(0, size - position.offset),
            is_retried=bool(position.problem) and is_served(Path(run_dir), key),
            lines=lines,
        )
        for key, position in found.items()
    }


def status_without_end(run_dir: Path) -> str:
    """Return the status of a run in whose journal no finish event was read.

    Because the run may have ended since, the end of the journal is read again before it is said to have crashed.
    """
    state = writer_state(run_dir)
    if state is Writer.ALIVE:
        return "running"
    return _status_at_end(run_dir / JOURNAL) or ("crashed" if state is Writer.DEAD else "unknown")


def complete_size(run_dir: Path) -> int:
    """Return the length of the journal without an incomplete last line."""
    with open_journal(run_dir / JOURNAL) as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _TAIL)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _count_events(run_dir: Path, offset: int) -> int:
    """Return how many events a journal has from an offset on."""
    count = 0
    with open_journal(run_dir / JOURNAL) as file:
        file.seek(min(max(0, offset), file.seek(0, os.SEEK_END)))  # the offset may be invalid
        while chunk := file.read(_CHUNK):
            count += chunk.count(b"\n")
    return count


def disk_usage(directory: Path) -> int:
    """Return the bytes of the files in a directory; links are not followed."""
    size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # it may just have been deleted
                size += os.lstat(os.path.join(parent, name)).st_size
    return size


def _status_at_end(journal: Path) -> str | None:
    """Return the status of the finish event among the last lines of a journal; None if the run did not end there."""
    lines = _last_lines(journal)
    candidates = (Line(0, 0, line).decode() for line in lines if b'"finish"' in line or b'"start"' in line)
    ends = [event for event in candidates if isinstance(event, Finish | Start)]
    return ends[-1].status if ends and isinstance(ends[-1], Finish) else None


def _last_lines(journal: Path) -> list[bytes]:
    """Return the last lines of a journal, as many as are in a few kilobytes; more, if they are long."""
    span = _TAIL
    with open_journal(journal) as file:
        size = file.seek(0, os.SEEK_END)
        while True:
            start = max(0, size - span)
            file.seek(start)
            lines = file.read(size - start).split(b"\n")[1 if start else 0 : -1]
            if not start or len(lines) >= _LAST_LINES:
                return lines
            span *= 8

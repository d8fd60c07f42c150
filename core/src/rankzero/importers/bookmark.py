"""Save the position up to which the source of an imported run has been read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from rankzero.files.writing import write_file
from rankzero.journal.opening import stat_journal
from rankzero.rundir.layout import IMPORT, JOURNAL


class Bookmark(msgspec.Struct):
    """Where the next import of a run continues."""

    until: float
    """The time of the last event, Unix time in seconds."""
    position: Any
    """`rankzero.importers.base.FoundRun.position`."""
    options: dict[str, Any] = {}
    """The options of the importer."""
    journal: int = 0
    """The size of the journal, in bytes; when it has another size, the bookmark is invalid."""


def read_bookmark(run_dir: Path) -> Bookmark | None:
    """Return the bookmark of a run; None if it is missing or invalid."""
    try:
        bookmark = msgspec.json.decode((run_dir / IMPORT).read_bytes(), type=Bookmark)
        return bookmark if bookmark.journal == _size(run_dir) else None
    except (OSError, msgspec.MsgspecError):
        return None


def write_bookmark(run_dir: Path, bookmark: Bookmark) -> None:
    """Write a bookmark for the current journal, unless it is already there."""
    bookmark = msgspec.structs.replace(bookmark, journal=_size(run_dir))
    content = msgspec.json.encode(bookmark)
    if (found := read_bookmark(run_dir)) is None or msgspec.json.encode(found) != content:
        write_file(run_dir / IMPORT, content)


def _size(run_dir: Path) -> int:
    return stat_journal(run_dir / JOURNAL).st_size

"""Find the files of a source, and identify a run by its path and content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rankzero.errors import RunNotFoundError
from rankzero.importers.base import FoundRun, SkippedSource
from rankzero.importers.searching import find_files

_DIRECTORIES = 3  # enough to tell runs apart, and few enough that a directory of runs can be moved


def find_all(
    sources: Sequence[str], is_wanted: Callable[[Path], bool], expected: str
) -> tuple[dict[Path, bool], list[FoundRun]]:
    """Return path → whether the user named the file itself, and those that cannot be read.

    Raises:
        RunNotFoundError: a source does not exist, or has none of the ``expected`` files.
    """
    found: dict[Path, bool] = {}
    skipped: list[FoundRun] = []

    def skip(path: Path, error: OSError) -> None:
        skipped.append(SkippedSource(path, error))

    for source in sources:
        paths = list(find_files(source, is_wanted, skip))
        if not paths and not skipped:
            raise RunNotFoundError(f"{source} has no {expected}")
        for path in paths:
            found.setdefault(path.resolve(), path == Path(source))
    return found, skipped


def identity_of(path: Path, first: Any) -> str:
    """Return the identity of a run: the names of its file and of the directories around it, and its ``first`` data."""
    return "/".join([*path.parts[-1 - _DIRECTORIES :], digest_of(first)])


def digest_of(value: Any) -> str:
    """Return a digest of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]

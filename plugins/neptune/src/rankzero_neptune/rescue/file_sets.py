"""The files that the patterns of ``upload_files`` stand for now."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def files_of_set(patterns: Iterable[str]) -> dict[str, Path]:
    """Return name in the set → file, ordered by name; a directory stands for all files in it.

    Names begin where the paths of the files part.
    """
    found = sorted({os.path.abspath(path) for pattern in patterns for path in _matching(pattern)})
    if not found:
        return {}
    root = os.path.commonpath([os.path.dirname(path) for path in found])
    return {os.path.relpath(path, root): Path(path) for path in found}


def _matching(pattern: str) -> Iterator[str]:
    for path in glob.iglob(pattern, recursive=True):
        if os.path.isdir(path):
            for directory, _, names in os.walk(path):
                yield from (os.path.join(directory, name) for name in names)
        else:
            yield path

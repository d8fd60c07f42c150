"""Validate the data of a journal that another user may have written: ids, names, paths and depths.

A run's directory may come from another user. Its ids and names become file names, and the files that it names are
uploaded to trackers. So no path may lead out of the directory: a line with such a path counts as damaged, and an event
whose file is a link to elsewhere is rejected.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rankzero.errors import NotAFileError, UnsafePathError
from rankzero.files.writing import inside

LATEST = 253402300800.0
"""The Unix time at the end of the year 9999, the latest that `datetime` supports."""

_LONGEST = 255  # bytes of a name in a directory
_LONGEST_KEY = 200  # suffixes such as .position.json are added
_DEEPEST = 200  # levels of lists and mappings; a recursive traversal needs a few frames for each
_CONTAINERS = (dict, list, tuple)
_UNFIT = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_OURS = re.compile(r"checkpoints/[0-9a-f]{1,32}/[^/\x00]+")


def is_name(text: str, longest: int = _LONGEST) -> bool:
    """Return whether a text can name a file or directory: it is not a path, and has no control characters."""
    size = len(text.encode("utf-8", "replace"))
    return text not in ("", ".", "..") and size <= longest and not _UNFIT.search(text)


def check_run(run_id: str, project: str) -> None:
    """Check that an id and a project can name directories; a project may contain ``/``.

    Raises:
        UnsafePathError: one of them cannot.
    """
    if not is_name(run_id):
        raise UnsafePathError(f"the run's id {_shown(run_id)} cannot name a directory")
    if project and not all(map(is_name, project.split("/"))):
        raise UnsafePathError(f"the project {_shown(project)} cannot name a directory")


def check_loggers(loggers: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the record of loggers in a journal has the form that ``start()`` writes.

    Raises:
        UnsafePathError: a key cannot name a file.
        ValueError: an option or a plugin's name has a wrong type.
    """
    for key, recorded in loggers.items():
        check_key(key)
        plugin, options, left_out = (recorded.get(each) for each in ("plugin", "options", "left_out"))
        is_named = isinstance(plugin if "plugin" in recorded else recorded.get("class", ""), str)
        has_options = isinstance(options, dict) or "options" not in recorded
        has_names = isinstance(left_out, list) and all(isinstance(each, str) for each in left_out)
        if not (is_named and has_options and (has_names or "left_out" not in recorded)):
            raise ValueError(f"the logger {_shown(key)} has a plugin or options of a wrong type")


def check_key(key: str) -> str:
    """Return the key of a logger if it can name files in a run's directory.

    Raises:
        UnsafePathError: the key cannot.
    """
    if not is_name(key, _LONGEST_KEY):
        raise UnsafePathError(f"the logger's key {_shown(key)} cannot name a file")
    return key


def check_path(path: str) -> None:
    """Check that a path in a journal is relative and stays below the run's directory; does not follow links.

    Raises:
        UnsafePathError: the path leads out of the directory.
    """
    if not path or "\0" in path or os.path.isabs(path) or os.path.normpath(path).split("/")[0] in ("..", "."):
        raise UnsafePathError(f"the path {_shown(path)} leads out of the run's directory")


def check_depth(*values: Any) -> None:
    """Check that values are not nested too deeply for a recursive traversal.

    Raises:
        ValueError: they are.
    """
    level = [each for each in values if isinstance(each, _CONTAINERS)]
    for _ in range(_DEEPEST):
        if not level:
            return
        below = [each.values() if isinstance(each, dict) else each for each in level]
        level = [value for each in below for value in each if isinstance(value, _CONTAINERS)]
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def check_files(run_dir: Path, paths: Iterable[str]) -> None:
    """Check that files named in a journal, also those inside named directories, are in the run's directory.

    Raises:
        UnsafePathError: the resolved path of a file is outside.
        NotAFileError: a file is a pipe or a device, on which reading would block.
    """
    for path in paths:
        found = inside(run_dir, path)
        if found.is_dir():
            root = Path(os.path.realpath(run_dir))
            for parent, folders, names in os.walk(os.path.realpath(found)):
                for name in (*folders, *names):
                    _check_file(inside(root, os.path.relpath(os.path.join(parent, name), root)))
        else:
            _check_file(found)


def _check_file(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError:  # a missing file is reported when it is read
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotAFileError(f"{path} is a pipe or a device, not a file")


def own_snapshot(run_dir: Path, path: str) -> Path | None:
    """Return the directory in ``checkpoints/`` that contains only this snapshot, and may be deleted; None otherwise.

    Args:
        run_dir: the run's directory.
        path: the path of the snapshot in the journal.
    """
    if not _OURS.fullmatch(path) or path.endswith(("/.", "/..")):
        return None
    directory = run_dir / os.path.dirname(path)
    links = (directory, directory.parent)
    return None if any(map(os.path.islink, links)) else directory


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")

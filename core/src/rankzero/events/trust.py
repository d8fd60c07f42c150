"""Validate the data of a journal that another user may have written: ids, names, paths and depths.

A run's directory may have come from somebody else. What it says becomes names of files, and paths of files that are
handed to trackers. So nothing there may lead out of the directory; a line that says otherwise counts as damaged, and
an event whose file turns out to be a link to elsewhere is rejected.
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
"""Unix time in seconds at the end of the year 9999: no calendar has what comes later."""

_LONGEST = 255  # bytes of a name in a directory
_LONGEST_KEY = 200  # a key gets endings such as .position.json
_DEEPEST = 200  # levels of lists and mappings; what walks through them needs a few frames for each
_UNFIT = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_OURS = re.compile(r"checkpoints/[0-9a-f]{1,32}/[^/\x00]+")


def is_name(text: str, longest: int = _LONGEST) -> bool:
    """Return whether a text can name a file or directory: it is no path, and has no control characters."""
    size = len(text.encode("utf-8", "replace"))
    return text not in ("", ".", "..") and size <= longest and not _UNFIT.search(text)


def check_run(run_id: str, project: str) -> None:
    """Raise unless an id and a project can name directories, as ``start()`` makes them; a project may hold ``/``.

    Raises:
        UnsafePathError: they cannot.
    """
    if not is_name(run_id):
        raise UnsafePathError(f"the run's id {_shown(run_id)} cannot name a directory")
    if project and not all(map(is_name, project.split("/"))):
        raise UnsafePathError(f"the project {_shown(project)} cannot name a directory")


def check_loggers(loggers: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise unless what a journal says of its loggers has the form that ``start()`` gives it.

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
        UnsafePathError: it cannot.
    """
    if not is_name(key, _LONGEST_KEY):
        raise UnsafePathError(f"the logger's key {_shown(key)} cannot name a file")
    return key


def check_path(path: str) -> None:
    """Raise unless a path in a journal is relative and stays below the run's directory, links aside.

    Raises:
        UnsafePathError: it does not.
    """
    if not path or "\0" in path or os.path.isabs(path) or os.path.normpath(path).split("/")[0] in ("..", "."):
        raise UnsafePathError(f"the path {_shown(path)} leads out of the run's directory")


def check_depth(*values: Any) -> None:
    """Raise if values are nested too deep to be walked through.

    Raises:
        ValueError: they are.
    """
    level: list[Any] = list(values)
    for _ in range(_DEEPEST):
        containers = [each for each in level if isinstance(each, dict | list | tuple)]
        level = [below for each in containers for below in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def check_files(run_dir: Path, paths: Iterable[str]) -> None:
    """Raise unless files that a journal names, and all files in directories that it names, are in the run's directory.

    Raises:
        UnsafePathError: one is not, links followed.
        NotAFileError: one is a pipe or a device, which would be waited for.
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
    except OSError:  # it is not there: whoever needs it says so
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotAFileError(f"{path} is a pipe or a device, not a file")


def own_snapshot(run_dir: Path, path: str) -> Path | None:
    """Return the directory in ``checkpoints/`` that was made for one snapshot, and may be deleted; None for any other.

    Args:
        run_dir: the run's directory.
        path: the snapshot's, as the journal says.
    """
    if not _OURS.fullmatch(path) or path.endswith(("/.", "/..")):
        return None
    directory = run_dir / os.path.dirname(path)
    links = (directory, directory.parent)
    return None if any(map(os.path.islink, links)) else directory


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")

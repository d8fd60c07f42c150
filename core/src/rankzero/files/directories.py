"""Directories to write to, local or behind an fsspec URL such as ``s3://bucket/logs``.

An object store cannot append to a file. So files are written in a local copy of the directory, and each file that
changed is uploaded as a whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from itertools import count
from pathlib import Path
from typing import Any

from rankzero.errors import ConfigError, PluginNotInstalledError
from rankzero.files.writing import write_file


class LocalPlace:
    """A directory on this machine."""

    is_remote = False

    def __init__(self, directory: str) -> None:
        self.path = Path(directory)
        self.path.mkdir(parents=True, exist_ok=True)

    def pull(self, name: str) -> None:
        """Do nothing: the file is in ``path``."""

    def push(self, name: str) -> None:
        """Do nothing: the file is in ``path``."""

    def close(self) -> None:
        """Do nothing: there is no copy."""


class RemotePlace:
    """A directory behind an fsspec URL; ``path`` is a local directory with copies of its files."""

    is_remote = True

    def __init__(self, url: str) -> None:
        self._fs, self._root = _open(url)
        self.path = Path(tempfile.mkdtemp(prefix="rankzero-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def pull(self, name: str) -> None:
        """Download a file, if it exists, into ``path``."""
        if self._fs.isfile(self._remote(name)):
            self._fs.get_file(self._remote(name), str(self.path / name))

    def push(self, name: str) -> None:
        """Upload a file from ``path``."""
        remote = self._remote(name)
        self._fs.makedirs(remote.rpartition("/")[0], exist_ok=True)
        self._fs.put_file(str(self.path / name), remote)

    def close(self) -> None:
        """Remove the local copy."""
        self._remove()

    def _remote(self, name: str) -> str:
        return f"{self._root}/{name}"


Place = LocalPlace | RemotePlace


def place_at(directory: str) -> Place:
    """Return the directory; make it if necessary."""
    return RemotePlace(directory) if is_url(directory) else LocalPlace(directory)


def is_url(path: str) -> bool:
    """Return whether ``path`` is an fsspec URL."""
    return "://" in path


def check_writable(directory: str | None) -> None:
    """Make a directory of this machine that a user has named; do nothing for None and URLs.

    Raises:
        ConfigError: files cannot be written there.
    """
    if directory is None or is_url(directory):
        return
    try:
        with tempfile.TemporaryFile(dir=LocalPlace(directory).path):
            pass
    except OSError as error:
        raise ConfigError(f"save_dir={directory!r} cannot be written: {error.strerror}") from error


def directories_in(directory: str) -> list[str]:
    """Return the names of the directories in a directory; none if it does not exist."""
    try:
        if is_url(directory):
            fs, root = _open(directory)
            return [os.path.basename(each["name"].rstrip("/")) for each in fs.ls(root) if each["type"] == "directory"]
        return [each.name for each in os.scandir(directory) if each.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def files_in(directory: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the files of this machine in a directory, and in those below it, by their relative paths."""
    paths = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path for path in paths}


def next_version(directory: str) -> int:
    """Return the number after the highest N of ``version_N`` in a directory."""
    numbers = (name.removeprefix("version_") for name in directories_in(directory) if name.startswith("version_"))
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def replace_file(place: Place, name: str, content: bytes) -> None:
    """Write a file atomically, and upload it if the directory is remote."""
    write_file(place.path / name, content)
    place.push(name)


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be continued to the first free of ``name.1.suffix``, ``name.2.suffix`` and so on."""
    names = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))
    kept = next(name for name in names if not name.exists())
    path.rename(kept)
    return kept


def _open(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError(f"{url} needs fsspec: pip install 'rankzero[remote]'") from error
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return fs, root.rstrip("/")

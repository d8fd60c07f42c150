"""Store the files of a run: those in its directory, and those of its artifacts."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rankzero.errors import UnsafePathError
from rankzero.events.trust import check_path
from rankzero.files.writing import inside, open_regular
from rankzero.importers.base import Report
from rankzero.media.store import MediaFile, MediaStore

_CHUNK = 1 << 20


class RunFiles:
    """Stores files of a run.

    Args:
        directory: the directory of W&B's client, with ``files/`` in it.
        store: where files are stored.
        report: records what cannot be stored.
        follow_links: whether links may lead out of ``directory``.
    """

    def __init__(self, directory: Path, store: MediaStore, report: Report, follow_links: bool) -> None:
        self.store = store
        self._directory = directory / "files"
        self._report = report
        self._follow_links = follow_links

    def path(self, name: str) -> Path:
        """Return the path of a file in ``files/``.

        Raises:
            UnsafePathError: it leads out of the directory.
        """
        check_path(name)
        if self._follow_links:
            return self._directory / name
        try:
            return inside(self._directory, name)
        except UnsafePathError:
            target = os.path.realpath(self._directory / name)
            raise UnsafePathError(
                f"it is a link to {target}, outside the run's directory; import such files with -o follow_links=true"
            ) from None

    def put(self, items: Iterable[tuple[str, Any]], what: str) -> list[MediaFile]:
        """Store files of ``files/``, given by (path, caption); report those that cannot be stored as ``what``."""
        stored = []
        for name, caption in items:
            try:
                caption = caption if isinstance(caption, str) and caption else None
                stored.append(self.store.put_file(self.path(name), caption))
            except (OSError, ValueError) as error:
                self.leave_out(what, error)
        return stored

    def json(self, name: str) -> Any:
        """Read a JSON file in ``files/``."""
        return read_json(self.path(name))

    def leave_out(self, what: str, error: Exception) -> None:
        """Report that a file cannot be stored."""
        reason = getattr(error, "strerror", None)
        self._report.leave_out(what, f"{getattr(error, 'filename', None)}: {reason}" if reason else f"{error}")


def read_json(path: Path) -> Any:
    """Read a JSON file, in which NaN and infinity are numbers."""
    with open_regular(path) as file:
        return json.loads(file.read())


def artifact_file(entry: Any) -> Path:
    """Return the path of an artifact's file: where the client staged it, or in the client's cache.

    The log may name any path, so the content of the file is checked.

    Raises:
        FileNotFoundError: no such file has the logged content.
    """
    digest = base64.b64decode(entry.digest)
    for path in _candidates(entry.local_path, digest.hex()):
        try:
            with open_regular(path) as file:
                md5 = hashlib.md5(usedforsecurity=False)
                while chunk := file.read(_CHUNK):
                    md5.update(chunk)
                if md5.digest() == digest:
                    return path
        except (OSError, ValueError):  # ValueError: a path with NUL
            continue
    raise FileNotFoundError("the file was uploaded, or has changed or been deleted since it was logged")


def _candidates(local: str, digest: str) -> Iterator[Path]:
    from wandb.env import get_cache_dir

    if local:
        yield Path(local)
    yield Path(get_cache_dir(), "artifacts", "obj", "md5", digest[:2], digest[2:])

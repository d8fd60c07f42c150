"""Translate the artifacts of a run to events: images and tables that MLflow shows, models, and other files."""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import msgspec

from rankzero.errors import RankzeroError, TrackerUnavailableError
from rankzero.events.structs import Artifact, Event, Image, Table
from rankzero.files.writing import inside, open_regular
from rankzero.importers.base import Report
from rankzero.media.store import MediaFile, MediaStore
from rankzero_mlflow.client import RUN_TAG
from rankzero_mlflow.importing.own_layout import HAS_CONTENT, own_event

_IMAGE = re.compile(r"images/([^/]+)([+%])step\2(-?\d{1,18})\2timestamp\2(\d{1,14})\2[^/]*\.png")
_PREVIEW = re.compile(r"images/[^/]+([+%])compressed\.webp")
_TABLES_TAG = "mlflow.loggedArtifacts"
_OF_ONE = re.compile(r"(?:[0-9a-f]{32}|models/m-[0-9a-f]{32})/artifacts")
_MODEL = "MLmodel"
"""The file that makes a directory a model."""

_LARGEST_TABLE = 64 << 20


class StoredFile(msgspec.Struct, frozen=True):
    """A file in a folder."""

    path: str
    """The path in the folder, with ``/``."""
    size: int | None = None
    modified: float | None = None
    """Unix time in seconds; None if unknown."""


class KnownFile(msgspec.Struct):
    """A file that was imported."""

    size: int | None
    modified: float | None
    stored: str
    """Its path in the run's directory."""


@dataclass
class Folder(ABC):
    """The artifacts of a run, or of a model."""

    name: str = ""
    """The name of the model."""
    model_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @abstractmethod
    def files(self) -> Iterable[StoredFile]:
        """Return the files in the folder and below it."""

    @abstractmethod
    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open one of the files."""


@dataclass
class LocalFolder(Folder):
    """A directory."""

    directory: Path = field(kw_only=True)

    def files(self) -> Iterator[StoredFile]:
        unreadable: list[str] = []
        for top, inner, names in os.walk(self.directory, onerror=lambda error: unreadable.append(error.filename)):
            links = [name for name in inner if os.path.islink(os.path.join(top, name))]
            for path in (os.path.join(top, name) for name in (*names, *links)):
                state = os.stat(path) if os.path.isfile(path) else None
                relative = os.path.relpath(path, self.directory)
                yield StoredFile(relative, state and state.st_size, state and state.st_mtime)
        # Opening them raises the error.
        yield from (StoredFile(os.path.relpath(path, self.directory)) for path in unreadable if os.path.exists(path))

    def open(self, path: str) -> BinaryIO:
        return open_regular(inside(self.directory, path))


def local_folder(
    uri: str, end: str, roots: Sequence[Path], leave_out: Callable[[str, str], None]
) -> LocalFolder | None:
    """Return the directory of artifacts; its path must contain the id of the run or model.

    Args:
        uri: its URI in MLflow.
        end: the required end of the path.
        roots: directories to search if it was moved.
        leave_out: called if the artifacts cannot be read.
    """
    scheme, path = ("", uri) if uri.startswith("/") else (urlsplit(uri).scheme, unquote(urlsplit(uri).path))
    if not path.endswith(f"/{end}") or not _OF_ONE.fullmatch(end):
        leave_out("artifacts", f"{uri} is not a directory of this run")
        return None
    inner = Path(*Path(path).parts[-1 - len(Path(end).parts) :])  # EXPERIMENT/RUN/artifacts
    experiments = [root / inner.parts[0] for root in roots]
    own = [Path(path)] if scheme in ("", "file") and path.startswith("/") else []
    for place in (*own, *(root / inner for root in roots)):
        if place.is_dir() and os.path.realpath(place).endswith(f"/{end}"):
            return LocalFolder(directory=place)
    if scheme not in ("", "file"):
        leave_out("artifacts", f"they are in {uri}: import from the address of the server instead of its database")
    elif not any(each.is_dir() for each in (*(place.parents[len(inner.parts) - 1] for place in own), *experiments)):
        leave_out("artifacts", f"there is no directory {path}; if it was moved, say where: -o artifacts=DIR")
    return None


class Artifacts:
    """Yields events for files that are not ``known``, and adds the files to ``known``.

    Args:
        files: stores the files.
        report: for unreadable files.
        known: the files that were imported.
        tags: the tags of the run.
        versions: the versions of registered models.
        start: the start of the run, Unix time in seconds; 0 if unknown.
        end: the end of the run, Unix time in seconds; 0 if unknown.
    """

    def __init__(
        self,
        files: MediaStore,
        report: Report,
        known: Mapping[str, KnownFile],
        tags: Mapping[str, str],
        versions: Iterable[Mapping[str, Any]],
        start: float,
        end: float,
    ) -> None:
        self.known = dict(known)
        self._files = files
        self._report = report
        self._is_own = RUN_TAG in tags
        self._tables = set() if self._is_own else _tables(tags)
        self._versions = list(versions)
        self._start = start
        self._end = end

    def events(self, folder: Folder) -> Iterator[Event]:
        """Yield the events of a folder."""
        found = sorted(folder.files(), key=lambda file: file.path.split("/"))
        models = {os.path.dirname(file.path) for file in found if os.path.basename(file.path) == _MODEL}
        if folder.name:
            models = {""}
        for model, group in groupby(found, lambda file: _parent_in(models, file.path)):
            if model is None:
                for file in group:
                    yield from self._file(folder, file)
            else:
                yield from self._model(folder, model, list(group))

    def _model(self, folder: Folder, path: str, found: list[StoredFile]) -> Iterator[Event]:
        before = {name: each.stored for name, each in self.known.items()}
        stored = {os.path.relpath(file.path, path): self._put(folder, file) for file in found}
        kept = {name: file for name, file in stored.items() if file is not None}
        if not kept or all(
            before.get(_name(folder, f"{path}/{name}".lstrip("/"))) == file.path for name, file in kept.items()
        ):
            return
        source = folder.model_id or path
        versions = [each for each in self._versions if str(each["source"]).endswith(f"/{source}")]
        metadata = dict(folder.metadata)
        if versions:
            metadata["versions"] = [{"name": each["name"], "version": each["version"]} for each in versions]
        aliases = list(dict.fromkeys(alias for each in versions for alias in each["aliases"]))
        name = _name(folder, path)
        yield Artifact(self._time(found), self._files.put_directory(kept), name, "model", aliases, metadata)

    def _time(self, found: Iterable[StoredFile]) -> float:
        """Return the time of the files, limited to that of the run, because copies are newer."""
        times = (file.modified for file in found if file.modified is not None)
        time = max(self._start, max(times, default=self._end))
        return min(time, self._end or time)

    def _stored(self, name: str) -> str | None:
        return self.known[name].stored if name in self.known else None

    def _file(self, folder: Folder, file: StoredFile) -> Iterator[Event]:
        if _PREVIEW.fullmatch(file.path):  # of an image
            return
        before = self._stored(file.path)
        stored = self._put(folder, file)
        if stored is None or stored.path == before:
            return
        time = self._time([file])
        if image := _IMAGE.fullmatch(file.path):
            key = re.sub("[~#]", "/", image[1])
            yield Image(int(image[4]) / 1000, key, [stored], int(image[3]))
        elif not stored.name:
            yield Table(time, file.path.removesuffix(".json"), stored)
        else:
            yield self._own_event(folder, file, stored, time) or Artifact(time, stored.path, file.path)

    def _own_event(self, folder: Folder, file: StoredFile, stored: MediaFile, time: float) -> Event | None:
        """Return the event for which rankzero's plugin wrote the file; None for other files."""
        if not self._is_own:
            return None
        content = b""
        if HAS_CONTENT.fullmatch(file.path):
            with folder.open(file.path) as source:
                content = source.read(_LARGEST_TABLE)
        return own_event(file.path, stored, content, time, self._files)

    def _put(self, folder: Folder, file: StoredFile) -> MediaFile | None:
        """Store a file, unless it is known; return None if it cannot be read. A table has no name."""
        name = _name(folder, file.path)
        known = self.known.get(name)
        if known is not None and (known.size, known.modified) == (file.size, file.modified):
            return MediaFile(known.stored, os.path.basename(file.path))
        with ExitStack() as stack:
            try:
                content = stack.enter_context(folder.open(file.path))
            except TrackerUnavailableError:
                raise  # the next import retries
            except (OSError, ValueError, RankzeroError) as error:
                self._report.leave_out(name, str(getattr(error, "strerror", None) or error))
                return None
            is_table = name in self._tables and (file.size or 0) <= _LARGEST_TABLE
            stored = (self._put_table if is_table else self._files.put_open)(content, os.path.basename(file.path))
        self.known[name] = KnownFile(file.size, file.modified, stored.path)
        self._report.progress(file.size or 0)
        return stored

    def _put_table(self, content: BinaryIO, name: str) -> MediaFile:
        """Store a table from MLflow's JSON, or the unchanged file if it is not a table."""
        data = content.read()
        try:
            table = json.loads(data)
            return self._files.table([str(each) for each in table["columns"]], table["data"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return self._files.put_bytes((data, ".json"), name)


def _name(folder: Folder, path: str) -> str:
    return "/".join(part for part in (folder.name, path) if part not in ("", "."))


def _parent_in(directories: set[str], path: str) -> str | None:
    """Return the outermost of ``directories`` that contains the file."""
    parts = path.split("/")
    return next((top for end in range(len(parts)) if (top := "/".join(parts[:end])) in directories), None)


def _tables(tags: Mapping[str, str]) -> set[str]:
    try:
        listed = json.loads(tags.get(_TABLES_TAG, "[]"))
        return {str(each["path"]) for each in listed if each["type"] == "table" and each["path"].endswith(".json")}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()

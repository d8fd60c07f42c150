"""`TensorBoardImporter`: find runs in directories with event files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata as hparams_metadata

from rankzero.errors import ConfigError, RunError, RunNotFoundError
from rankzero.files.writing import open_regular
from rankzero.importers.base import FoundRun, Importer, SkippedSource
from rankzero.importers.searching import find_files
from rankzero_tensorboard.importing.records import read_blocks
from rankzero_tensorboard.importing.run import EventFile, EventRun

_WRITER = re.compile(r"tfevents\.\d+\.(.+?\.\d+(?=\.\d)|.+)")
"""Finds the host and process in the name of an event file; tensorboardX writes only the host."""
_FIRST_RECORDS = 4  # the version, and the three records of add_hparams


class TensorBoardImporter(Importer):
    """Imports runs from event files; each directory that has some is a run.

    Args:
        join: what `SummaryWriter.add_scalars` and ``add_hparams`` write into subdirectories belongs to the run of the
            directory above. Otherwise each subdirectory is a run of its own, as TensorBoard shows it.
    """

    summary: ClassVar[str] = "TensorBoard's event files, of any writer"

    def __init__(self, join: bool = True) -> None:
        if not isinstance(join, bool):
            raise ConfigError(f"join is true or false, not {join!r}")
        self._join = join

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        directories: dict[Path, _Directory] = {}
        skipped: dict[Path, FoundRun] = {}
        for source in sources:
            found = False
            top = Path(source)
            root = top if top.is_dir() else top.parent
            for path in find_files(source, _is_event_file, lambda path, error: _skip(skipped, path, error)):
                found = True
                relative = path.parent.relative_to(root).as_posix()
                name = root.resolve().name if relative == "." else relative
                real = path.parent.resolve()
                try:
                    directories.setdefault(real, _Directory(real, name)).add(path.name)
                except OSError as error:
                    _skip(skipped, path, error)
            if not found and not skipped:
                raise RunNotFoundError(
                    f"{source} has no event files. Name a directory that TensorBoard shows, or an event file: it has "
                    "'tfevents' in its name"
                )
        return [*_runs(directories, self._join), *skipped.values()]


class _Directory:
    """A directory with event files.

    Args:
        path: its path, without links.
        name: the name of its run.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self._first_records: dict[str, list[Event]] = {}
        self.joined: list[EventFile] = []
        """Files of subdirectories that belong to the run."""

    def add(self, name: str) -> None:
        """Add an event file."""
        if name not in self._first_records:
            self._first_records[name] = _first_records(self.path / name)

    def files(self, top: Path | None = None, series: str = "") -> list[EventFile]:
        """Return the files, the oldest first; ``top`` is the directory of the run."""
        found = [
            EventFile(
                self.path / name,
                (self.path / name).relative_to(top or self.path).as_posix(),
                records[0].wall_time if records else 0.0,
                any(record.WhichOneof("what") not in ("file_version", "source_metadata", None) for record in records),
                series,
            )
            for name, records in self._first_records.items()
        ]
        return sorted(found + self.joined, key=lambda file: (file.began, file.key))

    @property
    def has_data(self) -> bool:
        """Whether something was logged."""
        return any(file.has_data for file in self.files())

    @property
    def first_tag(self) -> str:
        """The tag of the first value."""
        return next((value.tag for value in self._first_values()), "")

    @property
    def hparams(self) -> Mapping[str, Any] | None:
        """The hyperparameters, if the first values are those that ``add_hparams`` writes."""
        for value in self._first_values():
            if value.tag == hparams_metadata.SESSION_START_INFO_TAG:
                content = value.metadata.plugin_data.content
                return dict(hparams_metadata.parse_session_start_info_plugin_data(content).hparams)
        return None

    def _first_values(self) -> Iterator[Summary.Value]:
        for records in self._first_records.values():
            for record in records:
                yield from record.summary.value

    def has_writer_of(self, other: _Directory) -> bool:
        """Return whether a process wrote files here and in the other directory."""
        writers = (match[1] for name in other._first_records if (match := _WRITER.search(name)))
        return any(f".{writer}." in f"{name}." for writer in writers for name in self._first_records)


def _runs(directories: Mapping[Path, _Directory], join: bool) -> Iterator[FoundRun]:
    """Yield the runs in directories."""
    own = set(directories)
    trials: dict[Path, list[_Directory]] = {}
    for path, directory in sorted(directories.items()) if join else ():
        above = next((up for up in path.parents if up in own and directories[up].has_writer_of(directory)), None)
        if above is None:
            continue
        if series := _series_of(path.relative_to(above).as_posix(), directory.first_tag):
            own.remove(path)
            directories[above].joined += directory.files(above, series)
        elif path.parent == above and directory.hparams is not None and directories[above].has_data:
            trials.setdefault(above, []).append(directory)
    for above, found in trials.items():
        first = min(found, key=lambda trial: trial.files()[0])
        for trial in found:
            if trial.hparams == first.hparams:
                own.remove(trial.path)
                directories[above].joined += trial.files(above)
    identities: set[str] = set()
    for path in sorted(own):
        run = EventRun(directories[path].name, str(path), directories[path].files())
        if run.identity in identities:  # a copy of another directory, perhaps continued
            run.identity += f" in {directories[path].name}"
        identities.add(run.identity)
        yield run


def _series_of(relative: str, tag: str) -> str:
    """Return the name of the series to which `SummaryWriter.add_scalars` gave a directory, "" if it is none.

    Args:
        relative: the path of the directory, relative to that of the writer.
        tag: the first tag in the directory.
    """
    prefixes = [tag.replace("/", "_") + "_", tag + "/"]  # of torch and tensorboardX
    return next((relative.removeprefix(each) for each in prefixes if tag and relative.startswith(each)), "")


def _is_event_file(path: Path) -> bool:
    return "tfevents" in path.name and not path.name.endswith(".profile-empty")


def _skip(skipped: dict[Path, FoundRun], path: Path, error: OSError) -> None:
    skipped[path] = SkippedSource(path, RunError(f"it cannot be read: {error.strerror or error}"))


def _first_records(path: Path) -> list[Event]:
    """Return the first few records that are undamaged."""
    with open_regular(path) as file:
        block = next(read_blocks(file, 0, lambda why: None), None)
    try:
        return [Event.FromString(content) for content in islice(block.contents() if block else (), _FIRST_RECORDS)]
    except DecodeError:
        return []

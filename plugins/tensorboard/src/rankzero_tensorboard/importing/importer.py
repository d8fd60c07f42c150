"""`TensorBoardImporter`: find runs in directories with event files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tensorboard.plugins.hparams import metadata

from rankzero.errors import RunNotFoundError
from rankzero.importers.base import FoundRun, Importer, SkippedSource
from rankzero.importers.searching import find_files
from rankzero_tensorboard.importing.run import EventFile, EventRun, first_records

_WRITER = re.compile(r"tfevents\.\d+\.(.+?\.\d+(?=\.\d)|.+)")
"""Finds the host and process in the name of an event file; tensorboardX writes only the host."""


class TensorBoardImporter(Importer):
    """Imports a run from each directory with event files.

    Args:
        join: add the subdirectories that `SummaryWriter.add_scalars` and ``add_hparams`` create to the run of the
            parent directory. Otherwise each subdirectory is a separate run, as in TensorBoard.
    """

    summary: ClassVar[str] = "TensorBoard's event files, of any writer"

    def __init__(self, join: bool = True) -> None:
        self._join = join

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        names: dict[Path, str] = {}
        found: dict[Path, dict[Path, EventFile]] = {}
        unreadable: dict[Path, OSError] = {}
        for source in sources:
            paths = list(find_files(source, _is_event_file, unreadable.__setitem__))
            if not paths and not unreadable:
                raise RunNotFoundError(
                    f"{source} has no event files. Name a directory that TensorBoard shows, or a file with 'tfevents' "
                    "in its name"
                )
            root = Path(source) if Path(source).is_dir() else Path(source).parent
            for path in paths:
                directory = path.parent.resolve()
                name = path.parent.relative_to(root).as_posix()
                names.setdefault(directory, directory.name if name == "." else name)
                try:
                    real = directory / path.name
                    found.setdefault(directory, {})[real] = EventFile(real, directory, first_records(real))
                except OSError as error:
                    unreadable[path] = error
        runs = {directory: list(files.values()) for directory, files in sorted(found.items())}
        if self._join:
            _join(runs)
        return [
            *_runs(runs, names),
            *(SkippedSource.unreadable(*each) for each in unreadable.items()),
        ]


def _is_event_file(path: Path) -> bool:
    return "tfevents" in path.name and not path.name.endswith(".profile-empty")


def _runs(runs: Mapping[Path, list[EventFile]], names: Mapping[Path, str]) -> Iterator[FoundRun]:
    identities: set[str] = set()
    for directory, files in runs.items():
        run = EventRun(names[directory], str(directory), files)
        if run.identity in identities:  # a copy of another directory, perhaps continued
            run.identity += f" in {names[directory]}"
        identities.add(run.identity)
        yield run


def _join(runs: dict[Path, list[EventFile]]) -> None:
    """Add the files of subdirectories that `SummaryWriter` created to the run of the parent directory."""
    trials: dict[Path, list[Path]] = {}
    for path, files in list(runs.items()):
        above = next((each for each in path.parents if each in runs and _have_one_writer(runs[each], files)), None)
        if above is None:
            continue
        if series := _series_of(path.relative_to(above).as_posix(), files):
            runs[above] += [file._replace(top=above, series=series) for file in runs.pop(path)]
        elif path.parent == above and _hparams(files) is not None and any(file.has_data for file in runs[above]):
            trials.setdefault(above, []).append(path)
    for above, paths in trials.items():
        hparams = _hparams(runs[min(paths, key=lambda path: runs[path][0].began)])
        for path in paths:
            if _hparams(runs[path]) == hparams:  # otherwise it is a separate trial
                runs[above] += [file._replace(top=above) for file in runs.pop(path)]


def _have_one_writer(above: Iterable[EventFile], below: Iterable[EventFile]) -> bool:
    """Return whether the same process wrote files in both."""
    writers = [match[1] for file in below if (match := _WRITER.search(file.path.name))]
    return any(f".{writer}." in f"{file.path.name}." for writer in writers for file in above)


def _series_of(relative: str, files: Iterable[EventFile]) -> str:
    """Return the name of the series for which ``add_scalars`` created a directory; "" for other directories.

    Args:
        relative: the path of the directory, relative to that of the writer.
        files: the files in it.
    """
    tag = next((value.tag for value in _first_values(files)), "")
    prefixes = [tag.replace("/", "_") + "_", tag + "/"]  # of torch and tensorboardX
    return next((relative.removeprefix(each) for each in prefixes if tag and relative.startswith(each)), "")


def _hparams(files: Iterable[EventFile]) -> Mapping[str, Any] | None:
    """Return the hyperparameters if ``add_hparams`` wrote the first values, otherwise None."""
    for value in _first_values(files):
        if value.tag == metadata.SESSION_START_INFO_TAG:
            return dict(metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content).hparams)
    return None


def _first_values(files: Iterable[EventFile]) -> Iterator[Any]:
    return (value for file in files for record in file.first_records for value in record.summary.value)

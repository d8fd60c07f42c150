"""`Tables`: the base class of file formats for the tables of metrics and runs, and `Dataset`, a directory of them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

import msgspec

from rankzero.errors import RunError
from rankzero.files.writing import make_directory, read_own, replacing, write_file
from rankzero.reader.exporting.base import SCHEMA, ExportedRun, Exporter, RunKey, RunReader

_CONTENTS = ".rankzero-export.json"
_NOT_IN_FOLDERS = re.compile(r"[\x00-\x1f\"#%'*/:=?\\\x7f{}\[\]^]")


class Tables(ABC):
    """Writes the tables in one file format."""

    suffix: ClassVar[str]

    @abstractmethod
    def write_points(self, run: RunReader, file: BinaryIO) -> None:
        """Write the metrics of a run as a table."""

    @abstractmethod
    def write_runs(self, runs: Sequence[ExportedRun], file: BinaryIO) -> None:
        """Write the table of runs."""


class _Contents(msgspec.Struct):
    """What a directory that was exported to contains."""

    format: str
    schema: int
    runs: list[ExportedRun]


class Folder(Exporter):
    """Writes a file for each run; a hidden file beside them says what they contain."""

    format: str
    """The name of the format."""

    def open(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        try:
            contents = msgspec.json.decode(read_own(self.output / _CONTENTS), type=_Contents)
        except (OSError, msgspec.MsgspecError):
            return  # all runs are exported
        if contents.format != self.format:
            raise RunError(f"{self.output} has runs in the format {contents.format}: choose another directory")
        if contents.schema == SCHEMA:
            self.runs = {run.key: run for run in contents.runs if self.has(run)}

    def write(self, run: RunReader) -> None:
        path = self.path_of(run.key)
        make_directory(self.output, path.parent.relative_to(self.output))
        with replacing(path) as file:
            exported = self.write_run(run, file)
        self.runs[run.key] = exported

    def close(self) -> None:
        contents = _Contents(self.format, SCHEMA, list(self.runs.values()))
        write_file(self.output / _CONTENTS, msgspec.json.encode(contents))

    def has(self, run: ExportedRun) -> bool:
        """Return whether what was written of a run is still there."""
        return self.path_of(run.key).is_file()

    @abstractmethod
    def path_of(self, key: RunKey) -> Path:
        """Return the path of a run's file."""

    @abstractmethod
    def write_run(self, run: RunReader, file: BinaryIO) -> ExportedRun:
        """Write the file of a run."""


class Dataset(Folder):
    """Writes ``metrics/project=…/run=…/metrics.SUFFIX`` and ``runs.SUFFIX``: folders as Hive names them.

    The folder of a run without points is empty: from a CSV file without rows, tools would guess wrong types for all.
    """

    def __init__(self, output: Path, format: str, tables: Tables) -> None:
        super().__init__(output)
        self.format = format
        self.tables = tables

    def close(self) -> None:
        with replacing(self.output / f"runs{self.tables.suffix}") as file:
            self.tables.write_runs([self.runs[key] for key in sorted(self.runs)], file)
        super().close()

    def write(self, run: RunReader) -> None:
        super().write(run)
        if not self.runs[run.key].points:
            self.path_of(run.key).unlink()

    def has(self, run: ExportedRun) -> bool:
        path = self.path_of(run.key)
        return path.is_file() if run.points else path.parent.is_dir() and not path.exists()

    def path_of(self, key: RunKey) -> Path:
        project, run = (_NOT_IN_FOLDERS.sub(lambda found: f"%{ord(found[0]):02X}", part) for part in key)
        return self.output / "metrics" / f"project={project}" / f"run={run}" / f"metrics{self.tables.suffix}"

    def write_run(self, run: RunReader, file: BinaryIO) -> ExportedRun:
        self.tables.write_points(run, file)
        return run.summary()

"""Import metrics from CSV and TSV files, as many loggers, pandas and DVCLive write them."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rankzero.importers.base import FoundRun, Report
from rankzero.importers.sources.columns import STEPS, TIMES
from rankzero.importers.sources.finding import find_all
from rankzero.importers.sources.rows import Numbers, RowFile, RowImporter, Texts, make_run
from rankzero.loggers.csv.media_files import NAME as MEDIA
from rankzero.values import Number

_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_DELIMITERS = ",\t;|"
_MISSING = frozenset({"none", "null", "na", "n/a", "<na>", "-"})
_WORDS: dict[str, Number] = {
    "true": True, "false": False, "1.#inf": math.inf, "-1.#inf": -math.inf, "1.#qnan": math.nan, "-1.#ind": math.nan,
}  # fmt: skip
_TENSOR = re.compile(r"tensor\(([^,()]+)[,)]")


class CsvImporter(RowImporter):
    """Imports a run from each table, and one run from all tables in a directory of DVCLive."""

    summary: ClassVar[str] = "CSV and TSV files of metrics: of Lightning, Keras, pandas, DVCLive, rankzero and others"

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        found, skipped = find_all(sources, _is_table, "CSV or TSV file")
        runs: dict[Path, list[CsvFile]] = {}
        for path in found:
            directory, prefix = _dvclive(path)
            runs.setdefault(directory or path, []).append(CsvFile(path, self._step, self._time, prefix))
        for path, files in runs.items():
            yield make_run(files, None if path in found else path, is_named=found.get(path, True))
        yield from skipped


def _is_table(path: Path) -> bool:
    if not path.name.lower().endswith(_SUFFIXES) or path.name == MEDIA:
        return False
    # In the directory of rankzero's CSVLogger, other tables are media.
    return path.name == "metrics.csv" or not any((above / MEDIA).is_file() for above in path.parents[1:3])


class CsvFile(RowFile):
    """A table, whose header may be repeated or change between the rows."""

    _delimiter = ""
    _header: Sequence[str] = ()
    _names: Sequence[str] = ()

    @property
    def position(self) -> dict[str, Any]:
        return {**super().position, "header": self._header, "delimiter": self._delimiter}

    def resume(self, position: Mapping[str, Any]) -> None:
        super().resume(position)
        self._delimiter = position["delimiter"]
        self._set_header(position["header"])

    def rows(self, report: Report) -> Iterator[tuple[Numbers, Texts]]:
        for cells in self._records(report):
            if not self._header:
                is_row = all(_number(cell, self._delimiter) is not None for cell in cells)
                self._set_header([f"column {index}" for index in range(len(cells))] if is_row else cells)
                if not is_row:
                    continue
            numbers: Numbers = {}
            texts: Texts = {}
            for name, cell in zip(self._names, cells, strict=False):
                if cell:
                    try:
                        numbers[name] = int(cell) if cell.isdigit() else float(cell)
                    except ValueError:
                        number = _number(cell, self._delimiter)
                        if number is not None:
                            numbers[name] = number
                        elif cell.strip().casefold() not in _MISSING:
                            texts[name] = cell
            if len(cells) > len(self._names) and any(cells[len(self._names) :]):
                report.leave_out("the last cells of a row", "the row has more cells than the header")
            if texts and not numbers and _is_header(cells, self._header):
                self._set_header(cells)
            elif numbers or texts:
                yield numbers, texts

    def _set_header(self, cells: Sequence[str]) -> None:
        """Use these cells as names of the columns; a repeated name gets a number."""
        counts: dict[str, int] = {}
        names: dict[str, None] = {}
        for cell in cells:
            name = cell = cell.strip() or "index"  # as pandas writes it
            while name in names:
                counts[cell] = counts.get(cell, 0) + 1
                name = f"{cell}.{counts[cell]}"
            names[name] = None
        self._header, self._names = cells, list(names)

    def _records(self, report: Report) -> Iterator[list[str]]:
        file = self.file
        lines = file.lines(report)
        before = file.offset
        taken: list[str] = []  # the lines of a record; several if a cell has line ends

        def take(first: str) -> Iterator[str]:
            for line in itertools.chain([first], lines):
                taken.append(line)
                yield line

        first = next((line for line in lines if line.strip() and not line.startswith("#{")), None)  # a comment of gym
        if first is None:
            return
        if not self._delimiter:
            first = first.removeprefix("#").lstrip(" ")
            self._delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.reader(take(first), delimiter=self._delimiter)
        while True:
            cells: list[str] = []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:  # a cell of more than 128 KiB: a quote is missing
                pass
            if not taken[-1].endswith("\n") and file.may_grow:
                file.offset = before
                return
            if len(taken) > 1 and not _is_well_quoted(taken, self._delimiter):
                yield from ([cell.strip('"') for cell in line.rstrip("\r\n").split(self._delimiter)] for line in taken)
            elif cells:
                yield cells
            before = file.offset
            taken.clear()


def _dvclive(path: Path) -> tuple[Path | None, str]:
    """Return DVCLive's directory and the prefix of the metric's name; (None, "") for other files."""
    *above, plots, metrics = path.parts[: path.parts.index("metrics") + 1] if "metrics" in path.parts[:-1] else ("", "")
    if (plots, metrics) != ("plots", "metrics"):
        return None, ""
    directory = Path(*above)
    group = path.parent.relative_to(directory / plots / metrics).as_posix()
    return directory, "" if group == "." else f"{group}/"


def _is_well_quoted(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether each quoted cell of a record ends with a quote; otherwise a quote is missing in the first line."""
    try:
        return bool(list(csv.reader(lines, delimiter=delimiter, strict=True)))
    except csv.Error:
        return False


def _is_header(cells: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row of texts is a header: it has the names of other headers."""
    return cells[0] == header[0] or any(cell.strip().casefold() in STEPS + TIMES for cell in cells)


def _number(cell: str, delimiter: str) -> Number | None:
    """Return the number in a cell, also in spellings that ``float`` does not accept; None if it is not a number."""
    text = cell.strip()
    if (word := _WORDS.get(text.casefold())) is not None:
        return word
    if tensor := _TENSOR.match(text):
        text = tensor[1]
    if delimiter == ";" and text.count(",") == 1:
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None

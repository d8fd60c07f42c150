"""An importer that reads rows with checksums keeps the contract, and importers that do not are caught."""

import time
import zlib
from functools import partial

import pytest

from rankzero.errors import RunNotFoundError
from rankzero.events.structs import Metrics
from rankzero.importers.base import FoundRun, Header, Importer
from rankzero.importers.searching import find_files
from rankzero.testing import ImporterContract
from rankzero.testing.importing import _Source


def row(step):
    text = f"{step} {1 / (step + 3)!r}"
    return f"{text} {zlib.crc32(text.encode())}\n"


class Rows(FoundRun):
    """Continues at the position where an earlier import ended."""

    project = "rows"

    def __init__(self, path):
        self.path = path
        self.identity = self.source = path.name
        self.size = path.stat().st_size
        self.position = 0

    def resume(self, position):
        self.position = position
        return position <= self.size

    def header(self):
        return Header("rows")

    def events(self, files, report):
        with open(self.path, "rb") as file:
            file.seek(self.position)
            for line in file:
                yield from self.read(line, report)
                self.position += len(line)

    def read(self, line, report):
        text, _, checksum = line.rpartition(b" ")
        if not line.endswith(b"\n") or str(zlib.crc32(text)).encode() != checksum[:-1]:
            report.leave_out("a row", "it is damaged")
            return
        step, value = text.split()
        yield Metrics(1e9 + int(step), int(step), {"loss": float(value)})


class RowsImporter(Importer):
    run = Rows

    def find(self, sources):
        paths = [path for source in sources for path in find_files(source, lambda path: True, lambda *problem: None)]
        if not paths:
            raise RunNotFoundError("no rows")
        return [self.run(path) for path in paths]


class TestRows(ImporterContract):
    has_checksums = True
    damaged = 100
    importer = RowsImporter

    def make_importer(self):
        return self.importer()

    def make_source(self, directory):
        for name in ("one.txt", "two.txt"):
            (directory / name).write_text("".join(map(row, range(20))))
        return "."

    def grow_source(self, directory):
        with open(directory / "two.txt", "a") as file:
            file.write(row(20) + row(21))


class Careless(Rows):
    """Believes damaged rows."""

    def read(self, line, report):
        step, value, *_ = line.split()
        yield Metrics(1e9 + int(step), int(step), {"loss": float(value)})


class Clocked(Rows):
    """Takes times from the clock."""

    def read(self, line, report):
        for event in super().read(line, report):
            yield Metrics(time.time(), event.step, event.values)


class Forgetful(Rows):
    """Claims to continue, and begins anew."""

    def resume(self, position):
        return True


class Touching(Rows):
    """Writes to its source."""

    def header(self):
        self.path.write_bytes(self.path.read_bytes())
        return super().header()


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Careless, "test_a_slightly_damaged_source_is_imported"),
        (Clocked, "test_an_import_is_complete_and_the_same_each_time"),
        (Forgetful, "test_a_second_import_adds_nothing"),
        (Forgetful, "test_a_source_that_grew_adds_only_what_is_new"),
        (Touching, "test_the_source_is_unchanged"),
    ],
)
def test_an_importer_that_breaks_the_contract_is_caught(broken, test, tmp_path, monkeypatch):
    class Broken(RowsImporter):
        run = broken

    contract = TestRows()
    contract.importer = Broken
    directory = tmp_path / "source"
    directory.mkdir()
    source = _Source(directory, contract.make_source(directory))
    monkeypatch.chdir(directory)
    with pytest.raises(AssertionError):
        partial(getattr(contract, test), source, tmp_path)()

"""Reads diaries: a file with a line of text for each day."""

from pathlib import Path

from rankzero.errors import RunNotFoundError
from rankzero.events.structs import Text
from rankzero.importers.base import FoundRun, Header, Importer


class DiaryImporter(Importer):
    summary = "diaries, one line a day"

    def __init__(self, year=2000):
        self.year = year

    def find(self, sources):
        paths = [Path(source) for source in sources]
        for path in paths:
            if not path.is_file():
                raise RunNotFoundError(f"there is no diary {path}")
        return [Diary(path, self.year) for path in paths]


class Diary(FoundRun):
    def __init__(self, path, year):
        self.identity, self.source, self.year = f"diary {path.name}", str(path), year
        self.lines = path.read_text(encoding="utf-8").splitlines()

    def header(self):
        return Header(name=f"diary of {self.year}")

    def events(self, files, report):
        for day, line in enumerate(self.lines, 1):
            if line == "secret":
                report.leave_out(f"day {day}", "it is private")
            else:
                yield Text(float(day), "diary", ["value"], [[line]], day)

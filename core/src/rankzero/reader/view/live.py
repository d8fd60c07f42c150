"""The runs below a directory, and what is new of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rankzero.errors import RankzeroError
from rankzero.events.structs import Metrics, Rewind
from rankzero.files.writing import inside
from rankzero.journal.opening import stat_journal
from rankzero.journal.tail import Line, complete_lines
from rankzero.reader.index.run_index import RunIndex
from rankzero.reader.index.summary import goal_of
from rankzero.reader.page.contents import Files, details
from rankzero.reader.page.packing import as_json
from rankzero.reader.page.payload import Page, PageRun, indexed_run, run_entry, summary_row
from rankzero.rundir.finding import find_runs
from rankzero.rundir.layout import JOURNAL, MEDIA
from rankzero.values import to_jsonable

_MOST_BYTES = 1 << 23  # of a journal in one answer; above, curves are sent anew
_SEARCHED_EVERY = 5.0  # seconds


class _LinkedFiles(Files):
    """Media files that the browser asks for when it shows them."""

    def __init__(self, run_dir: Path, prefix: str) -> None:
        super().__init__(0)
        self._root = run_dir
        self._prefix = prefix

    def add(self, item: dict[str, Any], path: Path, newer: int) -> None:
        try:
            item["size"] = path.stat().st_size
            item["url"] = self._prefix + quote(path.relative_to(self._root).as_posix())
        except (OSError, ValueError):
            item["missing"] = True


class LiveRun:
    """A run and its index."""

    def __init__(self, run_dir: Path) -> None:
        self.number = 0
        self._index = RunIndex(run_dir)
        self._index.update()
        self._page_run: PageRun | None = None

    @property
    def started(self) -> float:
        """When the run started, Unix time in seconds."""
        return self._index.summary.started

    def update(self) -> None:
        """Read what the journal has grown by."""
        if self._index.update():
            self._page_run = None

    def page_run(self) -> PageRun:
        """Return the run as it was at the last update."""
        if self._page_run is None:
            self._page_run = indexed_run(self._index)
        return self._page_run

    def entry(self) -> dict[str, Any]:
        """Return what the manifest has of the run, and how far its journal was read."""
        summary = self._index.summary
        return run_entry(self.page_run()) | {"offset": summary.journal.read, "lines": summary.lines}

    def details(self) -> bytes:
        """Return the JSON of what is shown when the run is opened."""
        self.update()
        files = _LinkedFiles(self._index.dir, f"media/{self.number}/")
        return as_json(to_jsonable(details(self.page_run().contents, files)))

    def media(self, path: str) -> Path | None:
        """Return the path of a media file; None if there is no such file in the run's directory."""
        with suppress(RankzeroError, OSError, ValueError):
            found = inside(self._index.dir / MEDIA, path.removeprefix(f"{MEDIA}/"))
            if path.startswith(f"{MEDIA}/") and found.is_file():
                return found
        return None

    def news(self, offset: int, lines: int) -> dict[str, Any]:
        """Return what is new of the run.

        Args:
            offset: the number of bytes of the journal that the browser has.
            lines: how many lines these are.
        """
        size = stat_journal(self._index.dir / JOURNAL).st_size
        if not 0 <= size - offset <= _MOST_BYTES:
            self.update()
            return self.entry() | {"redraw": True}
        points: dict[str, list[list[Any]]] = {}
        has_others = is_rewound = False
        for chunk in complete_lines(self._index.dir / JOURNAL, size, offset):
            for line in chunk.split(b"\n")[:-1]:
                event = Line(0, 0, line).decode()
                if isinstance(event, Metrics):
                    for name, value in event.numbers().items():
                        points.setdefault(name, []).append([lines, event.step, event.time, event.epoch, value])
                else:
                    has_others = True
                    is_rewound |= isinstance(event, Rewind)
                lines += 1
            offset += len(chunk)
        self.update()
        if has_others:
            return self.entry() | {"offset": offset, "lines": lines, "points": points, "redraw": is_rewound}
        summary = self._index.summary
        news: dict[str, Any] = {"offset": offset, "lines": lines, "status": summary.status, "points": points}
        if points:
            news["took"] = summary.took
            news["summary"] = {name: summary_row(summary.metrics[name]) for name in points}
            news["goals"] = {name: goal_of(name, [summary.definitions]) for name in points}
        return news


class LiveRuns:
    """The runs below a directory. They keep their numbers; new ones come last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._runs: list[LiveRun] = []
        self._known: set[Path] = set()
        self._searched = 0.0

    def __getitem__(self, number: int) -> LiveRun:
        return self._runs[number]

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of a page with all runs."""
        self._search()
        page = Page([run.page_run() for run in self._runs])
        return page.manifest() | {"live": str(self.directory), "runs": [run.entry() for run in self._runs]}

    def curves(self, name: str) -> bytes:
        """Return the curves of a metric; their header says how many lines of each journal they have."""
        return Page([run.page_run() for run in self._runs]).curves(name)

    def news(self, read: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, Any]]:
        """Return what is new by the number of the run.

        Args:
            read: number → the bytes and lines of the run's journal that the browser has. A run that is not there is
                new to the browser.
        """
        if time.monotonic() > self._searched + _SEARCHED_EVERY:
            self._search()
        found = {}
        for number, run in enumerate(self._runs):
            with suppress(OSError, RankzeroError):  # a run that cannot be read now stays as it was
                known = read.get(str(number))
                found[str(number)] = run.entry() if known is None else run.news(*known)
        return found

    def _search(self) -> None:
        """Find new runs, the oldest first."""
        self._searched = time.monotonic()
        found = []
        for run_dir in find_runs(self.directory):
            if run_dir not in self._known:
                with suppress(OSError, RankzeroError):  # one that has no event yet is found later
                    found.append(LiveRun(run_dir))
                    self._known.add(run_dir)
        for run in sorted(found, key=lambda each: each.started):
            run.number = len(self._runs)
            self._runs.append(run)

"""The data of a page: a manifest with the table of runs, and blocks that are decoded when they are shown."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rankzero.events.structs import Rewind
from rankzero.journal.opening import stat_journal
from rankzero.journal.rewinds import rewind_limits, superseded
from rankzero.reader.index.curves import summarize_points
from rankzero.reader.index.run_index import RunIndex
from rankzero.reader.index.summary import MetricSummary, goal_of
from rankzero.reader.page.contents import Files, details, media_keys, read_media
from rankzero.reader.page.packing import Curve, as_block, as_json, pack, thin
from rankzero.reader.run_data import JournalReader, RunData
from rankzero.reader.series import Series, SeriesCollector
from rankzero.rundir.finding import delivered
from rankzero.rundir.layout import JOURNAL
from rankzero.values import flatten, to_jsonable

_MOST_POINTS = 1_000_000  # on a page; they take about 7 MB
_FEWEST_POINTS = 60  # of a curve
_MOST_TEXT = 1_000  # of a parameter


@dataclass(frozen=True, slots=True)
class PageRun:
    """A run on a page."""

    contents: RunData
    curves: Mapping[str, Series]
    summaries: Mapping[str, MetricSummary]
    superseded: Mapping[str, Series] = field(default_factory=dict)
    """The points that rewinds have superseded."""


def summary_row(each: MetricSummary) -> list[Any]:
    """Return count, last value, its step, minimum, its step, maximum and its step."""
    return [each.count, each.last, each.last_step, each.min, each.min_step, each.max, each.max_step]


def complete_run(data: RunData) -> PageRun:
    """Return a run that was read with its metrics."""
    return PageRun(data, data.metrics, {name: summarize_points(points) for name, points in data.metrics.items()})


def indexed_run(index: RunIndex) -> PageRun:
    """Return a run whose metrics are known by an index only."""
    data = index.data()
    superseded = _superseded(data.dir / JOURNAL) if data.rewinds else {}
    return PageRun(data, index.curves, index.summary.metrics, superseded)


def _superseded(journal: Path) -> Mapping[str, Series]:
    size = stat_journal(journal).st_size
    limits = rewind_limits(journal, size)
    collector = SeriesCollector()
    for part in JournalReader(journal, (), size).read():
        if isinstance(part, Rewind):
            limits = limits[1:]
        else:
            collector.add(superseded(part, limits))
    return collector.finish()


class Page:
    """The data of a page.

    Args:
        runs: the runs, in the order in which they get their colors.
        max_media: the number of bytes of media files to embed.
        most_points: the number of points of all curves together.
    """

    def __init__(self, runs: Sequence[PageRun], *, max_media: int = 0, most_points: int = _MOST_POINTS) -> None:
        self._runs = runs
        self._metrics = list(dict.fromkeys(name for run in runs for name in run.curves))
        curves = sum(len(run.curves) for run in runs)
        self._most = max(_FEWEST_POINTS, most_points // max(1, curves))
        self.files = Files(max_media)

    def manifest(self) -> dict[str, Any]:
        """Return what the page needs at once."""
        return {
            "made": time.time(),
            "points": self._most,
            "left_out": [self.files.left_out, self.files.bytes_left_out],
            "runs": [run_entry(run) for run in self._runs],
            "metrics": [
                [name, goal_of(name, (run.contents.definitions for run in self._runs))] for name in self._metrics
            ],
        }

    def blocks(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and content of each block: ``mN`` of a metric, ``rN`` of a run, ``fN`` of a file."""
        found = [details(run.contents, self.files) for run in self._runs]
        self.files.choose()
        yield "manifest", as_block(as_json(to_jsonable(self.manifest())))
        for number, name in enumerate(self._metrics):
            yield f"m{number}", as_block(self.curves(name))
        for number, each in enumerate(found):
            yield f"r{number}", as_block(as_json(to_jsonable(each)))
        for name, path in self.files.names().items():
            yield name, base64.b64encode(read_media(path))

    def curves(self, name: str) -> bytes:
        """Return the curves of a metric: the length of a header in JSON, the header, and the packed curves."""
        header, data = [], []
        for number, run in enumerate(self._runs):
            for is_cut, curve in _lines(run, name, self._most):
                kinds, packed = pack(curve, run.contents.info.started)
                header.append([number, is_cut, len(curve.value), kinds, run.contents.lines])
                data.append(packed)
        head = as_json(header)
        return b"".join([len(head).to_bytes(4, "little"), head, *data])


def run_entry(run: PageRun) -> dict[str, Any]:
    """Return what the manifest has of a run."""
    contents = run.contents
    info = contents.info
    return {
        "id": info.id,
        "name": info.name,
        "project": info.project,
        "group": info.group,
        "parent": info.parent,
        "dir": str(contents.dir),
        "tags": contents.tags,
        "notes": info.notes,
        "status": contents.status,
        "error": contents.error,
        "started": info.started,
        "took": contents.took,
        "params": {name: _param(value) for name, value in flatten(contents.params)},
        "summary": {name: summary_row(each) for name, each in run.summaries.items()},
        "marks": list(_marks(contents)),
        "media": media_keys(contents),
        "deliveries": list(_deliveries(contents)),
    }


def _lines(run: PageRun, name: str, most: int) -> Iterator[tuple[bool, Curve]]:
    """Yield the surviving curve of a metric, and the points that rewinds have superseded, if there are some."""
    if name in run.curves:
        yield False, thin(run.curves[name], most)
    if name in run.superseded:
        yield True, thin(run.superseded[name], most)


def _param(value: Any) -> Any:
    value = to_jsonable(value)
    if isinstance(value, list | dict):
        value = msgspec.json.encode(value).decode()
    return value[:_MOST_TEXT] if isinstance(value, str) else value


def _marks(run: RunData) -> Iterator[list[Any]]:
    """Yield kind, time and step of what is marked on the curves."""
    for start in run.starts[1:]:
        yield ["resumed", start.time, None]
    for rewind in run.rewinds:
        yield ["rewound", rewind.time, rewind.step]
    if run.status in ("crashed", "failed", "aborted"):
        yield [run.status, run.finished or run.updated, None]


def _deliveries(run: RunData) -> Iterator[dict[str, Any]]:
    try:
        states = delivered(run.dir, list(run.loggers), lines=run.lines)
    except OSError:  # the run was moved or deleted since it was read
        return
    for key, each in states.items():
        yield {"logger": key} | each.as_json()


def title(runs: Sequence[PageRun]) -> str:
    """Return the title of a page with these runs."""
    if len(runs) == 1:
        return runs[0].contents.info.name
    projects = sorted({run.contents.info.project for run in runs})
    return f"{len(runs)} runs of {', '.join(projects[:3])}{', …' if len(projects) > 3 else ''}"


def default_path(runs: Sequence[PageRun]) -> Path:
    """Return the name of the file for these runs, without what a file name cannot have."""
    wanted = runs[0].contents.info.name if len(runs) == 1 else "runs"
    name = "".join(each if each.isalnum() or each in "-_. " else "-" for each in wanted)[:80].strip(" .-")
    return Path(f"{name or 'run'}.html")

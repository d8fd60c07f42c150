"""Read runs for a page, and write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankzero.files.writing import replacing
from rankzero.reader.page.html import render
from rankzero.reader.page.payload import Page, PageRun, title
from rankzero.reader.run_data import read_run


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    path: Path
    size: int
    files_left_out: int
    bytes_left_out: int


def read_page_run(run_dir: Path) -> PageRun:
    """Read a run for a page.

    Raises:
        RunNotFoundError: there is no journal, or it contains no event yet.
    """
    data = read_run(run_dir)
    rewound = read_run(run_dir, keep_rewound=True).metrics if data.rewinds else {}
    return PageRun(data, data.metrics, rewound=rewound)


def write_page(runs: Sequence[PageRun], path: Path, max_media: int) -> Written:
    """Write a page of runs, which replaces ``path``.

    Raises:
        OSError: the file cannot be written; ``path`` is unchanged.
    """
    runs = sorted(runs, key=lambda run: run.contents.info.started)
    page = Page(runs, max_media=max_media)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for part in render(title(runs), page.blocks()):
            file.write(part)
        size = file.tell()
    return Written(path, size, page.files.left_out, page.files.bytes_left_out)

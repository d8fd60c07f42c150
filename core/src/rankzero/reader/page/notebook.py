"""Runs as the output of cells in a notebook."""

from __future__ import annotations

import logging
from typing import Any

from rankzero.reader.index.run_index import index_run
from rankzero.reader.page.html import as_frame, render
from rankzero.reader.page.payload import Page, PageRun, complete_run, indexed_run, title
from rankzero.reader.run_data import RunData

log = logging.getLogger("rankzero.page")

_MAX_MEDIA = 2_000_000  # a notebook keeps the output of its cells
_MOST_POINTS = 50_000


def as_html(shown: Any) -> str:
    """Return the HTML of a `RunData`, or of a `Run` below its own: a small page in a frame."""
    if isinstance(shown, RunData):
        return _frame(complete_run(shown))
    header: str = shown._repr_html_()
    try:
        if not shown.is_active:
            return header
        run = indexed_run(index_run(shown.dir))
        return header + _frame(run) if run.curves or run.contents.media else header
    except Exception:  # whatever is wrong with the disk, the cell goes on
        log.debug("the run in %s cannot be shown", shown.dir, exc_info=True)
        return header


def _frame(run: PageRun) -> str:
    page = Page([run], max_media=_MAX_MEDIA, most_points=_MOST_POINTS)
    return as_frame(b"".join(render(title([run]), page.blocks())))

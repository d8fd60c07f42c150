"""Progress bars for the delivery, while the end of a run waits for it."""

from __future__ import annotations

import logging
import math
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

log = logging.getLogger("rankzero")

_SHOW_AFTER = 1.0
"""Seconds before a progress bar appears: most runs are delivered by then."""
_LOG_AFTER = 5.0
"""Seconds before a permanent line is logged: on a busy machine a courier takes some time to start."""


class WaitingProgress:
    """Shows a progress bar for each logger after some seconds; without a terminal, logs a line at the end of a run."""

    def __init__(self, keys: list[str], target: int, *, is_end: bool) -> None:
        self._keys = keys
        self._target = max(1, target)
        self._is_terminal = _is_terminal(sys.stderr)
        wait = _SHOW_AFTER if self._is_terminal else _LOG_AFTER if is_end else math.inf
        self._shown_from = time.monotonic() + wait
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> WaitingProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, key: str, offset: int, problem: str | None) -> None:
        if self._bars is None:
            if time.monotonic() < self._shown_from:
                return
            if not self._is_terminal:
                log.info("waiting for the couriers to deliver the rest of the run")
                self._shown_from = math.inf
                return
            self._start()
        self._bars.update(self._tasks[key], completed=min(offset, self._target), problem=problem or "")

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("delivering to {task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[problem]}", style="yellow", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks = {key: self._bars.add_task(key, total=self._target, problem="") for key in self._keys}
        self._bars.start()


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(Exception):  # the stream is closed or has no isatty()
        return stream is not None and stream.isatty()
    return False

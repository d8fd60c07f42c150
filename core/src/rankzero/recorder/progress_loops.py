"""What a progress bar shows, and when: the loops that run now, ten times a second at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from rankzero.messages import describe, warn_user
from rankzero.rank import is_rank_zero
from rankzero.recorder.progress_metrics import ShownMetrics

_EVERY = 0.1  # seconds
_KEPT = "epoch "


class ShownLoop:
    """One loop, and how far it is."""

    __slots__ = ("_began", "_ended", "description", "done", "total")

    def __init__(self, description: str, total: int | None) -> None:
        self.description = description
        self.total = total
        self.done = 0
        self._began = monotonic()
        self._ended: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended is not None

    @property
    def is_kept(self) -> bool:
        """Whether it is to be seen when it has ended."""
        return self.description.startswith(_KEPT)

    @property
    def elapsed(self) -> float:
        """Seconds since it began, until it ended."""
        return (monotonic() if self._ended is None else self._ended) - self._began

    def end(self) -> None:
        """Stop the clock."""
        self._ended = monotonic()


class Screen(Protocol):
    """What draws loops; it may raise whatever it likes."""

    def show(self, loops: Sequence[ShownLoop], metrics: Sequence[str]) -> None:
        """Show these, the outermost first, and no others; ``metrics`` are ``name=value``, and belong to the last."""

    def close(self) -> None:
        """Leave what is shown as it is, and draw no more."""


class LoopProgress:
    """A `rankzero.recorder.progress.Progress` that draws on a screen, until that fails.

    The last loop that was described as ``epoch …`` stays to be seen when it has ended, until the next one begins.
    """

    def __init__(self, screen: Screen, version: str = "") -> None:
        self._screen: Screen | None = screen
        self._version = [version] if version else []
        self._metrics = ShownMetrics()
        self._loops: list[ShownLoop] = []
        self._innermost: ShownLoop | None = None
        self._kept: ShownLoop | None = None
        self._due = 0.0

    def begin(self, description: str, total: int | None) -> None:
        if self._screen is None or not is_rank_zero():  # which may be known only now
            return
        self._innermost = ShownLoop(description, total)
        if not self._loops and self._innermost.is_kept:
            self._kept = None
        self._loops.append(self._innermost)
        self._show()
        self._due = 0.0  # the first batch may be the only one for long

    def advance(self, metrics: Mapping[str, Any]) -> None:
        loop = self._innermost
        if loop is None:
            return
        loop.done += 1
        self._metrics.given = metrics
        if monotonic() >= self._due:
            self._show()

    def end(self) -> None:
        if self._loops:
            self._end_innermost()
            self._show()

    def close(self) -> None:
        if self._loops:  # the run ends in the middle of them
            self._kept = self._loops[0]
        while self._loops:
            self._loops.pop().end()
        self._show()
        self._turn_off()

    def _end_innermost(self) -> None:
        loop = self._loops.pop()
        loop.end()
        self._innermost = self._loops[-1] if self._loops else None
        if self._innermost is None and loop.is_kept:
            self._kept = loop

    def _show(self) -> None:
        if self._screen is None:
            return
        try:
            self._metrics.read()
            loops = [self._kept, *self._loops] if self._kept is not None else self._loops
            self._screen.show(loops, [*self._metrics.texts(), *self._version])
        except Exception as error:
            self._turn_off()
            with suppress(Exception):  # a warning that was made an error, or that cannot be printed either
                warn_user(f"the progress bar is off: drawing it failed ({describe(error)})")
        self._due = monotonic() + _EVERY

    def _turn_off(self) -> None:
        screen, self._screen = self._screen, None
        self._loops, self._innermost, self._kept = [], None, None
        self._metrics = ShownMetrics()
        if screen is not None:
            with suppress(Exception):
                screen.close()

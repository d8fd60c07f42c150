"""The progress bar of a recorder: when it is shown, and its content."""

from __future__ import annotations

import importlib.util
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Literal

from rankzero.errors import PluginNotInstalledError, RecorderError
from rankzero.messages import describe, did_you_mean, uncaptured, warn_user
from rankzero.processes import ipython_shell
from rankzero.rank import is_rank_zero
from rankzero.recorder.progress_bars import Bars, make_bars
from rankzero.recorder.progress_metrics import ShownMetrics

_KINDS = ("auto", "rich", "tqdm")
_INTERVAL = 0.1  # seconds between two drawings


def make_progress(kind: str | Literal[False] | None, version: str) -> Progress:
    """Return a progress bar on standard error.

    It shows nothing on other ranks than zero, in CI (the variable ``CI`` is set), and, except in a notebook, if
    standard error is not a terminal.

    Args:
        kind: ``rich``, for terminals only; ``tqdm``; None or False for none; or ``auto``: rich in a terminal, and in a
            notebook tqdm, if it is installed.
        version: the run's id, whose last four characters are shown.

    Raises:
        RecorderError: another kind.
        PluginNotInstalledError: tqdm is requested, and not installed.
    """
    if kind is False:
        kind = None
    if kind is not None and kind not in _KINDS:
        raise RecorderError(
            f"progress_bar must be 'auto', 'rich', 'tqdm' or None, not {kind!r}.{did_you_mean(str(kind), _KINDS)}"
        )
    has_tqdm = importlib.util.find_spec("tqdm") is not None
    if kind == "tqdm" and not has_tqdm:
        raise PluginNotInstalledError("progress_bar='tqdm' needs tqdm: pip install tqdm", name="tqdm")
    is_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if _is_notebook():
        kind = "notebook" if has_tqdm and kind in ("auto", "tqdm") else None
    elif not _is_in_terminal():
        kind = None
    elif kind == "auto":
        kind = "rich"
    make = None if kind is None or is_ci or not is_rank_zero() else partial(make_bars, kind)
    return Progress(make, {"v_num": version[-4:]} if version else {})


def _is_notebook() -> bool:
    return any(each.__name__ == "ZMQInteractiveShell" for each in type(ipython_shell()).__mro__)


def _is_in_terminal() -> bool:
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except Exception:  # None, closed, or an object of another kind
        return False


@dataclass
class _Loop:
    bar: Any
    is_epoch: bool
    done: int = 0
    has_ended: bool = False


class Progress:
    """Shows the progress of loops, at most ten times a second. Never raises or waits for an accelerator.

    The bar of an epoch stays until the next epoch begins; the bar of any other loop is removed when the loop ends. The
    metrics are shown beside the first bar.

    Args:
        make: makes the bars; None to show nothing.
        fixed: name → text that is always shown, after the metrics.
    """

    def __init__(self, make: Callable[[], Bars] | None, fixed: Mapping[str, str] | None = None) -> None:
        self._make = make
        self._bars: Bars | None = None
        self._metrics = ShownMetrics(fixed or {})
        self._loops: list[_Loop] = []  # the outermost first; it may be an ended epoch
        self._due = 0.0
        _all.add(self)

    def begin(self, description: str, total: int | None) -> None:
        """Begin a loop inside the current one.

        Args:
            description: such as ``epoch 3`` or ``validate``.
            total: the number of batches, if known.
        """
        if not is_rank_zero():  # the rank may have been unknown before
            self.close()
        self._try(self._begin, description, total)

    def advance(self, metrics: Mapping[str, Any]) -> None:
        """Count a batch of the innermost loop.

        Args:
            metrics: name → Python number or one-element tensor; only read when it is time to draw.
        """
        if not self._loops:
            return
        self._loops[-1].done += 1
        self._metrics.given = metrics
        if monotonic() >= self._due:
            self._try(self._draw)

    def end(self) -> None:
        """End the innermost loop."""
        if self._loops:
            self._try(self._end)

    def pause(self) -> None:
        """Leave the bars on the screen; a later loop is shown below them."""
        if self._bars is not None:
            self._try(self._pause)

    def close(self) -> None:
        """Leave the bars on the screen, and show no more."""
        self.pause()
        self._turn_off()

    def after_fork(self) -> None:
        """Show nothing in a forked child, because its parent draws."""
        self._make = None
        self._loops = []
        if self._bars is not None:
            self._bars.streams.give_back()

    def _begin(self, bars: Bars, description: str, total: int | None) -> None:
        is_epoch = description.startswith("epoch ")
        if is_epoch and self._loops and self._loops[0].has_ended:
            bars.remove(self._loops.pop(0).bar)
        self._loops.append(_Loop(bars.add(description, total), is_epoch))
        self._draw(bars)
        self._due = 0.0  # the first batch may be the only one for a long time

    def _end(self, bars: Bars) -> None:
        self._draw(bars)
        loop = self._loops[-1]
        if loop.is_epoch and len(self._loops) == 1:
            loop.has_ended = True
            bars.stop(loop.bar)
        else:
            bars.remove(self._loops.pop().bar)
        if not self._loops:
            self._pause(bars)

    def _pause(self, bars: Bars) -> None:
        self._draw(bars)
        for loop in self._loops[1:]:
            bars.remove(loop.bar)
        self._bars, self._loops = None, []
        bars.close()

    def _draw(self, bars: Bars) -> None:
        self._metrics.read()
        for loop in self._loops:
            bars.draw(loop.bar, loop.done, self._metrics.text() if loop is self._loops[0] else "")
        self._due = monotonic() + _INTERVAL

    def _try(self, action: Callable[..., None], *args: Any) -> None:
        if self._make is None:
            return
        try:
            with uncaptured():  # a notebook without widgets draws on standard error
                if self._bars is None:
                    self._bars = self._make()
                action(self._bars, *args)
        except Exception as error:
            self._turn_off()
            with suppress(Exception):  # the warning may be an error, or cannot be printed
                warn_user(f"the progress bar is off: drawing it failed ({describe(error)})")

    def _turn_off(self) -> None:
        bars, self._bars, self._make, self._loops = self._bars, None, None, []
        if bars is not None:
            with suppress(Exception), uncaptured():
                bars.close()


_all: weakref.WeakSet[Progress] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each.after_fork()


os.register_at_fork(after_in_child=_after_fork)

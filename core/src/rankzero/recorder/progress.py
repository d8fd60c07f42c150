"""The progress bar of a recorder: which one, and whether there is any."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from rankzero.errors import PluginNotInstalledError, RecorderError
from rankzero.messages import did_you_mean
from rankzero.rank import is_rank_zero
from rankzero.recorder.progress_loops import LoopProgress, Screen
from rankzero.recorder.terminal_line import TerminalLine, is_terminal
from rankzero.run.endings import ipython_shell

_KINDS = ("auto", "rich", "tqdm")


class Progress(Protocol):
    """Shows how far loops are. Loops nest; nothing here raises, or waits for an accelerator."""

    def begin(self, description: str, total: int | None) -> None:
        """A loop begins, within the one that runs.

        Args:
            description: such as ``epoch 3`` or ``validate``; where it begins with ``epoch``, the last one stays to be
                seen when it has ended.
            total: batches; None if nobody knows.
        """

    def advance(self, metrics: Mapping[str, Any]) -> None:
        """One batch of the innermost loop is done.

        Args:
            metrics: name → Python number or one-element tensor; only looked into when it is time to draw.
        """

    def end(self) -> None:
        """The innermost loop has ended."""

    def close(self) -> None:
        """The run ends: leave what is shown; may be called again, and nothing is shown any more."""


class NoProgress:
    """Shows nothing."""

    def begin(self, description: str, total: int | None) -> None: ...

    def advance(self, metrics: Mapping[str, Any]) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


def make_progress(kind: str | None, version: str) -> Progress:
    """Return a progress bar on standard error.

    It shows nothing on other ranks than zero, in CI (the variable ``CI`` is set), and where standard error is no
    terminal, except in a notebook.

    Args:
        kind: ``rich``, for terminals only; ``tqdm``; None for none; or ``auto``: rich in a terminal, and in a notebook
            tqdm, if it is installed.
        version: the run's id, whose last four characters are shown.

    Raises:
        RecorderError: another kind.
        PluginNotInstalledError: tqdm is asked for, and not installed.
    """
    if kind is not None and kind not in _KINDS:
        raise RecorderError(
            f"progress_bar={kind!r}: it is one of 'auto', 'rich', 'tqdm' and None.{did_you_mean(str(kind), _KINDS)}"
        )
    if kind == "tqdm" and not _has_tqdm():
        raise PluginNotInstalledError("progress_bar='tqdm' needs tqdm: pip install tqdm", name="tqdm")
    screen = _screen(kind) if kind is not None and _is_watched() else None
    return NoProgress() if screen is None else LoopProgress(screen, f"v_num={version[-4:]}" if version else "")


def _is_watched() -> bool:
    is_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return is_rank_zero() and not is_ci and (_is_notebook() or _is_in_terminal())


def _is_in_terminal() -> bool:
    return is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"


def _is_notebook() -> bool:
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(ipython_shell()).__mro__)


def _screen(kind: str) -> Screen | None:
    if _is_notebook():
        from rankzero.recorder.progress_tqdm import NotebookBars

        return NotebookBars() if kind != "rich" and _has_tqdm() else None
    if kind == "tqdm":
        from rankzero.recorder.progress_tqdm import tqdm_line

        return TerminalLine(tqdm_line())
    from rankzero.recorder.progress_rich import rich_line

    return TerminalLine(rich_line())


def _has_tqdm() -> bool:
    return importlib.util.find_spec("tqdm") is not None

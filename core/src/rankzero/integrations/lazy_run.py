"""The run of a framework's logger: it begins when it is first needed, or is one that the user has started."""

from __future__ import annotations

import sys
import uuid
from types import TracebackType
from typing import Any, Self

from rankzero.errors import RankzeroError, RunInUseError
from rankzero.messages import warn_user
from rankzero.run.endings import status_after
from rankzero.run.run import Run
from rankzero.run.start import check, start


def start_in_training(loggers: Any = None, **settings: Any) -> Run:
    """Start a run when the training has begun, which a tracker must not end.

    If another process writes to the run, a new one begins. A run whose trackers cannot be used is kept on disk. Both
    cause a warning.
    """
    try:
        return start(loggers, **settings)
    except RunInUseError as error:
        warn_user(f"a new run begins: {error}")
        return start(loggers, **{**settings, "run_id": uuid.uuid4().hex})
    except RankzeroError as error:
        run = start(loggers, **{**settings, "delivery": "off"})
        warn_user(f"{error}. The run is kept in {run.dir}; deliver it later with rankzero sync")
        return run


class LazyRun:
    """A base class of loggers that have a run, which begins as `start_in_training` does.

    As a context manager it ends the run as ``success``, ``failed`` or ``aborted``, by what leaves the block.

    Args:
        given: a Run, which is not ended; None to start one.
        **settings: the arguments of `rankzero.start`.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """

    def __init__(self, given: Run | None, **settings: Any) -> None:
        self._given = self._run = given
        self._settings = settings
        if given is None:
            check(**settings)

    @property
    def run(self) -> Run:
        """The run; reading this begins it."""
        if self._run is None:
            self._run = start_in_training(**self._settings)
        return self._run

    def close(self) -> None:
        """End the run, unless it was given. In a ``finally`` or ``except`` block the error decides about its status."""
        self._finalize(sys.exception())
        self._end_own_run()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finalize(error)
        self.close()

    def _finalize(self, error: BaseException | None) -> None:
        if self._run is not None and (status := status_after(error)) is not None:
            self._run.finalize(status)

    def _end_own_run(self) -> None:
        """End the run if it has begun and was not given."""
        if self._run is not None and self._given is None:
            self._run.finish()

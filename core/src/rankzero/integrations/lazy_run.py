"""The run of a framework's logger or callback, which begins on first use, or was started by the user."""

from __future__ import annotations

import os
import sys
import uuid
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rankzero.errors import ConfigError, RankzeroError, RunInUseError
from rankzero.messages import warn_user
from rankzero.run.endings import status_after
from rankzero.run.run import Run
from rankzero.run.start import check, start


def start_in_training(loggers: Any = None, **settings: Any) -> Run:
    """Start a run during training, which a tracker must not end.

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


def numbered(settings: Mapping[str, Any], number: object) -> dict[str, Any]:
    """Return settings with a number after the run id, if they or ``RANKZERO_RUN_ID`` set one.

    So each trial or training is a separate run, and a job that is started again resumes each of them.
    """
    run_id = settings.get("run_id") or os.environ.get("RANKZERO_RUN_ID", "").strip()
    return {**settings, "run_id": f"{run_id}-{number}"} if run_id else {**settings}


def check_arguments(loggers: Any, run: Run | None, settings: Mapping[str, Any]) -> Run | None:
    """Return the given Run, or check the arguments of `rankzero.start` if there is none.

    Raises:
        ConfigError: an argument is invalid, or a Run is given together with other arguments.
        PluginError: a logger is not installed, or is broken.
    """
    if run is None and isinstance(loggers, Run):
        loggers, run = None, loggers
    if run is None:
        check(loggers, **settings)
        return None
    if not isinstance(run, Run):
        raise ConfigError(f"run must be a Run, not {type(run).__name__}; to resume a run by its id, give run_id=")
    others = [name for name, value in {"loggers": loggers, **settings}.items() if value is not None]
    if others:
        raise ConfigError(f"a Run is given, so {', '.join(others)} would have no effect; give them to rankzero.start()")
    return run


class LazyRun:
    """A base class of loggers that have a run, which begins as `start_in_training` does.

    The class of a framework may be another base. The methods can be called on each rank, and only rank zero logs. A
    copy has a separate run.

    As a context manager it ends the run as ``success``, ``failed`` or ``aborted``, by what leaves the block.

    Args:
        loggers: the ``loggers`` of `rankzero.start`; or a Run, which is not ended.
        run: the same as a Run as ``loggers``.
        **settings: further arguments of `rankzero.start`.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """

    _begun = 0  # how many runs

    def __init__(self, loggers: Any = None, *, run: Run | None = None, **settings: Any) -> None:
        super().__init__()
        self._given = self._run = check_arguments(loggers, run, settings)
        self._settings = {"loggers": loggers, **settings}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": self._given}

    @property
    def run(self) -> Run:
        """The run; reading this begins it."""
        if self._run is None:
            self._begun += 1
            settings = self._settings if self._begun == 1 else numbered(self._settings, self._begun)
            self._run = start_in_training(**settings)
        return self._run

    def close(self) -> None:
        """End the run, unless it was given. In a ``finally`` or ``except`` block the error determines its status."""
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


class TrainingRun(LazyRun):
    """A base class of callbacks: the run of a training, which is a success if the framework reports a successful end.

    The run stays open, for later log calls, until `close`, the end of the process, or until the callback is
    garbage-collected. That of a copy ends with its training.
    """

    says_when_it_ends = True
    """Whether the framework calls the callback at the end of each successful training."""
    _is_trained = False
    _is_closed = False
    _is_copy = False

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_is_copy": True}

    def begin_training(self, params: Any = None, *, of_new_model: bool = False) -> None:
        """Begin the run if necessary, and log the parameters; until `end_training`, its status is ``failed``.

        Args:
            params: the parameters of the training.
            of_new_model: whether a second training is a separate run; otherwise it continues the first one's run.
        """
        if self._run is not self._given and (self._is_closed or (of_new_model and self._is_trained)):
            self._end_own_run()
            self._run, self._is_closed = None, False
        if self._run is None:
            # the end of the process ends all runs together
            weakref.finalize(self, self.run.finish_in_background).atexit = False
        self._is_trained = True
        if params:
            self.run.log_hyperparams(params)
        if self.says_when_it_ends:
            self.run.finalize("failed")

    def close(self) -> None:
        """End the run, unless it was given; a later training begins another one."""
        super().close()
        self._is_closed = True

    def end_training(self) -> None:
        """Record that the training was successful."""
        self.run.finalize("success")
        if self._is_copy:  # made by the framework, for example in a worker: it logs no more
            self.close()

"""The writers of one logger, opened when they are first used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rankzero.events.run_info import RunInfo
from rankzero_tensorboard.run_directory import event_file_of, joined_event_file_of, new_event_file

if TYPE_CHECKING:
    from rankzero_tensorboard.run_writer import RunWriter


class Writers:
    """Writes for the verbs of a logger, and beside a courier for `TensorBoardLogger.experiment`.

    Args:
        suffix: put behind the names of event files.
        flush_secs: see `RunWriter`.
        purge_step: see `RunWriter`; without effect under a Run.
    """

    def __init__(self, suffix: str, flush_secs: float, purge_step: int | None) -> None:
        self._suffix = suffix
        self._flush_secs = flush_secs
        self._purge_step = purge_step
        self.forget()

    def forget(self) -> None:
        """Begin anew, without what was not flushed."""
        self._main: RunWriter | None = None
        self._joined: RunWriter | None = None
        self._name = ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_main": None, "_joined": None, "_name": ""}

    @property
    def is_open(self) -> bool:
        """Whether the verbs have written something."""
        return self._main is not None

    def main(self, log_dir: str, run: RunInfo | None) -> RunWriter:
        """Return the writer of the verbs in ``log_dir``; under a Run it continues what other couriers wrote."""
        if self._main is None:
            self._name = self._name or (new_event_file() if run is None else event_file_of(run))
            purge_step = self._purge_step if run is None else None
            self._main = self._make(log_dir, self._name, run, waits=run is not None, purge_step=purge_step)
        return self._main

    def joined(self, log_dir: str, run: RunInfo) -> RunWriter:
        """Return the writer that a courier's stands beside."""
        if self._joined is None:
            self._joined = self._make(log_dir, joined_event_file_of(run), run, waits=False)
        return self._joined

    def flush(self) -> None:
        """Write and upload what was added."""
        for writer in filter(None, (self._main, self._joined)):
            writer.flush()

    def close(self) -> None:
        """Write the rest, and let go of everything; the next use continues the same file."""
        opened = filter(None, (self._main, self._joined))
        self._main = self._joined = None
        for writer in opened:
            writer.close()

    def _make(
        self, log_dir: str, name: str, run: RunInfo | None, *, waits: bool, purge_step: int | None = None
    ) -> RunWriter:
        from rankzero_tensorboard.run_writer import RunWriter

        began = time.time() if run is None else run.started
        return RunWriter(
            log_dir,
            name + self._suffix,
            began,
            waits=waits,
            flush_secs=self._flush_secs,
            purge_step=purge_step,
        )

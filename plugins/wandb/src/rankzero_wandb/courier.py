"""The session of a logger to which a courier delivers: each event of the journal is in W&B once."""

from __future__ import annotations

import functools
import os
import platform
import re
import signal
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.loggers.adapter import OfflineSession
from rankzero.processes import start_time
from rankzero_wandb.confirmation import Confirmation, ReadBack
from rankzero_wandb.opening import define_step, mark_as_synced, open_for_courier, opening
from rankzero_wandb.options import WandbOptions
from rankzero_wandb.rows import History, State, Summaries
from rankzero_wandb.session import WandbSession, known_runs, our_runs
from rankzero_wandb.system_metrics import send_system_metrics

if TYPE_CHECKING:
    from rankzero_wandb.logger import WandbLogger

_UNUSABLE = re.compile(r"[^\w.-]+")

_sessions: weakref.WeakValueDictionary[str, CourierSession] = weakref.WeakValueDictionary()
"""Those of this process that have opened a run, by its id."""
_locks: dict[str, threading.RLock] = {}
"""Held while a run is opened, by its id: couriers in threads would open it twice, which W&B's client cannot."""


class DisabledSession(OfflineSession):
    """Writes nothing, and has a run for scripts that does nothing."""

    @functools.cached_property
    def experiment(self) -> Any:
        import wandb

        return wandb.init(mode="disabled", reinit="create_new")


class CourierSession(WandbSession):
    """Opens the W&B run of a rankzero run, or goes on with it.

    Args:
        logger: its logger.
        info: the rankzero run.
        params: hyperparameters that go with the request which opens the run.
        line: the line of the journal that they are from.

    Raises:
        TrackerUnavailableError: it cannot be opened now.
    """

    has_courier = True

    def __init__(self, logger: WandbLogger, info: RunInfo, params: Mapping[str, Any], line: int | None) -> None:
        super().__init__(logger)
        self._info = info
        self._options = logger.options
        self._id = str(self._options.id_of(info))
        self._state_file = state_file(self._options, info)
        self._opened_with = line
        known = State.load(self._state_file)
        if known is not None and known.client is not None:
            _end_orphan(*known.client)
        with _locks.setdefault(self._id, threading.RLock()), opening(self._id):
            self._end_what_is_left()
            is_ours = known is not None or self._is_known_as_ours()
            is_new = known is None or logger.is_offline
            self._run = open_for_courier(self._options, info, params, -1 if line is None else line, is_new=is_new)
            try:
                self._begin(known, is_ours=is_ours)
            except Exception:
                self.close()
                raise
            _sessions[self._id] = self

    def _end_what_is_left(self) -> None:
        """End what W&B's client has open under this id: it has each only once."""
        other = _sessions.get(self._id)
        if other is not None and other.run is not None:
            if other._state_file != self._state_file:
                raise TrackerUnavailableError(
                    f"another logger of this process has the W&B run {self._id} open, in another project; this one "
                    "waits until that has ended"
                )
            other.close()  # its courier is gone
        if (left := known_runs.pop(self._id, None)) is not None:
            left.finish()

    def _is_known_as_ours(self) -> bool:
        """Return whether the W&B run, if there is one, is from this rankzero run, and not one that goes on here."""
        if self._id == self._info.id or self.logger.is_offline:
            return True
        with suppress(Exception):  # there is none
            return bool(ReadBack.unopened(self._options, self._info).mark().get("run") == self._info.id)
        return False

    def _begin(self, known: State | None, *, is_ours: bool) -> None:
        known_runs[self._id] = self._run
        our_runs.add(self._run)
        self.url = self._run.url or None
        self.state = known or State()
        self._summaries = Summaries(self.state)
        if not is_ours and self._run.starting_step:
            self.state.shifts = [(0, int(self._run.starting_step))]  # after the rows of an older run
        self.state.client = (platform.node(), os.getpid())
        self._save_state()
        read_back = None if self.logger.is_offline else ReadBack.of(self._run)
        is_alone = not self._run.settings._shared  # or W&B counts the rows of all who write to the run
        read_times = read_back.times if read_back is not None and is_alone else None
        self._history = History(self._run, self.state, self._save_state, read_times)
        define_step(self._run)
        for definition in self.state.definitions:
            self._define(definition)
        if read_back is not None:
            self._confirmation = Confirmation(self._run, Path(self._info.dir), self._history, read_back)

    def _save_state(self) -> None:
        self.state.save(self._state_file)

    @property
    def experiment(self) -> Any:
        self._history.share()
        return self._run

    def _log_row(self, row: dict[str, Any], context: LogContext, has_files: bool) -> None:
        self._history.log({**row, "_timestamp": context.time}, context.line, has_files=has_files)

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        super().write_metrics([row for row in rows if not row.is_system])
        is_wanted = not self._options.settings.get("x_disable_stats")
        for row in rows if is_wanted else ():
            if row.is_system:
                send_system_metrics(self._run, row)
                if self._confirmation is not None:
                    self._confirmation.system_rows += 1

    def write_params(self, params: dict[str, Any], context: LogContext) -> None:
        if context.line is None or context.line != self._opened_with:
            super().write_params(params, context)

    # Acknowledged and ended

    def flush(self) -> None:
        self._push_summaries()
        if self._confirmation is not None:
            try:
                self._confirmation.wait()
            except Exception:
                if self._confirmation.is_hopeless:
                    self._give_up()
                raise
        self._save_state()

    def _give_up(self) -> None:
        """Have the run opened anew the next time."""
        self.close()
        self.logger.discard()

    def finish(self, status: int, time: float) -> None:
        try:
            self._push_summaries()
            if self._confirmation is not None:
                self._confirmation.wait_before_the_end()
            self._run.finish(exit_code=status)
            if self._confirmation is not None:
                self._confirmation.check_at_the_end()
                mark_as_synced(self._options, self._info)
            elif (line := self.logger.context.line) is not None:
                self.state.ended = line + 1
            self._save_state()
            self._run = None
        finally:
            self._give_up()

    def close(self) -> None:
        if self._confirmation is not None and self._confirmation.is_hopeless:
            self.state.has_gaps = True
            self._save_state()
        run, self._run = self._run, None
        if run is not None:
            with suppress(Exception):  # what counts is acknowledged
                run.finish()


def state_file(options: WandbOptions, run: RunInfo) -> Path:
    """Return where the state of a run is kept, of which several loggers may write to W&B."""
    offline = "offline" if options.mode == "offline" else None
    parts = [options.wanted("entity"), options.project_of(run), options.id_of(run), offline]
    target = "-".join(str(part) for part in parts if part)
    return Path(run.dir, f"wandb-{_UNUSABLE.sub('-', target)}.json")


def _end_orphan(host: str, pid: int) -> None:
    """End the ``wandb-core`` of a courier that was killed; what it was to send is in the journal.

    Some wait for hours, and may then send what another courier has sent since. Only on Linux, and on the machine
    where it is.
    """
    if host == platform.node() and not start_time(pid):
        for core in _cores_of(pid):
            with suppress(OSError):
                os.kill(core, signal.SIGKILL)


def _cores_of(pid: int) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = process.joinpath("cmdline").read_bytes().split(b"\0")
            if arguments[0].endswith(b"/wandb-core") and str(pid).encode() in arguments[1:]:
                yield int(process.name)

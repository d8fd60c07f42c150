"""The session of a courier: writes each event of the journal to W&B exactly once."""

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

from rankzero.errors import RejectedError, TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.events.structs import Graph, Metrics
from rankzero.files.writing import read_own_json
from rankzero.journal.rewinds import read_rows, read_superseded
from rankzero.loggers.adapter import OfflineSession
from rankzero.loggers.dispatch import dispatch
from rankzero.loggers.sdk_errors import translated
from rankzero.processes import start_time
from rankzero.rundir.layout import JOURNAL
from rankzero_wandb.confirmation import Confirmation, ReadBack
from rankzero_wandb.opening import (
    OPENING_ERRORS,
    define_step,
    mark_as_synced,
    open_for_courier,
    opening,
    read_failure,
)
from rankzero_wandb.options import WandbOptions
from rankzero_wandb.rows import History, State, Summaries, send_system_metrics
from rankzero_wandb.session import WandbSession, known_runs, metric_name, our_runs

if TYPE_CHECKING:
    from rankzero_wandb.logger import WandbLogger

_UNUSABLE = re.compile(r"[^\w.-]+")

_sessions: weakref.WeakValueDictionary[str, CourierSession] = weakref.WeakValueDictionary()
"""Run id → the session of this process that opened the run."""
_locks: dict[str, threading.RLock] = {}
"""Run id → lock held while the run is opened: W&B's client cannot open it in two threads."""


class DisabledSession(OfflineSession):
    """Writes nothing; its experiment is a disabled W&B run."""

    @functools.cached_property
    def experiment(self) -> Any:
        import wandb

        return wandb.init(mode="disabled", reinit="create_new")


class CourierSession(WandbSession):
    """Creates or resumes the W&B run of a rankzero run.

    Args:
        logger: its logger.
        info: the rankzero run.
        params: hyperparameters to send with the request that opens the run.
        line: the journal line of these hyperparameters.

    Raises:
        TrackerUnavailableError: the run cannot be opened now.
    """

    has_courier = True

    def __init__(self, logger: WandbLogger, info: RunInfo, params: Mapping[str, Any], line: int | None) -> None:
        super().__init__(logger)
        self._info = info
        self._options = logger.options
        self._id = str(self._options.id_of(info))
        self._state_file = state_file(self._options, info)
        self._journal = Path(info.dir, JOURNAL)
        self._opened_with = line
        self._rewound_at: int | None = None  # the line of the rewind after which the session was opened
        known = read_own_json(self._state_file, State)
        if known is not None and known.client is not None:
            _kill_orphan(*known.client)
        with _locks.setdefault(self._id, threading.RLock()), opening(self._id):
            self._close_previous()
            is_ours = known is not None or self._is_own_run()
            is_new = known is None or logger.is_offline
            self._run = open_for_courier(self._options, info, params, -1 if line is None else line, is_new=is_new)
            try:
                self._begin(known, is_ours=is_ours)
            except Exception:
                self.close()
                raise
            _sessions[self._id] = self

    def _close_previous(self) -> None:
        """Close what is open under this id: W&B's client cannot open a run twice."""
        other = _sessions.get(self._id)
        if other is not None and other.run is not None:
            if other._state_file != self._state_file:
                raise TrackerUnavailableError(
                    f"another logger of this process has the W&B run {self._id} open, in another project; this one "
                    "waits until it ends"
                )
            other.close()  # its courier has ended
        if (run := known_runs.pop(self._id, None)) is not None:
            run.finish()

    def _is_own_run(self) -> bool:
        """Return whether an existing W&B run was created by this rankzero run."""
        if self._id == self._info.id or self.logger.is_offline:
            return True
        with suppress(Exception):  # it does not exist
            return bool(ReadBack.unopened(self._options, self._info).mark().get("run") == self._info.id)
        return False

    def _begin(self, known: State | None, *, is_ours: bool) -> None:
        known_runs[self._id] = self._run
        our_runs.add(self._run)
        self.url = self._run.url or None
        self.state = known or State()
        self._summaries = Summaries(self.state)
        if not is_ours and self._run.starting_step:
            self.state.shifts = [(0, int(self._run.starting_step))]  # after the existing rows
        self.state.client = (platform.node(), os.getpid())
        self._save_state()
        read_back = None if self.logger.is_offline else ReadBack.of(self._run)
        is_alone = not self._run.settings._shared  # if shared, W&B counts the rows of all writers
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
        sends_system_metrics = not self._options.settings.get("x_disable_stats")
        for row in rows if sends_system_metrics else ():
            if row.is_system:
                send_system_metrics(self._run, row)
                if self._confirmation is not None:
                    self._confirmation.system_rows += 1

    def write_params(self, params: dict[str, Any], context: LogContext) -> None:
        if context.line is None or context.line != self._opened_with:
            super().write_params(params, context)

    # Rewinds

    def rewind(self, step: int, context: LogContext) -> int | None:
        """Delete from W&B what a rewind superseded, and all later rows; continue in a new session.

        If the courier is killed before W&B has confirmed the rows that are logged again, the next one repeats it.

        Returns:
            The journal line from which on rows must be logged again; None if none was deleted.
        """
        if self.logger.is_offline:
            self.logger.warn_of_rewind(step, ": the files of an offline run cannot be rewound")
            return None
        line, interrupted = context.line, self.state.rewound_from
        if line is None or line == self._rewound_at:
            return None
        first = self._first_superseded(line) if interrupted is None else interrupted
        if first is None:
            return None
        if self._run.settings._shared or self.state.is_shared or self.state.has_late_rows:
            self.logger.warn_of_rewind(step, ": its rows are not only those of the journal, in its order")
            return None
        try:
            with translated(OPENING_ERRORS, "the run cannot be rewound in W&B", read=read_failure):
                self._end_run(0)  # W&B rewinds only a run that has ended
                self.state.rewound_from = first
                self._save_state()
                ReadBack.of(self._run).rewind(self.state.number(first) - 1)
        except RejectedError as error:
            self.state.rewound_from = interrupted
            self._save_state()
            self.logger.warn_of_rewind(step, f": {error}")
            return interrupted
        finally:
            self._reopen_later()
        self.logger.session.continue_rewound(first, line)
        return first

    def _first_superseded(self, line: int) -> int | None:
        """Return the first line before a rewind that is superseded and whose row is in W&B; None if there is none."""
        superseded = {self.state.number(each.number): each.number for each, _ in read_superseded(self._journal, line)}
        found = ReadBack.of(self._run).numbers(min(superseded), max(superseded) + 1) if superseded else ()
        return next((superseded[number] for number in found if number in superseded), None)

    def continue_rewound(self, first: int, line: int) -> None:
        """Restore summaries and graphs from the lines before ``first``, after the rewind of a line has deleted them."""
        if self._run.starting_step > self.state.number(first):
            raise TrackerUnavailableError("W&B still has the rows that it was asked to delete")
        self._rewound_at = line
        self.state.line, self.state.values = 0, {}
        for each, event in read_rows(self._journal, 0, first):
            if isinstance(event, Metrics) and not (row := event.row(each.number)).is_system:
                values = self.logger.named(row).values
                self._summaries.add({metric_name(name): value for name, value in values.items()}, each.number)
            elif isinstance(event, Graph):
                with suppress(RejectedError):  # its file was deleted
                    dispatch(event, self.logger, Path(self._info.dir))

    # Confirmation, end

    def _push_summaries(self) -> None:
        super()._push_summaries()
        for name, value in self._history.take_newest().items():
            if not self._summaries.has(name):
                self._run.summary[name] = value

    def flush(self) -> None:
        self._push_summaries()
        if self._confirmation is not None:
            try:
                self._confirmation.wait()
            except Exception:
                if self._confirmation.has_lost_data:
                    self._reopen_later()
                raise
        self._save_state()

    def _reopen_later(self) -> None:
        """Close the run; the next event opens it again."""
        self.close()
        self.logger.discard()

    def finish(self, status: int, time: float) -> None:
        try:
            self._end_run(status)
            if self._confirmation is not None:
                mark_as_synced(self._options, self._info)
            elif (line := self.logger.context.line) is not None:
                self.state.ended = line + 1
            self._save_state()
            self._run = None
        finally:
            self._reopen_later()

    def _end_run(self, status: int) -> None:
        self._push_summaries()
        if self._confirmation is not None:
            self._confirmation.wait_before_finish()
        self._run.finish(exit_code=status)
        if self._confirmation is not None:
            self._confirmation.check_after_finish()

    def close(self) -> None:
        if self._confirmation is not None and self._confirmation.has_lost_data:
            self.state.has_gaps = True
            self._save_state()
        run, self._run = self._run, None
        if run is not None:
            with suppress(Exception):  # W&B has all acknowledged data
                run.finish()


def state_file(options: WandbOptions, run: RunInfo) -> Path:
    """Return the path of the state file, one for each W&B run to which a rankzero run is logged."""
    offline = "offline" if options.mode == "offline" else None
    parts = [options.value_of("entity"), options.project_of(run), options.id_of(run), offline]
    target = "-".join(str(part) for part in parts if part)
    return Path(run.dir, f"wandb-{_UNUSABLE.sub('-', target)}.json")


def _kill_orphan(host: str, pid: int) -> None:
    """Kill the ``wandb-core`` of a courier that was killed.

    It may live for hours, and then send rows that another courier has sent since. Works only on Linux, and on the same
    machine.
    """
    if host == platform.node() and not start_time(pid):
        for core in _core_pids(pid):
            with suppress(OSError):
                os.kill(core, signal.SIGKILL)


def _core_pids(pid: int) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = process.joinpath("cmdline").read_bytes().split(b"\0")
            if arguments[0].endswith(b"/wandb-core") and str(pid).encode() in arguments[1:]:
                yield int(process.name)

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
        self._opened_with = line
        known = State.load(self._state_file)
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

    # Confirmation, end

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
            self._push_summaries()
            if self._confirmation is not None:
                self._confirmation.wait_before_finish()
            self._run.finish(exit_code=status)
            if self._confirmation is not None:
                self._confirmation.check_after_finish()
                mark_as_synced(self._options, self._info)
            elif (line := self.logger.context.line) is not None:
                self.state.ended = line + 1
            self._save_state()
            self._run = None
        finally:
            self._reopen_later()

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

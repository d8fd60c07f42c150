"""The session of a logger to which a courier delivers: each event of the journal is in W&B once."""

from __future__ import annotations

import os
import platform
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rankzero.errors import DeliveryError, TrackerUnavailableError
from rankzero.events.run_info import LogContext, RunInfo
from rankzero.values import Number
from rankzero_wandb.confirmation import Confirmation
from rankzero_wandb.failures import opening
from rankzero_wandb.history import History
from rankzero_wandb.opening import define_step, mark_as_synced, open_for_courier
from rankzero_wandb.orphans import end_orphan
from rankzero_wandb.readback import MARK, ReadBack
from rankzero_wandb.session import EXIT_CODES, Session, known_runs, our_runs
from rankzero_wandb.settings import Settings
from rankzero_wandb.state import State, StateFile
from rankzero_wandb.summaries import Summaries
from rankzero_wandb.upload_log import UploadLog

_sessions: weakref.WeakValueDictionary[str, CourierSession] = weakref.WeakValueDictionary()
"""Those of this process that have opened a run, by its id."""
_locks: dict[str, threading.RLock] = {}
"""Held while a run is opened, by its id: couriers in threads would open it twice, which W&B's client cannot."""


class CourierSession(Session):
    """Goes on with the W&B run of a rankzero run.

    Args:
        settings: what the user said of the run.
        run: the rankzero run.
    """

    has_courier = True

    def __init__(self, settings: Settings, run: RunInfo) -> None:
        super().__init__(settings)
        self._info = run

    def _forget(self) -> None:
        super()._forget()
        self._params: dict[str, Any] = {}
        self._state = State()
        self._last_line = -1  # of those that are in W&B's console, or were told to people
        self._history: History | None = None  # of a run that is not disabled
        self._confirmation: Confirmation | None = None  # of a run that is sent to W&B

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "url": self.url, "_info": self._info}

    # Open

    @property
    def id(self) -> str | None:
        return self.settings.id_of(self._info)

    @property
    def _state_file(self) -> StateFile:
        return StateFile(self._info.dir, self._target)

    @property
    def _target(self) -> str:
        return self.settings.target_of(self._info)

    @property
    def lines_ended_offline(self) -> int:
        """How many lines of the journal are in files that W&B's client has ended."""
        state = self._state_file.load()
        return state.ended if state is not None else 0

    def _open(self, line: int) -> None:
        known = self._state_file.load()
        if known is not None and known.client is not None:
            end_orphan(*known.client)
        with _locks.setdefault(str(self.id), threading.RLock()), opening(self.id):
            self._end_what_is_left()
            is_ours = known is not None or self._is_known_as_ours()
            is_new = known is None or self.settings.is_offline
            self._run = open_for_courier(self.settings, self._info, self._params, line, is_new=is_new)
            our_runs.add(self._run)
            try:
                if not self.settings.is_disabled:
                    self._begin_acknowledging(known, is_ours=is_ours)
            except Exception:
                self.close()
                raise
            _sessions[str(self.id)] = self

    def _end_what_is_left(self) -> None:
        """End what W&B's client has open under this id: it has each only once."""
        other = _sessions.get(str(self.id))
        if other is not None and other is not self and other.is_open:
            if other._target != self._target:
                raise TrackerUnavailableError(
                    f"another logger of this process has the W&B run {self.id} open, in another project; this one "
                    "waits until that has ended"
                )
            other.close()  # its courier is gone
        if (left := known_runs.pop(self.id or "", None)) is not None:
            left.finish()

    def _is_known_as_ours(self) -> bool:
        """Return whether the W&B run, if there is one, is from this rankzero run, and not one that goes on here."""
        if self.id == self._info.id or not self.settings.is_online:
            return True
        settings = self.settings
        path = "/".join(filter(None, [settings.entity, settings.project_of(self._info), self.id]))
        with suppress(Exception):  # there is none
            read_back = ReadBack(path, settings.base_url, settings.for_client.get("api_key"))
            return read_back.mark().get("run") == self._info.id
        return False

    def _begin_acknowledging(self, known: State | None, *, is_ours: bool) -> None:
        self._state = known or State()
        self._graphs = self._state.graphs
        if not is_ours and self._run.starting_step:
            self._state.shifts = [(0, int(self._run.starting_step))]  # after the rows of an older run
        self._state.client = (platform.node(), os.getpid())
        self._summaries = Summaries(self._state.definitions, self._state.values)
        self._save_state()
        uploads = UploadLog(Path(self._run.settings.log_internal))
        read_back = ReadBack.of(self._run) if self.settings.is_online else None
        is_alone = not self._run.settings._shared  # W&B counts the rows of all who write to a run
        history = History(self._run, self._state, self._save_state, uploads, read_back if is_alone else None)
        define_step(self._run)
        for definition in self._state.definitions:
            self._tell(definition)
        if read_back is not None:
            self._confirmation = Confirmation(self._run, Path(self._info.dir), history, uploads, read_back)
        self._history = history

    def share(self) -> None:
        """Note that the script may log rows itself."""
        with self._opening:
            self._open_if_need_be()
            if self._history is not None and not self._state.is_shared:
                self._history.share()
                self._state.is_shared = True
                self._save_state()

    def is_new(self, line: int | None) -> bool:
        with self._opening:
            self._open_if_need_be()
            if line is None or line <= self._last_line:
                return line is None
            self._last_line = line
            return True

    def _save_state(self) -> None:
        self._state.definitions = self._summaries.definitions
        self._state_file.save(self._state)

    # Rows

    def _log_row(self, row: dict[str, Any], context: LogContext, has_files: bool) -> None:
        self._open_if_need_be((context.line or 0) - 1)
        row["_timestamp"] = context.time
        if self._history is None:
            self._run.log(row)
        elif context.line is None:
            self._history.append(row)
        else:
            self._history.log(row, context.line, has_files=has_files)
        if has_files:
            self.expect_files()

    def summarise(self, values: Mapping[str, Number], context: LogContext) -> None:
        if self._summaries.definitions and (context.line is None or context.line >= self._state.line):
            self._summaries.add(values)
            self._state.line = self._state.line if context.line is None else context.line + 1

    # Settings and files

    def configure(self, params: dict[str, Any], line: int | None) -> None:
        with self._opening:
            if self._run is None and line is not None and not self._params:
                self._params = params  # go with the request that opens the run
                self._open_if_need_be(line)
                return
        self._params = {}  # with which the run could not be opened: maybe because of them
        super().configure(params, line)

    def settle(self, line: int | None) -> None:
        if self._confirmation is not None and line is not None:
            self._confirmation.expect_settings(line)
            said = self._run.config.get(MARK) or {}
            self._run.config.update({MARK: {**said, "line": line}}, allow_val_change=True)

    def expect_artifact(self, artifact: Any) -> None:
        if self._confirmation is not None:
            self._confirmation.expect_artifact(artifact)

    def expect_files(self) -> None:
        if self._confirmation is not None:
            self._confirmation.expect_files()

    # Acknowledged and ended

    def wait(self) -> None:
        """Wait until W&B has everything.

        Raises:
            DeliveryError: see `Confirmation.wait`.
        """
        if self._run is None or self._history is None:
            return
        self._push_summaries()
        if self._confirmation is not None:
            try:
                self._confirmation.wait()
            except DeliveryError:
                if self._confirmation.is_hopeless:
                    self.close()
                raise
        self._save_state()

    def end(self, status: str, line: int | None) -> None:
        """Have the run ended, and be sure that W&B has everything.

        Raises:
            DeliveryError: see `Confirmation.check_at_the_end`.
        """
        self._open_if_need_be()
        try:
            self._finish(EXIT_CODES.get(status, 1))
            if self.settings.is_offline and line is not None:
                self._state.ended = line + 1
            if self._history is not None:
                self._save_state()
            self._run = None
        finally:
            self.close()

    def _finish(self, exit_code: int) -> None:
        self._push_summaries()
        if self._confirmation is not None:
            self._confirmation.wait_before_the_end()
        self._run.finish(exit_code=exit_code)
        if self._confirmation is not None:
            self._confirmation.check_at_the_end()
            mark_as_synced(self.settings, self._info)

    def close(self) -> None:
        """Have the run opened anew the next time."""
        run = self._run
        if self._confirmation is not None and self._confirmation.is_hopeless:
            self._state.has_gaps = True
            self._save_state()
        self._forget()
        if run is not None:
            with suppress(Exception):  # what counts is acknowledged
                run.finish()

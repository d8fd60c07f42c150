"""Wait until W&B has what its client was given: the client says of most things neither that nor the opposite."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from rankzero.errors import FlushPostponedError, TrackerUnavailableError
from rankzero.rundir.writer_lock import Writer, writer_state
from rankzero.waiting import wait_until
from rankzero_wandb.client import MOST_NAMES, ReadBack, UploadError, UploadLog
from rankzero_wandb.history import History

_TIMEOUT = 30.0  # seconds without progress
_SLOWEST = 50_000  # bytes a second at which files are uploaded
_ARTIFACT_TIMEOUT = 3600
_POLL = 0.02  # the client's log
_ASK_EVERY = 2.0  # W&B itself
_ASK_AGAIN_AFTER = 0.5  # if its client says that it has uploaded something
_ASK_ROWS_EVERY = (0.25, 4.0)  # at first and at most: W&B may take a moment to count what it was sent


class Confirmation:
    """Knows what is on its way in one opening of a run.

    Args:
        run: W&B's run.
        run_dir: the directory of the rankzero run.
        history: its rows.
        read_back: asks W&B itself.
    """

    def __init__(self, run: Any, run_dir: Path, history: History, read_back: ReadBack) -> None:
        self._run = run
        self._run_dir = run_dir
        self._history = history
        self._read_back = read_back
        self._uploads = UploadLog(Path(run.settings.log_internal))
        self._unsettled: int | None = None  # the line of the newest setting that W&B may lack
        self._has_files = False  # that are not looked for yet
        self._missing: dict[str, int] = {}  # files that W&B may lack, with their sizes
        self._artifacts: list[Any] = []
        self._is_lost = False  # something that W&B's client will not send again by itself
        self._is_postponed = False
        self._asked_of, self._asked_at, self._ask_after = 0, -math.inf, _ASK_ROWS_EVERY[0]  # for rows

    # What to wait for

    def expect_settings(self, line: int) -> None:
        """Expect the setting in a line of the journal."""
        self._unsettled = line

    def expect_artifact(self, artifact: Any) -> None:
        """Expect an artifact that was logged."""
        self._artifacts.append(artifact)

    def expect_files(self) -> None:
        """Expect all media that lie in the run's directory; those that have arrived are deleted there."""
        self._has_files = True

    # Waiting

    @property
    def is_hopeless(self) -> bool:
        """Whether W&B's client will not send everything however long one waits."""
        return self._is_lost or self._uploads.fatal is not None

    def wait(self) -> None:
        """Wait until W&B has everything.

        Raises:
            TrackerUnavailableError: it does not say so.
            UploadError: its client has given up some of it.
            FlushPostponedError: training is over, and its end may be near, at which W&B's client sends all at once.
        """
        self._wait_for_rows()
        self._wait_for_artifacts()
        self._wait_for_files_and_settings()
        self._history.note_acknowledged()
        self._is_postponed = False

    def wait_before_the_end(self) -> None:
        """Wait for what W&B's client, when it ends a run, does not wait for, or not long enough."""
        self._is_postponed = True
        self._find_files()
        if sum(self._missing.values()) > _SLOWEST * _TIMEOUT:
            self.wait()
        else:
            self._wait_for_artifacts()

    def check_at_the_end(self) -> None:
        """Make sure that W&B has everything of a run that its client has ended; raises what `wait` does."""
        self._check_uploads()
        if not self._uploads.is_complete:
            raise TrackerUnavailableError("W&B has not confirmed that it has all of the run")
        self._wait_for_rows()
        self._is_postponed = True
        self._wait_for_files_and_settings()
        is_last = self._run.settings.x_update_finish_state and not self._run.settings._shared
        if is_last and not wait_until(self._read_back.has_ended, _TIMEOUT, _ASK_EVERY):
            raise TrackerUnavailableError(f"W&B has not noticed for {_TIMEOUT:.0f} s that the run has ended")
        self._history.note_acknowledged()

    # Rows

    def _wait_for_rows(self) -> None:
        seen, deadline = -1, math.inf
        while not self._have_rows_arrived():
            if self._uploads.rows > seen:
                seen, deadline = self._uploads.rows, time.monotonic() + _TIMEOUT
            if time.monotonic() > deadline:
                self._is_lost = seen >= self._history.logged  # as far as its client knows
                raise TrackerUnavailableError(f"W&B has not taken rows for {_TIMEOUT:.0f} s")
            time.sleep(_POLL)

    def _have_rows_arrived(self) -> bool:
        self._uploads.read()
        is_sent = self._uploads.rows >= self._history.logged
        # W&B counts the rows of all who write to a shared run.
        if not is_sent or self._history.logged == 0 or self._run.settings._shared:
            return is_sent
        if self._uploads.rows != self._asked_of:
            self._asked_of, self._ask_after = self._uploads.rows, _ASK_ROWS_EVERY[0]
        elif time.monotonic() - self._asked_at < self._ask_after:
            return False
        else:
            self._ask_after = min(2 * self._ask_after, _ASK_ROWS_EVERY[1])
        if self._history.is_shared:  # the rows that were sent are not only ours
            has_arrived = self._read_back.last_number() >= self._history.next_number - 1
        else:
            has_arrived = self._read_back.rows() >= self._uploads.end
        self._asked_at = time.monotonic()
        return has_arrived

    # Artifacts, files, settings

    def _wait_for_artifacts(self) -> None:
        while self._artifacts:
            artifact = self._artifacts[0]
            try:
                artifact.wait(timeout=_ARTIFACT_TIMEOUT)
            except Exception as error:
                self._is_lost = True  # its row, if it is a table, is not logged twice in one opening
                if not isinstance(error, ValueError):  # which is what W&B's client raises whatever hindered it
                    raise
                self._uploads.read()
                causes = [self._uploads.failures.pop(name, "") for name in artifact.manifest.entries]
                raise UploadError(" ".join(filter(None, [str(error), *causes]))) from error
            del self._artifacts[0]

    def _wait_for_files_and_settings(self) -> None:
        self._find_files()
        deadline = time.monotonic() + _TIMEOUT + sum(self._missing.values()) / _SLOWEST
        asked_at, uploaded = -math.inf, self._uploads.files
        while self._missing or self._unsettled is not None:
            has_news = self._uploads.files != uploaded
            if time.monotonic() - asked_at >= (_ASK_AGAIN_AFTER if has_news else _ASK_EVERY):
                asked_at, uploaded = time.monotonic(), self._uploads.files
                if self._ask():
                    asked_at = -math.inf
                continue
            self._check_uploads()
            if not self._is_postponed and writer_state(self._run_dir) is not Writer.ALIVE:
                self._is_postponed = True
                raise FlushPostponedError("W&B's client sends files and settings every five seconds")
            if time.monotonic() > deadline:
                lacking = ", ".join(sorted(self._missing)[:3]) or "the newest settings"
                raise TrackerUnavailableError(f"W&B has not taken {lacking}")
            time.sleep(_POLL)

    def _find_files(self) -> None:
        directory = Path(self._run.dir)
        for path in (directory / "media").rglob("*") if self._has_files else ():
            if path.is_file():
                self._missing[path.relative_to(directory).as_posix()] = path.stat().st_size
        self._has_files = False

    def _ask(self) -> bool:
        """Ask W&B what it has of some that may be missing; return whether all of that has arrived."""
        some = list(self._missing)[:MOST_NAMES]  # not for thousands again and again
        sizes = self._read_back.sizes(some) if some else {}
        for name in some:
            if sizes.get(name) == self._missing[name]:
                del self._missing[name]
                Path(self._run.dir, name).unlink(missing_ok=True)
        if self._unsettled is not None and self._read_back.mark().get("line", -1) >= self._unsettled:
            self._unsettled = None
        return self._unsettled is None and not any(name in self._missing for name in some)

    def _check_uploads(self) -> None:
        """Raise if something that is waited for will not be uploaded."""
        self._uploads.read()
        failures = self._uploads.failures
        lost = [reason for name, reason in failures.items() if name in self._missing or (self._missing and not name)]
        if self._unsettled is not None and self._uploads.settings_failure:
            lost.append(self._uploads.settings_failure)
        if lost:
            self._is_lost = True
            raise UploadError(lost[0])

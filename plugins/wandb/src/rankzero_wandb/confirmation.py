"""Waiting until W&B has what was handed to its client, which says of most things neither that nor the opposite."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankzero.errors import DeliveryError, FlushPostponedError, TrackerUnavailableError
from rankzero.rundir.writer_lock import Writer, writer_state
from rankzero_wandb.failures import refused, translated
from rankzero_wandb.history import History
from rankzero_wandb.readback import MOST_NAMES, ReadBack
from rankzero_wandb.upload_log import UploadLog

_PATIENCE = 30.0  # seconds without a word from W&B
_SLOWEST = 50_000  # bytes a second at which files are uploaded
_ARTIFACT_PATIENCE = 3600.0
_LOOK_EVERY = 0.02
_ASK_EVERY = 2.0  # W&B itself
_ASK_AGAIN_AFTER = 0.5  # if its client says that it has uploaded something


class Confirmation:
    """Knows what is on its way in one opening of a run.

    Args:
        run: W&B's run.
        run_dir: the directory of the rankzero run.
        history: its rows.
        uploads: what was uploaded.
        read_back: asks W&B itself.
    """

    def __init__(self, run: Any, run_dir: Path, history: History, uploads: UploadLog, read_back: ReadBack) -> None:
        self._run = run
        self._run_dir = run_dir
        self._history = history
        self._uploads = uploads
        self._unsettled: int | None = None  # the line of the newest setting that W&B may lack
        self._has_files = False  # that are not looked for yet
        self._missing: dict[str, int] = {}  # files that W&B may lack, with their sizes
        self._artifacts: list[Any] = []
        self._read_back = read_back
        self._is_lost = False  # something that W&B's client will not send again by itself
        self._is_postponed = False

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

    def _find_files(self) -> None:
        if not self._has_files:
            return
        directory = Path(self._run.dir)
        for path in (directory / "media").rglob("*"):
            if path.is_file():
                self._missing[path.relative_to(directory).as_posix()] = path.stat().st_size
        self._has_files = False

    # Waiting

    @property
    def is_hopeless(self) -> bool:
        """Whether W&B's client will not send everything however long one waits."""
        return self._is_lost or self._uploads.fatal is not None

    def wait(self) -> None:
        """Wait until W&B has everything.

        Raises:
            TrackerUnavailableError: it does not say so.
            RejectedError: it never takes some of it.
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
        if sum(self._missing.values()) > _SLOWEST * _PATIENCE:
            self.wait()
        else:
            self._wait_for_artifacts()

    def check_at_the_end(self) -> None:
        """Make sure that W&B has everything of a run that its client has ended.

        Raises:
            TrackerUnavailableError: it does not say so.
            RejectedError: it never takes some of it.
        """
        self._check_uploads()
        if not self._uploads.is_complete:
            raise TrackerUnavailableError("W&B has not confirmed that it has all of the run")
        self._wait_for_rows()
        self._is_postponed = True
        self._wait_for_files_and_settings()
        self._wait_for_the_end()
        self._history.note_acknowledged()

    def _wait_for_rows(self) -> None:
        seen, deadline = -1, time.monotonic() + _PATIENCE
        while True:
            is_acknowledged = self._history.is_acknowledged()
            if self._uploads.fatal:
                raise refused(self._uploads.fatal)
            if is_acknowledged:
                return
            if self._uploads.rows > seen:
                seen, deadline = self._uploads.rows, time.monotonic() + _PATIENCE
            if time.monotonic() > deadline:
                self._is_lost = self._history.is_sent  # as far as its client knows
                raise TrackerUnavailableError(f"W&B has not taken rows for {_PATIENCE:.0f} s")
            time.sleep(_LOOK_EVERY)

    def _wait_for_the_end(self) -> None:
        if not self._run.settings.x_update_finish_state or self._run.settings._shared:
            return  # others write to the run, too
        deadline = time.monotonic() + _PATIENCE
        while not self._read_back.progress().has_ended:
            if time.monotonic() > deadline:
                raise TrackerUnavailableError(f"W&B has not noticed for {_PATIENCE:.0f} s that the run has ended")
            time.sleep(_ASK_EVERY)

    def _wait_for_artifacts(self) -> None:
        while self._artifacts:
            try:
                with translated("W&B has not taken an artifact"):
                    self._wait_for_artifact(self._artifacts[0])
            except DeliveryError:
                self._is_lost = True  # its row, if it is a table, is not logged twice in one opening
                raise
            del self._artifacts[0]

    def _wait_for_artifact(self, artifact: Any) -> None:
        try:
            artifact.wait(timeout=int(_ARTIFACT_PATIENCE))
        except ValueError as error:  # whatever hindered W&B's client
            self._uploads.read()
            causes = [self._uploads.failures.pop(name, "") for name in artifact.manifest.entries]
            raise refused(" ".join(filter(None, [str(error), *causes]))) from error

    def _wait_for_files_and_settings(self) -> None:
        self._find_files()
        deadline = time.monotonic() + _PATIENCE + sum(self._missing.values()) / _SLOWEST
        asked_at, uploaded = -math.inf, self._uploads.files
        while self._missing or self._unsettled is not None:
            has_news = self._uploads.files != uploaded
            if time.monotonic() - asked_at >= (_ASK_AGAIN_AFTER if has_news else _ASK_EVERY):
                asked_at, uploaded = time.monotonic(), self._uploads.files
                if self._ask():
                    asked_at = -math.inf
                continue
            self._check_uploads()
            self._postpone_once()
            if time.monotonic() > deadline:
                lacking = ", ".join(sorted(self._missing)[:3]) or "the newest settings"
                raise TrackerUnavailableError(f"W&B has not taken {lacking}")
            time.sleep(_LOOK_EVERY)

    def _postpone_once(self) -> None:
        if not self._is_postponed and writer_state(self._run_dir) is not Writer.ALIVE:
            self._is_postponed = True
            raise FlushPostponedError("W&B's client sends files and settings every five seconds")

    def _ask(self) -> bool:
        """Ask W&B what it has of some that may be missing; return whether all of that has arrived."""
        ask = self._read_back
        some = list(self._missing)[:MOST_NAMES]  # not for thousands again and again
        if some:
            self._arrived(ask.sizes(some))
        if self._unsettled is not None and ask.line() >= self._unsettled:
            self._unsettled = None
        return self._unsettled is None and not any(name in self._missing for name in some)

    def _arrived(self, sizes: Mapping[str, int]) -> None:
        for name, size in list(self._missing.items()):
            if sizes.get(name) == size:
                del self._missing[name]
                Path(self._run.dir, name).unlink(missing_ok=True)

    def _check_uploads(self) -> None:
        self._uploads.read()
        if self._uploads.fatal:
            raise refused(self._uploads.fatal)
        failures = self._uploads.failures
        lost = [reason for name, reason in failures.items() if name in self._missing or (self._missing and not name)]
        if self._unsettled is not None and self._uploads.settings_failure:
            lost.append(self._uploads.settings_failure)
        if lost:
            self._is_lost = True
            raise refused(lost[0])

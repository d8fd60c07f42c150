"""Wait until W&B has what its client was given.

``run.log`` and even ``run.finish`` return normally when everything was lost, and the client takes any answer with a
status of 2xx for success. So W&B itself is asked; the client's log says when that is worth it, and what it gave up.
"""

from __future__ import annotations

import functools
import json
import math
import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import FlushPostponedError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo, TrackedPoint
from rankzero.rundir.writer_lock import Writer, writer_state
from rankzero.values import NON_FINITE, to_int, to_number
from rankzero.waiting import wait_until
from rankzero_wandb.opening import MARK, STEP, UploadError
from rankzero_wandb.options import WandbOptions
from rankzero_wandb.rows import History

_MOST_NAMES = 50  # of files that are asked for in a request
_TIMEOUT = 30.0  # seconds without progress
_SLOWEST = 50_000  # bytes a second at which files are uploaded
_ARTIFACT_TIMEOUT = 3600
_POLL = 0.02  # the client's log
_ASK_EVERY = 2.0  # W&B itself
_ASK_AGAIN_AFTER = 0.5  # if its client says that it has uploaded something
_ASK_ROWS_EVERY = (0.25, 4.0)  # at first and at most: W&B may take a moment to count rows


class Confirmation:
    """Knows what is on its way in one opening of a run."""

    def __init__(self, run: Any, run_dir: Path, history: History, read_back: ReadBack) -> None:
        self._run = run
        self._run_dir = run_dir
        self._history = history
        self._read_back = read_back
        self._uploads = UploadLog(Path(run.settings.log_internal))
        self.unsettled: int | None = None
        """The line in the journal of the newest setting that is expected."""
        self.artifacts: list[Any] = []
        """The artifacts that are expected."""
        self.system_rows = 0
        """How many rows of system metrics W&B's client was given."""
        self.expects_files = False
        """Whether all media that lie in the run's directory are expected; those that have arrived are deleted there."""
        self._missing: dict[str, int] = {}  # files that W&B may lack, with their sizes
        self._is_lost = False  # something that W&B's client will not send again by itself
        self._is_postponed = False

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
        """Wait until W&B's client has sent the rows, and then until W&B has counted them."""
        sent, deadline = (-1, -1), math.inf
        while not self._uploads.read().has(self._history.logged, self.system_rows):
            if (now := (self._uploads.rows, self._uploads.system_rows)) != sent:
                sent, deadline = now, time.monotonic() + _TIMEOUT
            self._check_time(deadline)
            time.sleep(_POLL)
        pause, deadline = _ASK_ROWS_EVERY[0], time.monotonic() + _TIMEOUT
        while not self._has_counted_rows():
            self._is_lost = time.monotonic() > deadline  # as far as its client knows
            self._check_time(deadline)
            time.sleep(pause)
            pause = min(2 * pause, _ASK_ROWS_EVERY[1])
            self._uploads.read()

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TrackerUnavailableError(f"W&B has not taken rows for {_TIMEOUT:.0f} s")

    def _has_counted_rows(self) -> bool:
        if self._history.logged == 0 or self._run.settings._shared:  # then the rows of others are counted, too
            return True
        if self._history.state.is_shared:  # the rows that were sent are not only ours
            return self._read_back.last_number() >= self._history.next_number - 1
        return self._read_back.rows() >= self._uploads.end

    # Artifacts, files, settings

    def _wait_for_artifacts(self) -> None:
        while self.artifacts:
            artifact = self.artifacts[0]
            try:
                artifact.wait(timeout=_ARTIFACT_TIMEOUT)
            except Exception as error:
                self._is_lost = True  # its row, if it is a table, is not logged twice in one opening
                if not isinstance(error, ValueError):  # which is what W&B's client raises whatever hindered it
                    raise
                self._uploads.read()
                causes = [self._uploads.failures.pop(name, "") for name in artifact.manifest.entries]
                raise UploadError(" ".join(filter(None, [str(error), *causes]))) from error
            del self.artifacts[0]

    def _wait_for_files_and_settings(self) -> None:
        self._find_files()
        deadline = time.monotonic() + _TIMEOUT + sum(self._missing.values()) / _SLOWEST
        asked_at, uploaded = -math.inf, self._uploads.files
        while self._missing or self.unsettled is not None:
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
        for path in (directory / "media").rglob("*") if self.expects_files else ():
            if path.is_file():
                self._missing[path.relative_to(directory).as_posix()] = path.stat().st_size
        self.expects_files = False

    def _ask(self) -> bool:
        """Ask W&B what it has of some that may be missing; return whether all of that has arrived."""
        some = list(self._missing)[:_MOST_NAMES]  # not for thousands again and again
        sizes = self._read_back.sizes(some) if some else {}
        for name in some:
            if sizes.get(name) == self._missing[name]:
                del self._missing[name]
                Path(self._run.dir, name).unlink(missing_ok=True)
        if self.unsettled is not None and self._read_back.mark().get("line", -1) >= self.unsettled:
            self.unsettled = None
        return self.unsettled is None and not any(name in self._missing for name in some)

    def _check_uploads(self) -> None:
        """Raise if something that is waited for will not be uploaded."""
        self._uploads.read()
        failures = self._uploads.failures
        lost = [reason for name, reason in failures.items() if name in self._missing or (self._missing and not name)]
        if self.unsettled is not None and self._uploads.settings_failure:
            lost.append(self._uploads.settings_failure)
        if lost:
            self._is_lost = True
            raise UploadError(lost[0])


# What the client has uploaded

_OPENED = "stream: starting"
_SENDING = "filestream: sending request"
_SENT = "filestream: request sent"
_FATAL = "filestream: fatal error"
_NOT_JSON = "filestream: json decode error"
_FILES_FAILED = ("file transfer: upload: failed", "runfiles: CreateRunFiles returned error")
_SETTINGS_FAILED = "runupserter: failed to upload changes"
_OURS = tuple(f'"{begin}'.encode() for begin in ("filestream: ", "stream: ", *_FILES_FAILED, _SETTINGS_FAILED))
_FILE = re.compile(r"\bName: (.+), Url: ")


class _Line(msgspec.Struct):
    msg: str = ""
    history_offset: int | None = None
    history_lines: int = 0
    events_lines: int = 0
    uploaded_len: int = 0
    complete: bool = False
    error: str = ""
    task: str = ""

    @property
    def text(self) -> str:
        return " ".join(f"{self.msg} {self.error}".split())


class UploadLog:
    """Follows ``debug-internal.log``, which has a line of JSON before and after each request with rows (wandb 0.31)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._begin()

    def _begin(self) -> None:
        self._on_its_way = _Line()
        self._first: int | None = None  # where W&B had the first of our rows
        self.end = 0
        """How many rows W&B has in all if it has taken what was sent."""
        self.rows = 0
        """How many rows were sent of those that were logged since this opening."""
        self.system_rows = 0
        """How many rows of system metrics were sent since this opening."""
        self.files = 0
        """How many files were uploaded."""
        self.is_complete = False
        """Whether the end of the run was sent."""
        self.fatal: str | None = None
        """Why nothing will be uploaded any more; None if all is well."""
        self.failures: dict[str, str] = {}
        """Why a file will not be uploaded, by its path in the run; under "" why some will not."""
        self.settings_failure: str | None = None
        """Why the newest settings will not be uploaded by themselves."""

    def has(self, rows: int, system_rows: int) -> bool:
        """Return whether so many rows were sent."""
        return self.rows >= rows and self.system_rows >= system_rows

    def read(self) -> UploadLog:
        """Read what is new, and return this log.

        Raises:
            UploadError: nothing will be uploaded any more.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return self
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if any(begin in line for begin in _OURS):
                with suppress(msgspec.MsgspecError):
                    self._count(msgspec.json.decode(line, type=_Line))
        if self.fatal:
            raise UploadError(self.fatal)
        return self

    def _count(self, line: _Line) -> None:
        if line.msg == _OPENED:  # of two openings in one second this is the log of both
            self._begin()
        elif line.msg == _SENDING:
            self._on_its_way = line
        elif line.msg == _SENT:
            self._count_sent(self._on_its_way)
            self._on_its_way = _Line()
        elif line.msg.startswith(_FATAL):
            self.fatal = line.text.removeprefix(_FATAL).strip(": ") or "no reason"
        elif line.msg.startswith(_NOT_JSON):  # the client goes on, and what it sent is lost
            reason = line.text.removeprefix(_NOT_JSON).strip(": ")
            self.fatal = f"what answers is not W&B's API, but perhaps a login page or a proxy: {reason}"
        elif line.msg.startswith(_FILES_FAILED):
            file = _FILE.search(line.task)
            self.failures[file[1] if file else ""] = line.text
        elif line.msg == _SETTINGS_FAILED:
            self.settings_failure = line.text

    def _count_sent(self, request: _Line) -> None:
        if request.history_offset is not None:
            if self._first is None:
                self._first = request.history_offset
            self.end = request.history_offset + request.history_lines
            self.rows = self.end - self._first
        self.system_rows += request.events_lines
        self.files += request.uploaded_len
        self.is_complete = self.is_complete or request.complete


# What W&B itself has


@dataclass
class ReadBack:
    """Asks W&B for one run: its client reports nothing of files and settings, and takes any answer for success."""

    entity: str | None
    """The account or team; None for the user's own."""
    project: str
    run_id: str
    base_url: str | None
    """The server; the client's default if None."""
    api_key: str | None
    """The key; that of the user's login if None."""

    @classmethod
    def of(cls, run: Any) -> ReadBack:
        """Return what asks for a run that is open."""
        return cls(run.entity, run.project, run.id, run.settings.base_url, run.settings.api_key)

    @classmethod
    def unopened(cls, options: WandbOptions, run: RunInfo) -> ReadBack:
        """Return what asks for the W&B run of a rankzero run, which need not be there, and is not opened."""
        server = options.wanted("base_url"), options.settings.get("api_key")
        return cls(options.wanted("entity"), options.project_of(run), str(options.id_of(run)), *server)

    def rows(self) -> int:
        """Return how many rows W&B has."""
        return int(self._ask("historyLineCount") or 0)

    def last_number(self) -> int:
        """Return the number of the last row that W&B has; -1 if it has none."""
        return int((self._ask("historyKeys") or {}).get("lastStep", -1))

    def has_ended(self) -> bool:
        """Return whether the run has ended for W&B."""
        return (self._ask("state") or "running") != "running"

    def mark(self) -> Mapping[str, Any]:
        """Return what the run's config says of rankzero."""
        found = json.loads(self._ask("config") or "{}").get(MARK, {}).get("value")
        return found if isinstance(found, dict) else {}

    def _ask(self, field: str) -> Any:
        query = f"""query RunState($project: String!, $entity: String!, $name: String!) {{
            project(name: $project, entityName: $entity) {{ run(name: $name) {{ {field} }} }}
        }}"""
        variables = {"entity": self._entity, "project": self.project, "name": self.run_id}
        found = self._api._service_api.execute_graphql(query, variables)
        return ((found.get("project") or {}).get("run") or {}).get(field)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of up to 50 files, by their paths in the run, that W&B has."""
        files = self._run.files(names=sorted(names), per_page=_MOST_NAMES)
        return {file.name: int(file.size) for file in files}

    def times(self, first: int, end: int) -> frozenset[float]:
        """Return the times of the rows with numbers from ``first`` to before ``end``."""
        rows = self._run.scan_history(min_step=first, max_step=end)
        return frozenset(row["_timestamp"] for row in rows if "_timestamp" in row)

    def points(self, names: Mapping[str, str]) -> dict[str, list[TrackedPoint]]:
        """Return name → (step, value) of all rows, for name → name in W&B; none if W&B has no such run."""
        found: dict[str, list[TrackedPoint]] = {name: [] for name in names}
        for row in self._run.scan_history(use_cache=False) if self.last_number() >= 0 else ():
            step = to_int(row.get(STEP))
            for name, known in names.items():
                value = row.get(known)
                number = NON_FINITE.get(value) if isinstance(value, str) else to_number(value)
                if number is not None:
                    found[name].append((step, number))
        return found

    def checkpoint(self, name: str) -> Any:
        """Return the version ``NAME:ALIAS`` of the artifact of checkpoints."""
        return self._api.artifact(f"{self._entity}/{self.project}/{name}", type="model")

    @functools.cached_property
    def _run(self) -> Any:
        return self._api.run(f"{self._entity}/{self.project}/{self.run_id}")

    @functools.cached_property
    def _entity(self) -> str:
        return self.entity or str(self._api.default_entity)

    @functools.cached_property
    def _api(self) -> Any:  # making one takes a request
        import wandb

        return wandb.Api(overrides={"base_url": self.base_url} if self.base_url else {}, api_key=self.api_key)

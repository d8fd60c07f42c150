"""Wait until W&B confirms that it has all data.

``run.log`` and ``run.finish`` return normally even if data is lost, and the client accepts any response with a status
of 2xx. So W&B itself is queried; the client's log tells when to query, and which uploads failed.
"""

from __future__ import annotations

import functools
import json
import math
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import FlushPostponedError, RejectedError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo, TrackedPoint
from rankzero.rundir.writer_lock import Writer, writer_state
from rankzero.values import NON_FINITE, to_int, to_number
from rankzero.waiting import wait_until
from rankzero_wandb.opening import MARK, STEP, UploadError
from rankzero_wandb.options import WandbOptions
from rankzero_wandb.rows import History

_MAX_NAMES = 50  # files in one query
_TIMEOUT = 30.0  # seconds without progress
_MIN_UPLOAD_SPEED = 50_000  # bytes per second
_ARTIFACT_TIMEOUT = 3600
_POLL = 0.02  # seconds between reads of the client's log
_ASK_EVERY = 2.0  # seconds between queries to W&B
_ASK_AGAIN_AFTER = 0.5  # if the client has uploaded a file since
_NO_REFUSAL = (401, 408, 429)  # HTTP statuses that are about the login or the load
_REWIND = """mutation RewindRun(
    $entity: String, $project: String, $runName: String!, $metricName: String!, $metricValue: Float!
) {
    rewindRun(input: {
        entityName: $entity, projectName: $project, runName: $runName,
        metricName: $metricName, metricValue: $metricValue
    }) { rewoundRun { id } }
}"""
_ASK_ROWS_EVERY = (0.25, 4.0)  # first and longest pause: W&B may need a moment to count rows


class Confirmation:
    """Waits until W&B confirms what was sent in one session."""

    def __init__(self, run: Any, run_dir: Path, history: History, read_back: ReadBack) -> None:
        self._run = run
        self._run_dir = run_dir
        self._history = history
        self._read_back = read_back
        self._uploads = UploadLog(Path(run.settings.log_internal))
        self.unconfirmed_settings: int | None = None
        """The journal line of the newest params, tags or definition to confirm; None if all are confirmed."""
        self.artifacts: list[Any] = []
        """The artifacts to confirm."""
        self.system_rows = 0
        """The number of rows of system metrics that were passed to W&B's client."""
        self.expects_files = False
        """Whether to confirm the media in the run's directory, and delete them there when they have arrived."""
        self._missing: dict[str, int] = {}  # file → size in bytes, of those to confirm
        self._is_lost = False  # some data, which W&B's client does not send again
        self._is_postponed = False

    @property
    def has_lost_data(self) -> bool:
        """Whether W&B's client has given up on some data, which a new session must send again."""
        with suppress(UploadError):  # the client reports the loss a moment after it has sent the rows
            self._uploads.read()
        return self._is_lost or self._uploads.fatal is not None

    def wait(self) -> None:
        """Wait until W&B has everything.

        Raises:
            TrackerUnavailableError: W&B has not confirmed everything in time.
            UploadError: W&B's client has given up an upload.
            FlushPostponedError: training is over; the end of the run, at which the client sends everything, may be
                near.
        """
        self._wait_for_rows()
        self._wait_for_artifacts()
        self._wait_for_files_and_settings()
        self._history.acknowledge()
        self._is_postponed = False

    def wait_before_finish(self) -> None:
        """Wait for uploads for which ``run.finish`` does not wait long enough."""
        self._is_postponed = True
        self._find_files()
        if sum(self._missing.values()) > _MIN_UPLOAD_SPEED * _TIMEOUT:
            self.wait()
        else:
            self._wait_for_artifacts()

    def check_after_finish(self) -> None:
        """Check after ``run.finish`` that W&B has everything; raises the errors of `wait`."""
        self._check_uploads()
        if not self._uploads.is_complete:
            raise TrackerUnavailableError("W&B has not confirmed that it has the whole run")
        self._wait_for_rows()
        self._is_postponed = True
        self._wait_for_files_and_settings()
        is_last = self._run.settings.x_update_finish_state and not self._run.settings._shared
        if is_last and not wait_until(self._read_back.has_ended, _TIMEOUT, _ASK_EVERY):
            raise TrackerUnavailableError(f"W&B still shows the run as running, {_TIMEOUT:.0f} s after its end")
        self._history.acknowledge()

    # Rows

    def _wait_for_rows(self) -> None:
        """Wait until W&B's client has sent the rows, and then until W&B has counted them."""
        sent, deadline = (-1, -1), math.inf
        uploads = self._uploads
        while uploads.read().rows < self._history.logged or uploads.system_rows < self.system_rows:
            if (now := (uploads.rows, uploads.system_rows)) != sent:
                sent, deadline = now, time.monotonic() + _TIMEOUT
            self._check_time(deadline)
            time.sleep(_POLL)
        pause, deadline = _ASK_ROWS_EVERY[0], time.monotonic() + _TIMEOUT
        while not self._has_counted_rows():
            self._is_lost = time.monotonic() > deadline  # the client believes that they arrived
            self._check_time(deadline)
            time.sleep(pause)
            pause = min(2 * pause, _ASK_ROWS_EVERY[1])
            self._uploads.read()

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TrackerUnavailableError(f"W&B has not accepted rows for {_TIMEOUT:.0f} s")

    def _has_counted_rows(self) -> bool:
        if self._history.logged == 0 or self._run.settings._shared:  # W&B counts rows of all writers
            return True
        if self._history.state.is_shared:  # some of the rows are the script's
            return self._read_back.last_number() >= self._history.next_number - 1
        return self._read_back.rows() >= self._uploads.end

    # Artifacts, files, settings

    def _wait_for_artifacts(self) -> None:
        while self.artifacts:
            artifact = self.artifacts[0]
            try:
                artifact.wait(timeout=_ARTIFACT_TIMEOUT)
            except Exception as error:
                self._is_lost = True  # a table's row is not logged twice in a session
                if not isinstance(error, ValueError):  # W&B's client raises it for any cause
                    raise
                self._uploads.read()
                causes = [self._uploads.failures.pop(name, "") for name in artifact.manifest.entries]
                raise UploadError(" ".join(filter(None, [str(error), *causes]))) from error
            del self.artifacts[0]

    def _wait_for_files_and_settings(self) -> None:
        self._find_files()
        deadline = time.monotonic() + _TIMEOUT + sum(self._missing.values()) / _MIN_UPLOAD_SPEED
        asked_at, uploaded = -math.inf, self._uploads.files
        while self._missing or self.unconfirmed_settings is not None:
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
                raise TrackerUnavailableError(f"W&B has not accepted {lacking}")
            time.sleep(_POLL)

    def _find_files(self) -> None:
        directory = Path(self._run.dir)
        for path in (directory / "media").rglob("*") if self.expects_files else ():
            if path.is_file():
                self._missing[path.relative_to(directory).as_posix()] = path.stat().st_size
        self.expects_files = False

    def _ask(self) -> bool:
        """Query W&B for some of the missing files, and for the settings; return whether it has all of them."""
        some = list(self._missing)[:_MAX_NAMES]  # not thousands each time
        sizes = self._read_back.sizes(some) if some else {}
        for name in some:
            if sizes.get(name) == self._missing[name]:
                del self._missing[name]
                Path(self._run.dir, name).unlink(missing_ok=True)
        if (
            self.unconfirmed_settings is not None
            and self._read_back.mark().get("line", -1) >= self.unconfirmed_settings
        ):
            self.unconfirmed_settings = None
        return self.unconfirmed_settings is None and not any(name in self._missing for name in some)

    def _check_uploads(self) -> None:
        """Raise `UploadError` if the client has given up something that is missing."""
        self._uploads.read()
        failures = self._uploads.failures
        lost = [reason for name, reason in failures.items() if name in self._missing or (self._missing and not name)]
        if self.unconfirmed_settings is not None and self._uploads.settings_failure:
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
_RELEVANT = tuple(f'"{begin}'.encode() for begin in ("filestream: ", "stream: ", *_FILES_FAILED, _SETTINGS_FAILED))
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
    """Reads ``debug-internal.log``, where wandb 0.31 writes a line of JSON before and after each request with rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._begin()

    def _begin(self) -> None:
        self._request = _Line()
        self._first: int | None = None  # the offset of the first row that was sent
        self.end = 0
        """The total number of rows in W&B, if it accepted what was sent."""
        self.rows = 0
        """The number of rows sent in this session."""
        self.system_rows = 0
        """The number of rows of system metrics sent in this session."""
        self.files = 0
        """The number of uploaded files."""
        self.is_complete = False
        """Whether the end of the run was sent."""
        self.fatal: str | None = None
        """Why the client has stopped uploading; None if it has not."""
        self.failures: dict[str, str] = {}
        """Path of a file in the run → why its upload failed; the path is "" if it is unknown."""
        self.settings_failure: str | None = None
        """Why the upload of the newest settings failed; None if it did not."""

    def read(self) -> UploadLog:
        """Read new lines, and return this log.

        Raises:
            UploadError: the client has stopped uploading.
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
            if any(begin in line for begin in _RELEVANT):
                with suppress(msgspec.MsgspecError):
                    self._count(msgspec.json.decode(line, type=_Line))
        if self.fatal:
            raise UploadError(self.fatal)
        return self

    def _count(self, line: _Line) -> None:
        if line.msg == _OPENED:  # two sessions that begin in the same second share the log
            self._begin()
        elif line.msg == _SENDING:
            self._request = line
        elif line.msg == _SENT:
            self._count_sent(self._request)
            self._request = _Line()
        elif line.msg.startswith(_FATAL):
            self.fatal = line.text.removeprefix(_FATAL).strip(": ") or "no reason"
        elif line.msg.startswith(_NOT_JSON):  # the client continues, but what it sent is lost
            reason = line.text.removeprefix(_NOT_JSON).strip(": ")
            self.fatal = f"the response is not from W&B's API, but perhaps from a login page or a proxy: {reason}"
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
    """Queries W&B's API for one run."""

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
        """Return the `ReadBack` of an open run."""
        return cls(run.entity, run.project, run.id, run.settings.base_url, run.settings.api_key)

    @classmethod
    def unopened(cls, options: WandbOptions, run: RunInfo) -> ReadBack:
        """Return the `ReadBack` of a rankzero run that is not open, and may not exist in W&B."""
        server = options.value_of("base_url"), options.settings.get("api_key")
        return cls(options.value_of("entity"), options.project_of(run), str(options.id_of(run)), *server)

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
        """Return rankzero's own data in the run's config."""
        mark = json.loads(self._ask("config") or "{}").get(MARK, {}).get("value")
        return mark if isinstance(mark, dict) else {}

    def _ask(self, field: str) -> Any:
        query = f"""query RunState($project: String!, $entity: String!, $name: String!) {{
            project(name: $project, entityName: $entity) {{ run(name: $name) {{ {field} }} }}
        }}"""
        variables = {"entity": self._entity, "project": self.project, "name": self.run_id}
        found = self._api._service_api.execute_graphql(query, variables)
        return ((found.get("project") or {}).get("run") or {}).get(field)

    def rewind(self, number: int) -> None:
        """Delete the rows after a number, as ``resume_from`` of W&B's client does. The run must have ended.

        Raises:
            RejectedError: W&B refuses, or does not have this feature.
        """
        run = {"entity": self._entity, "project": self.project, "runName": self.run_id}
        found, reason = None, ""
        try:
            found = self._api._service_api.execute_graphql(
                _REWIND, {**run, "metricName": "_step", "metricValue": number}
            )
        except Exception as error:
            status = getattr(getattr(error, "response", None), "http_status", 0)
            is_refusal = 400 <= status < 500 and status not in _NO_REFUSAL
            if not is_refusal and not str(error).startswith("input:"):  # an error of GraphQL
                raise
            reason = f": {error}"
        if not found or not found.get("rewindRun"):
            raise RejectedError(f"W&B refused to rewind the run{reason}")

    def numbers(self, first: int, end: int) -> Iterator[int]:
        """Yield those of the numbers ``first`` to ``end - 1`` that have a row."""
        for row in self._run.scan_history(min_step=first, max_step=end, use_cache=False):
            yield int(row["_step"])

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        """Return path → size in bytes of the files that W&B has, for up to 50 paths in the run."""
        files = self._run.files(names=sorted(names), per_page=_MAX_NAMES)
        return {file.name: int(file.size) for file in files}

    def times(self, first: int, end: int) -> frozenset[float]:
        """Return the times of the rows ``first`` to ``end - 1``."""
        rows = self._run.scan_history(min_step=first, max_step=end)
        return frozenset(row["_timestamp"] for row in rows if "_timestamp" in row)

    def points(self, names: Mapping[str, str]) -> dict[str, list[TrackedPoint]]:
        """Return name → (step, value) of all rows; none if the run does not exist in W&B.

        Args:
            names: name → name in W&B.
        """
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
    def _api(self) -> Any:  # creating it takes a request
        import wandb

        return wandb.Api(overrides={"base_url": self.base_url} if self.base_url else {}, api_key=self.api_key)

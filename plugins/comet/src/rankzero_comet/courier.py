"""The session of a courier: Comet's server confirms each request, and each value keeps its own time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.capture.environment import Environment, read_environment
from rankzero.errors import DeliveryError, RejectedError, TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.events.structs import Alert
from rankzero.rank import rank_zero_warn
from rankzero_comet.direct import CREATED_FROM, join
from rankzero_comet.errors import NO_ENDPOINT, UnknownExperimentError, opening
from rankzero_comet.options import CometOptions
from rankzero_comet.server import Server, Upload, Value, Version
from rankzero_comet.session import CometSession

RUN_ID = "rankzero.run_id"
"""The name under "Other" of the run's id, which is set after all other details of a new experiment."""

DESCRIBED = "rankzero.described"
"""The name under "Other" of the time at which the process began whose environment Comet has."""

STATUS = "rankzero.status"
"""The name under "Other" of the run's status at its end."""

BEAT_INTERVAL = 10.0
"""Seconds between heartbeats, as in Comet's own client; without them Comet shows the run as inactive."""

_ENVIRONMENT_TIMEOUT = 10.0  # seconds; git and the list of packages may still be collected
_SAME_TIME = 1.0  # seconds; lines printed within it get the same time in Comet
_MAX_CHARACTERS = 1 << 18  # console output in a request

log = logging.getLogger("rankzero.courier")


class Lines(NamedTuple):
    """Console lines that are sent in one request: a request for each line would take minutes."""

    text: str
    stream: str
    time: float
    """Unix time in seconds, of the first line."""


_unsent: dict[str, list[Lines]] = {}
"""Run directory → console lines to send, which must outlive a logger that is replaced after an error."""


class CourierSession(CometSession):
    """Writes to a run's experiment, which is opened on the first write."""

    def __init__(self, options: CometOptions, run: RunInfo) -> None:
        self.key = options.key_of(run)
        self._options, self._run = options, run
        self._server: Server | None = None
        self._heartbeat: threading.Thread | None = None
        self._ended = threading.Event()
        self._experiment: Any = None
        self._may_repeat = False  # the next data may be in Comet already, because only the response was lost
        self._has_failed = False  # the last write; a flush then only acknowledges those before it
        self._stored_files: set[str] | None = set()  # ids of files that Comet has; None: ask Comet
        self._console = _unsent.setdefault(run.dir, [])
        self._has_sent = False  # data since the last flush, which must not be sent again

    @property
    def url(self) -> str | None:  # type: ignore[override]
        return self._server.url if self._server else None

    @property
    def experiment(self) -> Any:
        if self._experiment is None:
            self._connect().close()  # raises if Comet is unavailable; comet_ml would lose the data silently
            self._experiment = join(self._options, self.key, self._options.project_of(self._run))
        return self._experiment

    @property
    def server(self) -> Server:
        """The experiment, opened if necessary."""
        if self._server is None:
            server = self._connect()
            try:
                with opening():
                    self._describe(server)
            except BaseException:
                server.close()
                raise
            self._ended.clear()
            self._heartbeat = threading.Thread(target=self._beat, args=(server,), name="rankzero-comet", daemon=True)
            self._heartbeat.start()
            self._server = server
        return self._server

    def _connect(self, **options: Any) -> Server:
        return Server(self._options.replace(**options), self.key, self._options.project_of(self._run))

    def _describe(self, server: Server) -> None:
        """Set the run's name, tags and times, only once: users may change them in Comet."""
        run, others = self._run, server.others()
        started = run.started or time.time()
        if others.get(RUN_ID) == run.id:
            self._may_repeat, self._stored_files = True, None  # a killed courier may have sent the next events
        else:
            named = {"Name": self._options["name"] or run.name, "notes": run.notes, "group": run.group}
            for name, value in {**named, "parent": run.parent, "Created from": CREATED_FROM}.items():
                if value:
                    self._set(server, "log_experiment_other", name, value, timestamp=started)
            if tags := [*run.tags, *(self._options["tags"] or ())]:
                self._set(server, "add_experiment_tags", list(dict.fromkeys(tags)))
            self._set(server, "set_experiment_start_end", round(started * 1000), None)
            self._set(server, "log_experiment_other", RUN_ID, run.id, timestamp=started)
        environment = read_environment(run.dir, timeout=_ENVIRONMENT_TIMEOUT)
        if environment is not None and others.get(DESCRIBED) != (start := f"{environment.started:.3f}"):
            for name, values in environment_of(environment, Path(run.dir), self._options):
                if any(values):
                    self._set(server, f"set_experiment_{name}", *values, rules=[NO_ENDPOINT])
            self._set(server, "log_experiment_other", DESCRIBED, start, timestamp=time.time())

    def _set(self, server: Server, method: str, *values: Any, **options: Any) -> None:
        """Write a detail of the run; warn if Comet refuses it, because metrics must not wait for it."""
        try:
            server.write(method, *values, **options)
        except RejectedError as error:
            rank_zero_warn(f"Comet will not show all details of the run {self._run.name}: {error}")

    # Metrics, params, files

    @property
    def _sending(self) -> Server:
        """The experiment, for data that must not be sent again if only console lines fail."""
        self._has_sent = True
        return self.server

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        values = [
            Value(self.name_in_comet(name), number, round(row.context.time * 1000), row.step, row.context.epoch)
            for row in rows
            for name, number in row.values.items()
        ]
        server = self._sending
        with self._noting_failure():
            if self._may_repeat:
                values = server.missing(values)
            if values:
                server.log_metrics(values)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        self._has_failed = False
        try:
            yield
        except TrackerUnavailableError:
            self._has_failed = self._may_repeat = True
            self._stored_files = None
            raise

    def alert(self, alert: Alert, context: LogContext) -> None:
        self._sending.notify(self._run.name, alert.title, alert.text, alert.level)

    def send_params(self, params: Mapping[str, Any], context: LogContext) -> None:
        self._sending.log_params([Value(name, value, round(context.time * 1000)) for name, value in params.items()])

    def send_file(self, file: Upload) -> None:
        server = self._sending
        file = file._replace(
            metadata={**file.metadata, "logged_at": file.context.time}
        )  # Comet has the upload time only
        file_id = server.id_of(file)
        with self._noting_failure():
            if self._stored_files is None:
                self._stored_files = server.stored_files()
            if file_id not in self._stored_files:
                server.upload(file, file_id)

    def send_version(self, version: Version) -> None:
        details = {**version.metadata, "logged_at": version.context.time}
        self._sending.log_version(version._replace(metadata=details))

    def call(self, method: str, value: Any, *more: Any, context: LogContext) -> None:
        times: dict[str, Any] = {"timestamp": context.time} if method.startswith("log_") else {}
        self._sending.write(method.replace("_", "_experiment_", 1), value, *more, **times)

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        # A separate connection: the courier may use another thread, and the run may have ended.
        try:
            server = self._connect(mode="get")
        except UnknownExperimentError as error:
            raise LookupError(f"no checkpoint has the alias {alias!r}: Comet has no experiment of this run") from error
        with closing(server):
            return server.download(artifact, alias, directory)

    # Console

    def write_console(self, text: str, stream: str, context: LogContext) -> None:
        if self._console:
            last = self._console[-1]
            is_near = last.stream == stream and 0 <= context.time - last.time < _SAME_TIME
            if is_near and len(last.text) + len(text) < _MAX_CHARACTERS:
                self._console[-1] = last._replace(text=f"{last.text}\n{text}")
                return
        self._console.append(Lines(text, stream, context.time))

    def _send_console(self) -> None:
        while self._console:
            text, stream, began = self._console[0]
            self.server.write("log_experiment_output", text + "\n", stderr=stream == "stderr", timestamp=began)
            del self._console[0]

    # The end

    def flush(self) -> None:
        """Send console lines. All other data was sent at once, and must not be sent again if this fails."""
        try:
            self._send_console()
        except DeliveryError:
            if not self._has_sent:
                self._console.clear()  # the lines are delivered again
                raise
        self._has_sent = False
        if not self._has_failed:
            self._may_repeat, self._stored_files = False, set()

    def finish(self, status: str, time: float) -> None:
        self._send_console()
        self._end_experiment()
        server = self.server
        self._stop_heartbeat()
        self._set(server, "log_experiment_other", STATUS, status, timestamp=time)
        times = round((self._run.started or time) * 1000), round(time * 1000)
        self._set(server, "set_experiment_start_end", *times)
        server.end(status)
        _unsent.pop(self._run.dir, None)

    def close(self) -> None:
        self._stop_heartbeat()
        if self._server is not None:
            self._server.close()
            self._server = None
        self._end_experiment()

    def _beat(self, server: Server) -> None:
        while not self._ended.is_set():
            try:
                server.beat()
            except DeliveryError as error:  # harmless
                log.debug("heartbeat failed: %s", error)
            self._ended.wait(BEAT_INTERVAL)

    def _stop_heartbeat(self) -> None:
        """Stop the heartbeat and wait for it: a late one would mark an ended run as running."""
        if self._heartbeat is not None:
            self._ended.set()
            self._heartbeat.join()
            self._heartbeat = None

    def _end_experiment(self) -> None:
        """End Comet's own ``Experiment``, which would mark the run as ended when this process ends."""
        if self._experiment is not None:
            self._experiment.end()
            self._experiment = None


def environment_of(found: Environment, directory: Path, options: CometOptions) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield (end of a setter's name, its arguments) of the training process's environment, as far as the user allows.

    Files may be missing in a copy of the run's ``directory``.
    """

    def content(name: str | None) -> bytes:
        path = directory / name if name else None
        return path.read_bytes() if path and path.is_file() else b""

    git = found.git
    if options.allows("log_env_details"):
        yield "command", (list(found.argv),)
        yield "executable", (found.executable,)
        yield "python_version", (found.python,)
        yield "pid", (found.pid,)
        if options.allows("log_env_host"):
            yield "hostname", (found.host,)
            yield "user", (found.user,)
        yield "installed_packages", (content(found.packages).decode(errors="replace").splitlines(),)
    yield "filename", (Path(found.program).name,)
    if options.allows("log_code"):
        yield "code", (content(found.code).decode(errors="replace"),)
    if git is not None and options.allows("log_git_metadata"):
        yield "git_metadata", (found.user, git.root, git.branch, git.commit, git.remote)
    if git is not None and options.allows("log_git_patch"):
        yield "git_patch", (content(git.diff),)

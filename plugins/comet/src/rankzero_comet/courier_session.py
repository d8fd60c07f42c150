"""What a courier delivers: each call is acknowledged by the server, and keeps the time at which it was made."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from rankzero import rank_zero_warn
from rankzero.errors import DeliveryError, RejectedError, TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero_comet.console_lines import ConsoleLines
from rankzero_comet.failures import UnconfirmedError, is_unknown, opening
from rankzero_comet.files import ASSET, Artifact, Upload
from rankzero_comet.heartbeat import Heartbeat
from rankzero_comet.joining import join
from rankzero_comet.names import Names, flat_params
from rankzero_comet.points import Value
from rankzero_comet.server import Server
from rankzero_comet.session import CREATED_FROM, Session
from rankzero_comet.settings import Settings
from rankzero_comet.training_process import described

RUN_ID = "rankzero.run_id"
"""The name under "Other" of the run's id; set last when an experiment is introduced."""

DESCRIBED = "rankzero.described"
"""The name under "Other" of the start of the run of which Comet knows code, git and machine."""

STATUS = "rankzero.status"
"""The name under "Other" of how the run ended."""

_unsent: dict[str, ConsoleLines] = {}
"""Lines that Comet does not have, by the directories of their runs: they outlive a logger that is made anew."""


class CourierSession(Session):
    """Writes to a run's experiment.

    Args:
        settings: what the user said.
        run: the run.
    """

    def __init__(self, settings: Settings, run: RunInfo) -> None:
        super().__init__(settings)
        self._run = run
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "_run": self._run}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._opening = threading.Lock()  # a courier that is a thread, and who reads a checkpoint meanwhile
        self._server: Server | None = None
        self._experiment: Any = None
        self._names = Names()
        self._heartbeat: Heartbeat | None = None
        self._is_in_doubt = False  # what is handed over now may have been sent before, with no answer that arrived
        self._has_failed = False  # what was handed over last: it is not what is acknowledged next
        self._asks_for_files = False  # before the next one is sent
        self._line: int | None = None  # of the event whose files were uploaded last
        self._uploaded: set[str] = set()  # the ids of those that Comet has
        self._console = _unsent.setdefault(self._run.dir, ConsoleLines())
        self._has_sent = False

    # Identity

    @property
    def key(self) -> str | None:
        return self.settings.key_of(self._run)

    @property
    def project(self) -> str | None:
        return self.settings.project_of(self._run)

    @property
    def url(self) -> str | None:
        return self._server.url if self._server else None

    @property
    def server(self) -> Server:
        """The experiment, opened if need be."""
        with self._opening:
            if self._server is None:
                server = self._connected()
                with ExitStack() as unless_introduced:
                    unless_introduced.callback(server.close)
                    with opening():
                        self._introduce(server)
                    unless_introduced.pop_all()
                self._heartbeat = Heartbeat(server.beat)
                self._server = server
            return self._server

    @property
    def _taking(self) -> Server:
        """The experiment, which takes something now that must not be sent again because the console cannot be."""
        self._has_sent = True
        return self.server

    def _connected(self) -> Server:
        return Server(self.settings, self.settings.key_of(self._run), self.project)

    def _introduce(self, server: Server) -> None:
        """Say what the run is called; not again later, when a person may have changed it in Comet."""
        others = server.others()
        self._is_in_doubt = self._asks_for_files = (
            others.get(RUN_ID) == self._run.id
        )  # a killed courier may have sent it
        if not self._is_in_doubt:
            started = self._run.started or time.time()
            said = {"Name": self.settings.name or self._run.name, "notes": self._run.notes}
            for name, value in {**said, "Created from": CREATED_FROM}.items():
                if value:
                    with self._unless_refused():
                        server.log_other(name, value, started)
            if tags := [*self._run.tags, *(self.settings.config.get("tags") or ())]:
                with self._unless_refused():
                    server.add_tags(list(dict.fromkeys(tags)))
            with self._unless_refused():
                server.set_times(started)
            with self._unless_refused():
                server.log_other(RUN_ID, self._run.id, started)
        start, facts = described(self.settings, self._run)
        if start is not None and others.get(DESCRIBED) != start:
            for setter, values in facts:
                with self._unless_refused():
                    server.describe(setter, *values)
            with self._unless_refused():
                server.log_other(DESCRIBED, start, time.time())

    @contextmanager
    def _unless_refused(self) -> Iterator[None]:
        """Go on without what Comet refuses for good: it is not worth the values that wait."""
        try:
            yield
        except RejectedError as error:
            rank_zero_warn(f"Comet will not show all of what there is to say of the run {self._run.name}: {error}")

    @property
    def experiment(self) -> Any:
        if self._experiment is None:
            self._connected().close()  # Comet's client would not say that it has lost all, but this does
            self._experiment = join(self.settings, self.settings.key_of(self._run), self.project)
        return self._experiment

    # What is logged

    def log_metrics(self, rows: Iterable[MetricsRow]) -> None:
        values = [value for row in rows for value in self._values(row)]
        server = self._taking
        with self._in_doubt_after_failure():
            if self._is_in_doubt:
                values = server.missing(values)
            try:
                if values:
                    server.log_metrics(values)
            except UnconfirmedError:
                if server.missing(values):
                    raise

    @contextmanager
    def _in_doubt_after_failure(self) -> Iterator[None]:
        self._has_failed = False
        try:
            yield
        except TrackerUnavailableError:
            self._has_failed = self._is_in_doubt = self._asks_for_files = True
            raise

    def _values(self, row: MetricsRow) -> Iterator[Value]:
        for name, number in row.values.items():
            yield Value(self._names.known_as(name), number, row.context.time, row.step, row.context.epoch)

    def log_params(self, params: Mapping[str, Any], context: LogContext) -> None:
        values, long = [], {}
        for name, value in flat_params(params):
            known = self._names.known_as(name)
            kept, is_whole = self._names.short(known, value)
            values.append(Value(known, kept, context.time))
            if not is_whole:
                long[known] = str(value)
        self._taking.log_params(values)
        for name, text in long.items():
            self._keep_whole(name, text, context)

    def _keep_whole(self, name: str, value: str, context: LogContext) -> None:
        with tempfile.TemporaryDirectory(prefix="rankzero-comet-") as directory:
            path = Path(directory, "param.txt")
            path.write_text(value, encoding="utf-8")
            details = {"logged_at": context.time}
            self.upload(Upload(path, ASSET, f"params/{name}.txt", metadata=details, line=context.line))

    def log_other(self, name: str, value: Any, context: LogContext) -> None:
        self._taking.log_other(name, value, context.time)

    def add_tags(self, tags: Sequence[str]) -> None:
        self._taking.add_tags(tags)

    def upload(self, file: Upload) -> None:
        files = self._taking.files
        file_id = files.id_of(file)
        with self._in_doubt_after_failure():
            if not self._is_in_doubt and (file.line is None or file.line != self._line):
                self._uploaded.clear()
            self._line = file.line
            if self._asks_for_files:
                self._uploaded |= files.held()
                self._asks_for_files = False
            if file_id not in self._uploaded:
                files.upload(file, file_id)
                self._uploaded.add(file_id)

    def log_html(self, html: str, context: LogContext) -> None:
        self._taking.log_html(html, context.time)

    def set_graph(self, graph: str) -> None:
        self._taking.set_graph(graph)

    def log_artifact(self, artifact: Artifact) -> None:
        self._taking.files.log_artifact(artifact)

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        # A connection of its own: the courier may be another thread, and the run may have ended.
        try:
            server = Server(self.settings._replace(mode="get"), self.settings.key_of(self._run), self.project)
        except TrackerUnavailableError as error:
            if is_unknown(error):
                raise LookupError(f"nothing has the alias {alias!r}: Comet knows nothing of this run") from error
            raise
        with closing(server):
            return server.files.download(artifact, alias, directory)

    def log_console(self, text: str, stream: str, context: LogContext) -> None:
        self._console.add(text, stream, context.time)

    def notify(self, title: str, text: str, level: str) -> None:
        self._taking.notify(self._run.name, title, text, level)

    # Ended

    def wait(self) -> None:
        """Send what was printed; all else was sent at once, so that a failure here must not have it sent again."""
        try:
            self._print()
        except DeliveryError:
            if not self._has_sent:
                self._console.clear()  # it is handed over again
                raise
        self._has_sent = False
        if not self._has_failed:
            self._is_in_doubt = self._asks_for_files = False

    def _print(self) -> None:
        for portion in self._console.portions():
            self.server.log_output(*portion)
            self._console.forget(portion)

    def end(self, status: str, context: LogContext) -> None:
        self._print()
        self._part()
        server = self.server
        self._stop_heartbeat()
        with self._unless_refused():
            server.log_other(STATUS, status, context.time)
        with self._unless_refused():
            server.set_times(self._run.started or context.time, context.time)
        server.end(status)
        _unsent.pop(self._run.dir, None)

    def close(self) -> None:
        self._stop_heartbeat()
        with self._opening:
            if self._server is not None:
                self._server.close()
                self._server = None
        self._part()

    def _stop_heartbeat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None

    def _part(self) -> None:
        """End what `experiment` has opened: it would say that the run has ended, whenever this process does."""
        if self._experiment is not None:
            self._experiment.end()
            self._experiment = None

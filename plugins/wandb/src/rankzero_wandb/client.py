"""W&B's client: what its errors mean, what it has uploaded by its log, and what W&B itself has of a run.

``run.log`` and even ``run.finish`` return normally when everything was lost, and the client takes any answer with a
status of 2xx for success. So W&B itself is asked; the client's log says when that is worth it, and what it gave up.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import AccessError, RejectedError, TrackerUnavailableError
from rankzero.loggers.failures import Failure, Rule, translated
from rankzero.loggers.failures import read_failure as read_any_failure

MARK = "rankzero"
"""The key of a run's config under which rankzero notes what concerns itself."""

MOST_NAMES = 50
"""How many files can be asked for in a request."""

# Errors

_UNKNOWN_USER = r"\b401\b|API key|api_key|not logged in|permission denied"
_ADVICE = "; if the key is wrong or was revoked: wandb login, or set WANDB_API_KEY"
_STATUS = re.compile(r"\b(?:error|status:|upload:) (\d{3})\b")
_OF_SDK = ("wandb.Error", "wandb.WandbApiFailedError", "rankzero_wandb.UploadError", "OSError")


class UploadError(Exception):
    """W&B's client gave up an upload.

    Args:
        reason: what the client says of it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"W&B refused the upload: {reason}")
        found = _STATUS.search(reason)
        self.status = int(found[1]) if found else None


# W&B's client does not tell what it never takes from what it does not take now; what is wrong with a value is found
# before it is sent, and raised as ValueError or TypeError.
ERRORS = (
    Rule(RejectedError, error=("rankzero_wandb.UploadError",), status=(400, 413, 422)),
    Rule(TrackerUnavailableError, error=_OF_SDK, text=_UNKNOWN_USER, advice=_ADVICE),
    Rule(TrackerUnavailableError, error=_OF_SDK),
)
_ERRORS_OF_OPENING = (  # no event is to blame, whatever the error
    Rule(AccessError, text=_UNKNOWN_USER, advice=_ADVICE),
    Rule(AccessError, text=r"\b40[34]\b"),
    Rule(TrackerUnavailableError),
)


def read_failure(error: BaseException) -> Failure:
    """Return what an error of W&B's client says."""
    failure = read_any_failure(error)
    if failure.text == "<no message>":
        return failure._replace(text="it gave no reason, as for a login that it refuses (401)")
    return failure


@contextmanager
def opening(run_id: str) -> Iterator[None]:
    """Translate whatever keeps a run from being opened, and have W&B's client able to open it another time.

    The client takes a run that it could not open for an open one: W&B did not answer, or the disk is full.

    Args:
        run_id: W&B's id of the run.
    """
    with translated(_ERRORS_OF_OPENING, "the run cannot be opened in W&B", read=read_failure):
        try:
            yield
        except TrackerUnavailableError:
            raise
        except Exception as error:
            with suppress(Exception, SystemExit):
                _forget_run(run_id, error)
            raise


def _forget_run(run_id: str, error: Exception) -> None:
    import wandb
    from wandb.sdk.mailbox import MailboxClosedError

    if isinstance(error, ConnectionError | MailboxClosedError):  # wandb-core has died
        wandb.teardown()
        return
    service = wandb.setup().ensure_service()
    _, interface = service.inform_attach(run_id)
    try:
        interface.deliver_exit(1).wait_or(timeout=10)  # without it wandb-core waits for more, for ever
    finally:  # also if the run has got that far before
        service.inform_finish(run_id)


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
    uploaded_len: int = 0
    complete: bool = False
    error: str = ""
    task: str = ""

    @property
    def text(self) -> str:
        return " ".join(f"{self.msg} {self.error}".split())


class UploadLog:
    """Follows ``debug-internal.log``, which has a line of JSON before and after each request with rows (wandb 0.31).

    Args:
        path: of the log of one opening of a run.
    """

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
        self.files = 0
        """How many files W&B was told of that they are uploaded."""
        self.is_complete = False
        """Whether W&B was told that the run has ended."""
        self.fatal: str | None = None
        """Why nothing will be uploaded any more; None if all is well."""
        self.failures: dict[str, str] = {}
        """Why a file will not be uploaded, by its path in the run; under "" why some will not."""
        self.settings_failure: str | None = None
        """Why the newest settings will not be uploaded by themselves."""

    def read(self) -> None:
        """Read what is new.

        Raises:
            UploadError: nothing will be uploaded any more.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if any(begin in line for begin in _OURS):
                with suppress(msgspec.MsgspecError):
                    self._count(msgspec.json.decode(line, type=_Line))
        if self.fatal:
            raise UploadError(self.fatal)

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
        self.files += request.uploaded_len
        self.is_complete = self.is_complete or request.complete


# What W&B itself has


class ReadBack:
    """Asks W&B for one run: its client reports nothing of files and settings, and takes any answer for success.

    Args:
        entity: the account or team; None for the user's own.
        project: the project.
        run_id: W&B's id of the run.
        base_url: the server; the client's default if None.
        api_key: the key; that of the user's login if None.
    """

    def __init__(
        self, entity: str | None, project: str, run_id: str, base_url: str | None, api_key: str | None
    ) -> None:
        self._given_entity = entity
        self._project = project
        self._id = run_id
        self._base_url = base_url
        self._api_key = api_key

    @classmethod
    def of(cls, run: Any) -> ReadBack:
        """Return what asks for a run that is open."""
        return cls(run.entity, run.project, run.id, run.settings.base_url, run.settings.api_key)

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
        variables = {"entity": self._entity, "project": self._project, "name": self._id}
        found = self._api._service_api.execute_graphql(query, variables)
        return ((found.get("project") or {}).get("run") or {}).get(field)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of up to `MOST_NAMES` files, by their paths in the run, that W&B has."""
        files = self._run.files(names=sorted(names), per_page=MOST_NAMES)
        return {file.name: int(file.size) for file in files}

    def times(self, first: int, end: int) -> frozenset[float]:
        """Return the times of the rows with numbers from ``first`` to before ``end``."""
        rows = self._run.scan_history(min_step=first, max_step=end)
        return frozenset(row["_timestamp"] for row in rows if "_timestamp" in row)

    def checkpoint(self, name: str) -> Any:
        """Return the version ``NAME:ALIAS`` of the artifact of checkpoints."""
        return self._api.artifact(f"{self._entity}/{self._project}/{name}", type="model")

    @functools.cached_property
    def _run(self) -> Any:
        return self._api.run(f"{self._entity}/{self._project}/{self._id}")

    @functools.cached_property
    def _entity(self) -> str:
        return self._given_entity or str(self._api.default_entity)

    @functools.cached_property
    def _api(self) -> Any:  # making one takes a request
        import wandb

        return wandb.Api(overrides={"base_url": self._base_url} if self._base_url else {}, api_key=self._api_key)

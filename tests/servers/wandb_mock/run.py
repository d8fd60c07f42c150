"""A run as W&B holds it, and decoded."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

HISTORY = "wandb-history.jsonl"
EVENTS = "wandb-events.jsonl"
SUMMARY = "wandb-summary.json"
CONSOLE = "output.log"

_KEPT = {
    "displayName": "display_name",
    "notes": "notes",
    "tags": "tags",
    "groupName": "group",
    "jobType": "job_type",
    "program": "program",
    "host": "host",
    "commit": "commit",
    "repo": "repo",
    "sweep": "sweep",
}
_SUMMARIES = {"1": "min", "2": "max", "3": "mean", "4": "best", "5": "last", "6": "none", "7": "copy", "8": "first"}
_PREFIX = re.compile(r"^(?P<error>ERROR )?\d{4}-\d\d-\d\dT[\d:.]+ ")


class Scalar(NamedTuple):
    """One value of a metric."""

    step: Any
    value: Any
    time: float


class Media(NamedTuple):
    """Media of a row, with the content of its files."""

    step: int
    value: dict[str, Any]
    files: list[bytes]


class Metric(NamedTuple):
    """The arguments of ``define_metric``."""

    step_metric: str | None
    summary: frozenset[str]
    step_sync: bool
    hidden: bool


class Alert(NamedTuple):
    """An alert."""

    title: str
    text: str
    level: str


@dataclass
class StoredRun:
    """One run."""

    entity: str
    project: str
    id: str
    lock: threading.RLock
    display_name: str = ""
    notes: str | None = None
    tags: Sequence[str] = ()
    group: str | None = None
    job_type: str | None = None
    program: str | None = None
    host: str | None = None
    commit: str | None = None
    repo: str | None = None
    sweep: str | None = None
    exit_code: int | None = None
    preempting: bool = False
    raw_config: dict[str, Any] = field(default_factory=dict)
    """As sent: ``{"lr": {"value": 0.1}, "_wandb": …}``."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Path in the run → content of an uploaded file."""
    announced: set[str] = field(default_factory=set)
    """The paths of uploaded and announced files."""
    alerts: list[Alert] = field(default_factory=list)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)
    """File → line number → line, of files that are sent by lines."""

    @property
    def path(self) -> str:
        """``entity/project/id``."""
        return f"{self.entity}/{self.project}/{self.id}"

    def update(self, variables: dict[str, Any]) -> None:
        """Apply an ``UpsertBucket``."""
        for sent, kept in _KEPT.items():
            if variables.get(sent) is not None:
                setattr(self, kept, variables[sent])
        if variables.get("config") is not None:
            self.raw_config = json.loads(variables["config"])
        if variables.get("summaryMetrics") is not None:
            self.streams[SUMMARY] = {0: variables["summaryMetrics"]}

    def stream(self, body: dict[str, Any]) -> None:
        """Apply a ``file_stream`` request; a line that is sent again overwrites itself."""
        for name, chunk in body.get("files", {}).items():
            lines = self.streams.setdefault(name, {})
            lines.update(enumerate(chunk["content"], chunk["offset"]))
        self.preempting = bool(body.get("preempting"))
        self.exit_code = body.get("exitcode", 0) if body.get("complete") else None

    def rewind(self, number: int) -> None:
        """Delete the rows after a number, all system metrics and the console; compute the summary again."""
        rows = [row for row in self.history if row["_step"] <= number]
        summary = {key: value for row in rows for key, value in row.items()}
        self.streams = {HISTORY: dict(enumerate(map(json.dumps, rows))), SUMMARY: {0: json.dumps(summary)}}

    def line_count(self, name: str) -> int:
        """The number of the next line of a stream."""
        return max(self.streams.get(name, {}), default=-1) + 1

    def lines(self, name: str) -> list[str]:
        """The lines of a stream, in order."""
        with self.lock:
            return [line for _, line in sorted(self.streams.get(name, {}).items())]

    @property
    def state(self) -> str:
        """``running``, ``finished`` or ``failed``."""
        return "running" if self.exit_code is None else "failed" if self.exit_code else "finished"

    @property
    def config(self) -> dict[str, Any]:
        """The user's config."""
        return {key: each["value"] for key, each in self.raw_config.items() if key != "_wandb"}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows."""
        return [json.loads(line) for line in self.lines(HISTORY)]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The system metrics."""
        return [json.loads(line) for line in self.lines(EVENTS)]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary: the last line of its stream."""
        return json.loads(self.lines(SUMMARY)[-1]) if self.lines(SUMMARY) else {}

    @property
    def console(self) -> list[str]:
        """The console lines, without their times."""
        return [_PREFIX.sub("", line) for line in self.lines(CONSOLE)]

    @property
    def metadata(self) -> dict[str, Any]:
        """``wandb-metadata.json``: program, git, hardware."""
        return json.loads(self.files["wandb-metadata.json"])

    @property
    def metrics(self) -> dict[str, Metric]:
        """Name or pattern → arguments of ``define_metric``."""
        sent = self.raw_config.get("_wandb", {}).get("value", {}).get("m", [])
        return {each.get("1") or each["2"]: _metric(each, sent) for each in sent}

    def scalars(self, key: str, step: str = "_step") -> list[Scalar]:
        """The values of a metric, over ``_step`` or another metric."""
        return [Scalar(row.get(step), row[key], row["_timestamp"]) for row in self.history if key in row]

    def media(self, key: str) -> list[Media]:
        """The media with a key."""
        return [Media(row["_step"], row[key], list(self._files_of(row[key]))) for row in self.history if key in row]

    def _files_of(self, value: dict[str, Any]) -> Iterator[bytes]:
        for path in value.get("filenames") or [value[name] for name in ("path",) if name in value]:
            yield self.files[path]


def _metric(sent: dict[str, Any], all_sent: list[dict[str, Any]]) -> Metric:
    """Decode a ``MetricRecord``, which has field numbers for names."""
    index = sent.get("5")
    options = _numbers(sent.get("6"))
    return Metric(
        step_metric=sent.get("4") or (all_sent[index - 1]["1"] if index else None),
        summary=frozenset(_SUMMARIES[number] for number in _numbers(sent.get("7"))),
        step_sync="1" in options,
        hidden="2" in options,
    )


def _numbers(sent: dict[str, Any] | Sequence[int] | None) -> set[str]:
    return {str(each) for each in sent or ()}

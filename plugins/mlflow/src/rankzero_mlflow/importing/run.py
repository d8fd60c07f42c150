"""`MlflowRun`: the events of an MLflow run, from any store."""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rankzero.events.structs import DefineMetric, Event, Params, Tags
from rankzero.events.trust import LATEST
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.importers.nested_params import NestedParams
from rankzero.loggers.summaries import kinds_of
from rankzero.media.store import MediaStore
from rankzero.rundir.layout import JOURNAL
from rankzero_mlflow.client import NAME_TAG, RUN_TAG
from rankzero_mlflow.importing.artifacts import Artifacts, Folder, KnownFile
from rankzero_mlflow.importing.points import Point, checked, imported_points, rows
from rankzero_mlflow.session import CHANGED_TAG, DEFINITION_TAG

_STATUSES = {"FINISHED": "success", "FAILED": "failed"}
_NAME, _NOTES, _PARENT = "mlflow.runName", "mlflow.note.content", "mlflow.parentRunId"
_HIDDEN = (_NAME, _NOTES, "mlflow.logged", "mlflow.log-model.history", "rankzero.")
_LITERALS = ("[", "{", "True", "False", "None", "nan", "inf")
_DEEPEST = 50
"""The maximum number of brackets in a param to parse."""


@dataclass(frozen=True)
class Details:
    """A run in the list of runs. Times are Unix times in milliseconds."""

    id: str
    name: str = ""
    project: str | None = None
    """The name of the experiment."""
    status: str = ""
    started: Any = None
    ended: Any = None

    @property
    def start(self) -> float:
        """Unix time in seconds; 0 if unknown or damaged."""
        return _seconds(self.started)

    @property
    def end(self) -> float:
        """Unix time in seconds; 0 if unknown or damaged."""
        return _seconds(self.ended)


@dataclass
class Content:
    """A run without its metrics."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[dict[str, str]] = field(default_factory=list)
    """Name, digest, source, …"""
    artifacts: Folder | None = None
    models: list[Folder] = field(default_factory=list)
    """The logged models of MLflow 3, which are not artifacts of the run."""
    versions: list[dict[str, Any]] = field(default_factory=list)
    """The versions of registered models: ``name``, ``version``, ``aliases`` and ``source``."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Unreadable data, and the reasons."""

    def leave_out(self, what: str, why: str) -> None:
        """Record unreadable data."""
        self.left_out.append((what, why))


class Position(msgspec.Struct):
    """The imported part of a run."""

    points: Any = None
    """The end of the imported metrics, in a form of the store."""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    datasets: list[dict[str, str]] = []
    files: dict[str, KnownFile] = {}


class MlflowRun(FoundRun):
    """A run of MLflow. Subclasses read it from one kind of store."""

    def __init__(self, details: Details, source: str) -> None:
        self.identity = details.id
        self.project = details.project
        self.source = source
        self._details = details
        self._known = Position()
        self._content = Content()

    @abstractmethod
    def read(self) -> Content:
        """Return the run without its metrics."""

    @abstractmethod
    def points(self, known: Any, report: Report) -> Iterator[Point]:
        """Yield the points that are not ``known``; set `ended_at` for the next import."""

    rereads = False
    """Whether `points` also yields imported points."""
    ended_at: Any = None
    """The value of ``known`` for the next import."""
    is_deleted = False
    """Whether the run is in MLflow's trash."""

    def can_resume(self, known: Any) -> bool:
        """Return whether the ``known`` points still exist."""
        return True

    def header(self) -> Header:
        self._content = self.read()
        tags = self._content.tags
        return Header(
            name=self._details.name or tags.get(_NAME, ""),
            notes=tags.get(_NOTES) or None,
            started=self._details.start,
            status=_STATUSES.get(self._details.status, "aborted"),
            group=tags.get("group") if RUN_TAG in tags else None,
            parent=tags.get(_PARENT),
        )

    def resume(self, position: Any) -> bool:
        try:
            known = msgspec.convert(position, Position)
        except msgspec.ValidationError:
            return False
        if not self.can_resume(known.points):
            return False
        self._known = known
        return True

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        content, known = self._content, self._known
        time = self._details.start
        for what, why in content.left_out:
            report.leave_out(what, why)
        definitions = list(_definitions(content.tags, time))
        yield from self._params(time)
        yield from (each for each in definitions if DEFINITION_TAG + each.name not in known.tags)
        summaries = {
            f"{each.name}.{kind}" for each in definitions for kind in kinds_of(each.summary, each.goal)[0] or ()
        }
        new = checked(self.points(known.points, report), self.name_of, summaries, report)
        is_again = self.rereads and known.points is not None
        yield from rows(new, imported_points(files.directory / JOURNAL) if is_again else ())
        end = self._details.end
        artifacts = Artifacts(files, report, known.files, content.tags, content.versions, time, end)
        for folder in (content.artifacts, *content.models):
            if folder is not None:
                yield from artifacts.events(folder)
        now = Position(self.ended_at, content.params, content.tags, content.datasets, artifacts.known)
        self.position = msgspec.to_builtins(now)

    def name_of(self, name: str) -> str:
        """Return the original name of a metric, param or tag that rankzero's plugin has renamed for MLflow."""
        return self._content.tags.get(NAME_TAG + name, name)

    def _params(self, time: float) -> Iterator[Event]:
        """Yield the new params, tags and datasets."""
        content, known = self._content, self._known
        new = {name: text for name, text in content.params.items() if known.params.get(name) != text}
        tags = {name: text for name, text in content.tags.items() if known.tags.get(name) != text}
        new |= {name.removeprefix(CHANGED_TAG): text for name, text in tags.items() if name.startswith(CHANGED_TAG)}
        nested, values = NestedParams(), dict[str, Any]()
        for name in known.params:
            nested.set({}, self.name_of(name), None)
        for name, text in new.items():
            nested.set(values, self.name_of(name), parsed(text))
        if about := _about(tags, [each for each in content.datasets if each not in known.datasets]):
            nested.set(values, "mlflow", about)
        if values:
            yield Params(time, values)
        if labels := [self.name_of(name) for name, text in tags.items() if _is_label(name, text)]:
            yield Tags(time, labels)


def _seconds(milliseconds: Any) -> float:
    is_valid = isinstance(milliseconds, int) and 0 < milliseconds < LATEST * 1000
    return milliseconds / 1000 if is_valid else 0.0


def parsed(text: str) -> Any:
    """Return the value of a param, if MLflow would convert it to the same text; otherwise the text.

    >>> [parsed(text) for text in ("0.1", "1e-3", "[64, 10]", "None", "adam")]
    [0.1, '1e-3', [64, 10], None, 'adam']
    """
    if text.startswith((*"-0123456789", *_LITERALS)) and text.count("[") + text.count("{") <= _DEEPEST:
        for convert in (int, float, ast.literal_eval):
            try:
                value = convert(text)
                if str(value) == text and (isinstance(value, float) or _survives(value)):
                    return value
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue
    return text


def _survives(value: Any) -> bool:
    return bool(msgspec.json.decode(msgspec.json.encode(value)) == value)


def _is_label(name: str, text: str) -> bool:
    """Return whether an MLflow tag, a name and a text, represents a tag without text."""
    return text == "true" and not name.startswith(("mlflow.", "rankzero."))


def _about(tags: Mapping[str, str], datasets: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Return the value of the param ``mlflow``."""
    texts = {each: text for each, text in tags.items() if not each.startswith(_HIDDEN) and not _is_label(each, text)}
    if RUN_TAG in tags:
        texts[RUN_TAG] = tags[RUN_TAG]
    named = {f"{each.get('name', '')}@{each.get('digest', '')}": dict(each) for each in datasets}
    return {key: value for key, value in {"tags": texts, "datasets": named}.items() if value}


def _definitions(tags: Mapping[str, str], time: float) -> Iterator[DefineMetric]:
    for tag, text in tags.items():
        if tag.startswith(DEFINITION_TAG):
            try:
                yield msgspec.convert({"type": "definemetric", "time": time, **msgspec.json.decode(text)}, DefineMetric)
            except (msgspec.MsgspecError, TypeError):
                continue

"""Translate the records of W&B's client to rankzero's events."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.events.structs import Alert, Artifact, DefineMetric, Event, Metrics, Params, Tags, Text, encode
from rankzero.events.trust import LATEST
from rankzero.importers.base import Report
from rankzero.importers.console_lines import ConsoleLines
from rankzero.loggers.summaries import KINDS
from rankzero.values import NON_FINITE
from rankzero_wandb.importing.artifacts import artifact_events
from rankzero_wandb.importing.files import RunFiles, artifact_file
from rankzero_wandb.importing.media import media_events
from rankzero_wandb.opening import MARK, STEP

_SPECIAL = {**NON_FINITE, "-0": -0.0}  # JSON decoders return the int 0
_INVALID = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError, msgspec.MsgspecError)
"""The exceptions that invalid records raise."""
_OF_CLIENT = ("_runtime", "_step", "_timestamp", "_wandb")
_STDOUT, _OTHER = 1, 0  # numbers of W&B's enumerations
_NOT_SAVED = re.compile(r"media/|code/|requirements\.txt|wandb-metadata\.json|diff\.patch|.*\.tfevents\.")
"""Paths of files that the user did not save: media and TensorBoard's files, which are in the history, and files of the
environment."""
_MOST_TABLES = 100
_LONG = 100  # characters
_ALERT_LEVELS = ("INFO", "WARN", "ERROR")
_TABLES = ("run_table", "wandb-run-incremental-table")
"""The types of artifacts that hold the tables of rows."""


class State(msgspec.Struct, omit_defaults=True):
    """The imported part of a run, after which the next import continues."""

    ends: dict[str, int] = {}
    """Log → the offset at which the next record begins."""
    time: float = 0.0
    """The latest time in a record."""
    params: dict[str, str] = {}
    """Name → value, in JSON."""
    tags: list[str] = []
    history: dict[str, str | None] = {}
    """Name → last value, in JSON; None for long values and for nested ones."""
    summary: dict[str, str] = {}
    """Name of a summary that the user set → value, in JSON."""
    is_ours: bool = False
    """Whether rankzero's logger wrote the run."""


class _Undecoded(str):
    """A summary in JSON. It is decoded at the end, because the next record probably replaces it."""


class Translator:
    """Translates records to events.

    Args:
        state: the part that has been imported; updated by `finish`.
        report: records what cannot be imported.
        described: the tags in the header of the run.
    """

    def __init__(self, state: State, report: Report, described: Iterable[str]) -> None:
        self.files: RunFiles
        """The files of the process whose records are translated."""
        self.is_damaged = False
        """Whether records are missing, so that the last values of the history are unknown."""
        self._state = state
        self._report = report
        self._tags = dict.fromkeys([*state.tags, *described])
        self._console = ConsoleLines()
        self._summary: dict[str, Any] = {}
        self._unmatched: set[str] = set()  # summaries whose row of the history is perhaps not written yet
        self._has_ended = False
        self._saved: set[tuple[str, str]] = set()
        self._tables: dict[str, dict[str, Path]] = {}
        self._translate: dict[str | None, Callable[[Any], Iterable[Event]]] = {
            "run": self._run,
            "config": self._config,
            "history": self._row,
            "summary": self._note_summary,
            "stats": self._stats,
            "metric": self._definition,
            "output": self._output,
            "output_raw": self._output,
            "output_logger": self._output,
            "files": self._saved_files,
            "artifact": self._artifact,
            "use_artifact": self._used_artifact,
            "alert": self._alert,
            "exit": self._exit,
        }

    def events(self, record: Any) -> Iterator[Event]:
        """Yield the events of a record."""
        kind = record.WhichOneof("record_type")
        translate = self._translate.get(kind)
        if translate is None:
            return
        yield from self._valid(f"a record of the type {kind}", translate(getattr(record, kind)))

    def _valid(self, what: str, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events up to the first invalid one, and report it."""
        try:
            for event in events:
                if event.__class__ is not Metrics:  # which has only names and numbers
                    encode(event)
                yield event
        except _INVALID as error:
            self._report.leave_out(what, f"it is invalid: {error}")

    def finish(self) -> Iterator[Event]:
        """Yield the events that are complete only at the end, and update the state."""
        yield from self._valid("the console", self._console.partial())
        yield from self._valid("the summary", self._set_summaries())
        self._state.tags = list(self._tags)
        for name, value in self._state.history.items():
            if value is not None and len(value) > _LONG:
                self._state.history[name] = None

    # Descriptions

    def _run(self, run: Any) -> Iterator[Event]:
        self._note_time(seconds(run.start_time))
        details = {name: getattr(run, name) for name in ("entity", "job_type", "sweep_id") if getattr(run, name)}
        if details and "wandb" not in self._state.params:
            self._state.params["wandb"] = ""
            yield Params(self._state.time, {"wandb": details})
        yield from self._config(run.config)
        new = [tag for tag in run.tags if tag not in self._tags]
        if new:
            self._tags.update(dict.fromkeys(new))
            yield Tags(self._state.time, new)

    def _config(self, config: Any) -> Iterator[Event]:
        known = self._state.params
        new: dict[str, Any] = {}
        for item in config.update:
            keys = _keys(item)
            if keys[0] == MARK:
                self._state.is_ours = True
            elif keys[:2] == ["_wandb", "visualize"]:
                reason = "rankzero has no custom charts; the data of this one is imported as a table"
                self._report.leave_out(f"the chart {'.'.join(keys[2:])}", reason)
            elif keys[0] != "_wandb":
                name, value = ".".join(keys), decode(item.value_json)
                text = json.dumps(value, sort_keys=True)
                if known.get(name) != text:
                    known[name] = text
                    nest(new, keys, value)
        if new:
            yield Params(self._state.time, new)

    def _definition(self, metric: Any) -> Iterator[Event]:
        name = metric.name or metric.glob_name
        if metric.expanded_from_glob or not name or name == STEP:
            return
        axis = metric.step_metric if metric.step_metric != STEP else ""
        kinds = ",".join(kind for kind in (*KINDS, "none") if getattr(metric.summary, kind))
        if axis or (kinds and not self._state.is_ours):  # rankzero's logger computes summaries itself
            yield DefineMetric(self._state.time, name, axis or None, kinds or None)

    def _exit(self, record: Any) -> Iterable[Event]:
        self._has_ended = True
        return ()

    # Values

    def _row(self, history: Any) -> Iterator[Event]:
        row: dict[str, Any] = {}
        last = self._state.history
        for item in history.item:
            keys, text = item.nested_key, item.value_json
            value = decode(text) if text else _typed(item)
            if len(keys) > 1:
                last[keys[0]] = None
                nest(row, keys, value)
            else:
                key = item.key or keys[0]
                last[key] = text
                row[key] = value
        self._unmatched.clear()
        time = self._note_time(row.pop("_timestamp", None))
        row.pop("_runtime", None)
        step = row.pop("_step", history.step.num)
        yield from self._values(row, time, row.pop(STEP, step))  # where Lightning's and rankzero's loggers put the step

    def _values(self, values: Mapping[str, Any], time: float, step: Any) -> Iterator[Event]:
        """Yield one event with all numbers in nested values, and one for each other value."""
        step = step if step.__class__ is int and _is_small(step) else None
        numbers: dict[str, Any] = {}
        others = []
        for top, value in values.items():
            if value.__class__ is float:
                numbers[top] = value
                continue
            for name, each in _leaves(top, value):
                if isinstance(each, int):
                    numbers[name] = each if _is_small(each) else _as_float(each)
                elif isinstance(each, float):
                    numbers[name] = each
                elif each is not None:
                    others.append((name, each))
        if numbers:
            yield Metrics(time, step, numbers)
        for name, each in others:
            try:
                if isinstance(each, dict):
                    yield from media_events(name, each, time, step, self.files, self._tables)
                else:
                    yield Text(time, name, ["value"], [[each if isinstance(each, str) else json.dumps(each)]], step)
            except _INVALID as error:
                self.files.leave_out(name, error)

    def _stats(self, stats: Any) -> Iterator[Event]:
        time = self._note_time(seconds(stats.timestamp))
        yield from self._values({f"system/{item.key}": decode(item.value_json) for item in stats.item}, time, None)

    def _note_time(self, time: Any) -> float:
        """Return the time of a record, or the latest one if it has none; keep the latest."""
        time = valid_time(time)
        self._state.time = max(self._state.time, time)
        return time or self._state.time

    # Summaries: the client repeats the values of each row before the row

    def _note_summary(self, summary: Any) -> Iterable[Event]:
        for item in summary.update:
            if item.key:
                self._summary[item.key] = decode(item.value_json)
                continue
            keys = item.nested_key
            self._unmatched.add(keys[0])
            if len(keys) > 1:
                nest(self._summary, keys, decode(item.value_json))
            else:
                self._summary[keys[0]] = _Undecoded(item.value_json)
        return ()

    def _set_summaries(self) -> Iterator[Event]:
        """Yield the summaries that the user set: the history lacks them, or ends with another value."""
        new: dict[str, Any] = {}
        for name, value in self._summary.items():
            if name in _OF_CLIENT or (name in self._unmatched and not self._has_ended):
                continue
            value = decode(str(value)) if isinstance(value, _Undecoded) else value
            if name in self._state.history:
                last = self._state.history[name]
                is_computed = isinstance(value, dict) and ("_type" in value or not value.keys() - {*KINDS, "best"})
                if last is None or self.is_damaged or is_computed or repr(decode(last)) == repr(value):
                    continue
                name = f"summary/{name}"
            text = json.dumps(value)
            if self._state.summary.get(name) != text:
                self._state.summary[name] = text
                new[name] = value
        yield from self._values(new, self._state.time, None)

    # Console, files and alerts

    def _output(self, output: Any) -> Iterator[Event]:
        time = self._note_time(seconds(output.timestamp)) if hasattr(output, "timestamp") else self._state.time
        stream = "stderr" if getattr(output, "output_type", _STDOUT) != _STDOUT else "stdout"
        if (lines := self._console.add(stream, output.line, time)) is not None:
            yield lines

    def _saved_files(self, files: Any) -> Iterator[Event]:
        for item in files.files:
            if item.type == _OTHER and not _NOT_SAVED.match(item.path):
                for stored in self.files.put([(item.path, None)], item.path):
                    if (item.path, stored.path) not in self._saved:
                        self._saved.add((item.path, stored.path))
                        yield Artifact(self._state.time, stored.path, item.path, "file")

    def _artifact(self, artifact: Any) -> Iterator[Event]:
        if artifact.type not in _TABLES:
            yield from artifact_events(artifact, self._state.time, self.files, self._report, self._state.is_ours)
            return
        found = self._tables[artifact.client_id] = {}
        for entry in artifact.manifest.contents:
            with suppress(OSError, ValueError):  # the table is in the run's directory, too
                found[entry.path] = artifact_file(entry)
        if len(self._tables) > _MOST_TABLES:
            del self._tables[next(iter(self._tables))]

    def _used_artifact(self, artifact: Any) -> Iterable[Event]:
        self._report.leave_out(artifact.name or artifact.id, "the run used this artifact, which is in W&B")
        return ()

    def _alert(self, alert: Any) -> Iterator[Event]:
        level = alert.level if alert.level in _ALERT_LEVELS else "INFO"
        yield Alert(self._state.time, alert.title, alert.text, level)


def seconds(timestamp: Any) -> float:
    """Return a time of the client as Unix time in seconds."""
    return float(timestamp.seconds + timestamp.nanos / 1e9)


def valid_time(time: Any) -> float:
    """Return a Unix time in seconds, 0 if it is invalid."""
    return float(time) if isinstance(time, int | float) and 0 < time < LATEST else 0.0


def decode(text: str) -> Any:
    """Read a value in JSON, in which NaN and infinity are numbers."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)  # it has a NaN, or a number that is too large


def _typed(item: Any) -> Any:
    """Return a value that the client did not write as JSON."""
    kind = item.WhichOneof("value")
    if kind in (None, "none"):
        return None
    return decode(item.json) if kind == "json" else getattr(item, kind)


def _keys(item: Any) -> list[str]:
    return [item.key] if item.key else list(item.nested_key)


def nest(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value in nested dictionaries."""
    for key in keys[:-1]:
        inner = values.get(key)
        inner = decode(str(inner)) if isinstance(inner, _Undecoded) else inner
        values[key] = inner = inner if isinstance(inner, dict) else {}
        values = inner
    values[keys[-1]] = value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values in nested dictionaries, with keys joined by dots; media are one value."""
    if not isinstance(value, dict) or isinstance(value.get("_type"), str):
        yield name, value
        return
    for key, each in value.items():
        yield from _leaves(f"{name}.{key}", each)


def _is_small(number: int) -> bool:
    return -(2**63) <= number < 2**63


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf

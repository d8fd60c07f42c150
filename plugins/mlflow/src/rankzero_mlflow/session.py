"""Write metrics, hyperparameters and the status to an MLflow run."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import time as now
from typing import Any

import msgspec

from rankzero.errors import RejectedError
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero.events.structs import DefineMetric, MediaEvent, Metrics
from rankzero.journal.rewinds import read_superseded
from rankzero.loggers.adapter import TrackerLogger
from rankzero.loggers.summaries import find_definition, kinds_of
from rankzero.rank import rank_zero_warn
from rankzero.run.endings import end_at_exit, forget, is_open
from rankzero.rundir.layout import JOURNAL
from rankzero.values import Number, as_float, flatten
from rankzero_mlflow.client import NAME_TAG, CheckedClient, client_of_run, metric_name
from rankzero_mlflow.media import MAX_TAGS, FileSession, batches
from rankzero_mlflow.opening import Finder, parent_of
from rankzero_mlflow.options import how_to_view
from rankzero_mlflow.rewinding import REWOUND_AT, REWOUND_FROM, Superseded, retire

DEFINITION_TAG = "rankzero.metric."
"""The tag ``rankzero.metric.<name>`` contains the arguments of `define_metric`."""

CHANGED_TAG = "rankzero.param."
"""The tag ``rankzero.param.<name>`` contains the newest value of a changed param: MLflow keeps the first one."""

_MAX_METRICS = 1000  # in a request
_SHORT = 250  # characters of a param that every MLflow server accepts
STATUSES = {"success": "FINISHED", "aborted": "KILLED", "failed": "FAILED"}
_PARENT_TAG = "mlflow.parentRunId"


class MlflowSession(FileSession):
    """Writes to one run.

    Args:
        client: the client.
        run: MLflow's ``Run``, just read.
        logger: its logger; in direct use the run ends with this process.
        uri: the tracking URI.
    """

    def __init__(self, client: CheckedClient, run: Any, logger: TrackerLogger, uri: str) -> None:
        super().__init__(client, run, logger)
        self.url = how_to_view(uri, self.experiment_id, self.id)
        self._uri = uri
        self._logger = logger
        self._run_info = logger.run_info
        self._rewound_from = run.data.tags.get(REWOUND_FROM)
        self._rewound_at = run.data.tags.get(REWOUND_AT)
        self._is_nested = _PARENT_TAG in run.data.tags
        self._has_ended = run.info.status != "RUNNING"
        self._status = STATUSES["success"]
        self._started = run.info.start_time / 1000
        self._params: dict[str, str] = dict(run.data.params)
        self._kinds: dict[str, tuple[str, ...]] = {}  # name or pattern of metrics → summaries
        self._best = {metric.key: (metric.value, metric.step) for metric in run.data._metric_objs}  # of summaries
        self._names: dict[str, str] = {}
        for key, text in run.data.tags.items():
            if key.startswith(DEFINITION_TAG):
                self._define(**msgspec.json.decode(text))
            elif key.startswith(CHANGED_TAG):
                self._params[key.removeprefix(CHANGED_TAG)] = text

    @functools.cached_property
    def experiment(self) -> Any:
        """MLflow's own client."""
        return client_of_run(self._uri, self.id)

    # Status

    def resume(self, time: float) -> None:
        if self._has_ended:
            self.client.update_run(self.id, status="RUNNING")
            self._has_ended = False
        self.end_with_this_process()

    def finish(self, status: str, time: float) -> None:
        self._status = status
        self._set_parent()
        self.flush()
        self.client.set_terminated(self.id, status, end_time=round(time * 1000))
        self._has_ended = True
        forget(self)

    def _set_parent(self) -> None:
        """Set the run's parent, if MLflow got it after this run."""
        if not self._is_nested and (parent := parent_of(self._run_info, self.client, self.experiment_id)) is not None:
            self.set_tags({_PARENT_TAG: parent})

    def close(self) -> None:
        if is_open(self):
            self.finish(self._status, now())

    def end_with_this_process(self) -> None:
        """End the run with this process in direct use; otherwise it would stay RUNNING forever."""
        if self._run_info is None:
            end_at_exit(self)

    def end_with_process(self, status: str | None, timeout: float, error: BaseException | None = None) -> None:
        """End the run, because the process ends."""
        self.client = CheckedClient(self._uri, has_courier=True)  # it does not retry for minutes
        try:
            self.finish(self._status if status is None else STATUSES.get(status, STATUSES["failed"]), now())
        except Exception as failure:  # the process must still end other runs
            forget(self)
            rank_zero_warn(f"the run stays RUNNING in MLflow, because ending it failed: {failure}")

    def after_fork(self) -> None:
        """Do nothing: the parent process ends the run."""

    # Metrics

    def write_metrics(self, rows: Iterable[MetricsRow]) -> None:
        best = dict(self._best)
        for batch in batches((point for row in rows for point in self._points(row, best)), _MAX_METRICS):
            self.send(metrics=batch)
        self._best = best  # only after success: otherwise the rows are sent again

    def _points(self, row: MetricsRow, best: dict[str, tuple[float, int]]) -> Iterator[Any]:
        from mlflow.entities import Metric

        time, step = round(row.context.time * 1000), row.step_or_seconds(self._started) or 0
        for name, number in row.values.items():
            value = self._storable(name, number)
            yield Metric(self._name_in_mlflow(name), value, time, step)
            for summary, last in self._improved_summaries(best, name, value, step):
                yield Metric(self._name_in_mlflow(summary), value, time, last)

    def _improved_summaries(
        self, best: dict[str, tuple[float, int]], name: str, value: float, step: int
    ) -> Iterator[tuple[str, int]]:
        """Yield each summary, ``loss.min``, that ``value`` improves, with its step, and add it to ``best``."""
        defined = find_definition(name, self._kinds)
        for kind in self._kinds[defined] if defined is not None and not math.isnan(value) else ():
            summary = f"{name}.{kind}"
            renamed = metric_name(summary)
            former, last = best.get(renamed, (math.nan, step))
            if value >= former if kind == "min" else value <= former:
                continue
            # MLflow shows the value of the greatest step, and a resumed run may repeat steps.
            best[renamed] = (value, max(step, last))
            yield summary, max(step, last)

    def _storable(self, name: str, number: Number) -> float:
        value = as_float(number)
        if math.isinf(value):
            # MLflow would store the largest float.
            self.warner.warn(f"MLflow cannot store infinity: {name!r} is NaN there; the journal of a Run has the value")
            return math.nan
        return value

    def _name_in_mlflow(self, name: str) -> str:
        renamed = self._names.get(name)
        if renamed is None:
            renamed = metric_name(name)
            if renamed != name:
                self.warner.warn(f"MLflow refuses the name {name!r}; it is called {renamed!r} there")
                self.set_tags({NAME_TAG + renamed: name})
            self._names[name] = renamed
        return renamed

    def define_metric(self, definition: DefineMetric, context: LogContext) -> None:
        names = ("name", "step_metric", "summary", "goal")
        arguments = {name: getattr(definition, name) for name in names}
        self._define(**arguments)
        self.set_tags({metric_name(DEFINITION_TAG + definition.name): msgspec.json.encode(arguments).decode()})

    def _define(self, name: str, step_metric: str | None, summary: str | None, goal: str | None) -> None:
        kinds, _ = kinds_of(summary, goal)
        shown = tuple(kind for kind in kinds or () if kind in ("min", "max"))
        if not shown and summary not in (None, "last"):
            self.warner.warn(f"MLflow has no summary {summary!r}; {name!r} shows its last value")
        if shown or summary is not None:
            self._kinds.pop(name, None)
            self._kinds[name] = shown
        if step_metric is not None:
            self.warner.warn(f"MLflow plots {name!r} over steps or time, not over {step_metric!r}")

    # Params

    def write_params(self, params: dict[str, Any], context: LogContext) -> None:
        named = {self._name_in_mlflow(name): str(value) for name, value in flatten(params)}
        new = {name: value for name, value in named.items() if name not in self._params}
        for batch in batches(new.items(), MAX_TAGS):
            self._send_params(batch)
        stored = dict(new)
        if any(len(value) > _SHORT for value in new.values()):
            read = self.client.get_run(self.id).data.params  # a server may truncate long values silently
            stored.update({name: read[name] for name in new if name in read})
        self._params.update(stored)
        for name, value in named.items():
            stored_value = self._params[name]
            if stored_value == value:
                continue
            if len(stored_value) >= _SHORT and value.startswith(stored_value):
                self.write_whole("param", name, value, f"MLflow has {len(stored_value)} characters of it")
            else:
                self._write_changed(name, value)
            self._params[name] = value

    def _send_params(self, params: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        try:
            self.send(params=[Param(name, value) for name, value in params])
        except RejectedError as error:  # one of them is invalid, or all are too long for a request
            if len(params) == 1:
                self.write_whole("param", *params[0], str(error))
                return
            half = len(params) // 2
            self._send_params(params[:half])
            self._send_params(params[half:])

    def _write_changed(self, name: str, value: str) -> None:
        self.warner.warn(
            f"the param {name!r} was {self._params[name][:80]!r} and is now {value[:80]!r}. MLflow keeps the first "
            f"value; the newest is in the tag {CHANGED_TAG + name!r}"
        )
        self.set_tags({metric_name(CHANGED_TAG + name): value})

    # Rewinds

    def rewind(self, step: int, context: LogContext) -> int | None:
        """Return 0 if a new run is to replace this one. If this is such a run, and complete, replace the old one."""
        line = context.line or 0
        if self._options["run_id"]:
            self._logger.warn_of_rewind(step, ": a run that was chosen with run_id is not replaced")
        elif self._rewound_at is None:
            return 0 if self._superseded_before(line).is_in(self.client, self.id) else None
        elif line >= int(self._rewound_at):
            self._replace_old(line)
            return self.rewind(step, context)
        return None

    def _superseded_before(self, end: int) -> Superseded:
        assert self._run_info is not None
        superseded = Superseded()
        for line, event in read_superseded(Path(self._run_info.dir, JOURNAL), end):
            if isinstance(event, Metrics):
                superseded.add_points(self._points(self._logger.named(event.row(line.number)), {}))
            elif isinstance(event, MediaEvent):
                superseded.add_media(event, line.number)
        return superseded

    def _replace_old(self, line: int) -> None:
        Finder(self.client, self._uri, self._options, self._run_info).adopt(self.id)
        old = self.client.get_run(self._rewound_from)
        retire(self.client, old, self.id, self._superseded_before(line), self.warner)
        self._rewound_at = None

"""The numbers, params and tags of one MLflow run."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec

from rankzero import rank_zero_warn
from rankzero.errors import RejectedError
from rankzero.events.run_info import MetricsRow
from rankzero.values import Number
from rankzero_mlflow.failures import CheckedClient, translated
from rankzero_mlflow.names import LONGEST_TAG, NAME_TAG, metric_name, path_name
from rankzero_mlflow.summaries import Summaries, summary_of

T = TypeVar("T")

DEFINITION_TAG = "rankzero.metric."
"""The tag ``rankzero.metric.<name>`` holds what `define_metric` said."""

CHANGED_TAG = "rankzero.param."
"""The tag ``rankzero.param.<name>`` holds the newest value of a param that was changed: MLflow keeps the first."""

_MOST_METRICS = 1000  # in a request
_MOST_PARAMS = 100
_MOST_PENDING = 1000  # requests that are not waited for
_SHORT = 250  # characters that every MLflow server takes in a param


class TrackedRun:
    """Writes to one run.

    Args:
        client: how MLflow is reached.
        run: MLflow's ``Run``, just read.
        synchronous: whether a request returns only when MLflow has what was sent; MLflow's default if None.
    """

    def __init__(self, client: CheckedClient, run: Any, synchronous: bool | None = None) -> None:
        self.client = client
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.artifact_uri: str = run.info.artifact_uri
        self._has_ended = run.info.status != "RUNNING"
        self._params: dict[str, str] = dict(run.data.params)
        self._summaries = Summaries(run.data._metric_objs)  # with their steps; run.data.metrics has only the values
        self._names: dict[str, str] = {}
        self._said: set[str] = set()
        self._synchronous = synchronous
        self._operations: deque[Any] = deque()
        for key, text in run.data.tags.items():
            if key.startswith(DEFINITION_TAG):
                self._define(**msgspec.json.decode(text))
            elif key.startswith(CHANGED_TAG):
                self._params[key.removeprefix(CHANGED_TAG)] = text

    # Status

    def go_on(self) -> None:
        """Have a run that had ended marked as running again."""
        if self._has_ended:
            self.client.update_run(self.id, status="RUNNING")
            self._has_ended = False

    def end(self, status: str, time: float) -> None:
        """Have the run marked as ended at ``time``, in Unix seconds."""
        self.wait()
        self.client.set_terminated(self.id, status, end_time=round(time * 1000))
        self._has_ended = True

    # Metrics

    def log_metrics(self, rows: Iterable[MetricsRow]) -> None:
        """Send rows, up to 1,000 values in a request."""
        points = (point for row in rows for point in self._points(row))
        with self._summaries.unchanged_on_failure():
            for batch in _batches(points, _MOST_METRICS):
                self._send(metrics=batch)

    def _points(self, row: MetricsRow) -> Iterator[Any]:
        from mlflow.entities import Metric

        time, step = round(row.context.time * 1000), row.step or 0
        values = row.values
        if row.context.epoch is not None:
            values = {"epoch": row.context.epoch, **values}
        for name, number in values.items():
            value = self._storable(name, number)
            yield Metric(self._known_as(name), value, time, step)
            summary = self._summaries.improved(name, value, step)
            if summary is not None:
                yield Metric(self._known_as(summary.name), value, time, summary.step)

    def _storable(self, name: str, number: Number) -> float:
        try:
            value = float(number)
        except OverflowError:
            value = math.inf
        if math.isinf(value):
            # MLflow would store the largest float, which nobody logged.
            self._say_once(f"MLflow cannot hold infinity: {name!r} is NaN there. The journal of a Run has the value")
            return math.nan
        return value

    def _known_as(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            known = metric_name(name)
            if known != name:
                self._say_once(f"MLflow refuses the name {name!r}; it is {known!r} there")
                self.set_tags({NAME_TAG + known: name})
            self._names[name] = known
        return known

    def define_metric(self, name: str, step_metric: str | None, summary: str | None, goal: str | None) -> None:
        """Keep what was said of a metric, and do of it what MLflow can."""
        self._define(name, step_metric, summary, goal)
        said = {"name": name, "step_metric": step_metric, "summary": summary, "goal": goal}
        self.set_tags({metric_name(DEFINITION_TAG + name): msgspec.json.encode(said).decode()})

    def _define(self, name: str, step_metric: str | None, summary: str | None, goal: str | None) -> None:
        kind = summary_of(summary, goal)
        if kind is not None or summary is not None:
            self._summaries.define(name, kind)
        if kind is None and summary not in (None, "last"):
            self._say_once(f"MLflow has no summary {summary!r}; {name!r} shows its last value")
        if step_metric is not None:
            self._say_once(f"MLflow draws {name!r} over steps or time, not over {step_metric!r}")

    # Params

    def log_params(self, params: Mapping[str, str]) -> None:
        """Send params that are new, 100 in a request; what MLflow does not keep of them is kept beside them."""
        named = {self._known_as(name): value for name, value in params.items()}
        new = {name: value for name, value in named.items() if name not in self._params}
        for batch in _batches(new.items(), _MOST_PARAMS):
            self._send_params(batch)
        kept = dict(new)
        if any(len(value) > _SHORT for value in new.values()):
            there = self.client.get_run(self.id).data.params  # a server cuts what it finds too long, and says nothing
            kept.update({name: there[name] for name in new if name in there})
        self._params.update(kept)
        for name, value in named.items():
            known = self._params[name]
            if known == value:
                continue
            if len(known) >= _SHORT and value.startswith(known):
                self._keep_as_file(name, value, f"MLflow has {len(known)} characters of it")
            else:
                self._keep_change(name, value)
            self._params[name] = value

    def _send_params(self, params: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        try:
            self._send(params=[Param(name, value) for name, value in params])
        except RejectedError as error:  # one of them is to blame, or they are too much text for a request
            if len(params) == 1:
                self._keep_as_file(*params[0], str(error))
                return
            half = len(params) // 2
            self._send_params(params[:half])
            self._send_params(params[half:])

    def _keep_change(self, name: str, value: str) -> None:
        self._say_once(
            f"the param {name!r} was {self._params[name][:80]!r} and is {value[:80]!r} now. MLflow keeps the first "
            f"value; the newest is in the tag {CHANGED_TAG + name!r}"
        )
        self.set_tags({metric_name(CHANGED_TAG + name): value})

    def _keep_as_file(self, name: str, value: str, reason: str) -> None:
        path = f"params/{path_name(name)}.txt"
        self._say_once(f"the param {name!r} is whole in the artifact {path}: {reason}")
        self.client.log_text(self.id, value, path)

    # Tags

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, by names that MLflow takes; a value that is too long for it goes to an artifact, too."""
        from mlflow.entities import RunTag

        for key, value in tags.items():
            if len(value) > LONGEST_TAG:
                path = f"tags/{path_name(key)}.txt"
                self._say_once(f"the tag {key!r} is whole in the artifact {path}: it is long")
                self.client.log_text(self.id, value, path)
        for batch in _batches(tags.items(), _MOST_PARAMS):
            self._send(tags=[RunTag(key, value[:LONGEST_TAG]) for key, value in batch])

    # Requests

    def _send(self, **batch: Sequence[Any]) -> None:
        sent = self.client.log_batch(self.id, synchronous=self._synchronous, **batch)
        if sent is not None:
            self._operations.append(sent)
            if len(self._operations) > _MOST_PENDING:
                with translated():
                    self._operations.popleft().wait()

    def wait(self) -> None:
        """Wait for what was sent and not waited for, and ask for what was not answered."""
        with translated():
            while self._operations:
                self._operations.popleft().wait()
        self.client.confirm_uploads()

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            rank_zero_warn(message)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

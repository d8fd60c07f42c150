"""One experiment on Comet's server; each call returns only when the server has taken what it got."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rankzero_comet.connection import Connection
from rankzero_comet.failures import STRANGE_ANSWERS, UnconfirmedError, taken, translated
from rankzero_comet.points import Value, missing
from rankzero_comet.server_files import ServerFiles
from rankzero_comet.settings import Settings

_NO_ENDPOINT = (403, 404, 405)  # of an older server, or one before it, and not worth the values that wait
_MOST_PARAMS = 1000  # in a request: what Comet's client sends at once
_STATES = {"success": "finished", "finished": "finished"}  # the second is what Lightning may say


class Server:
    """Writes to one experiment.

    Args:
        settings: what the user said.
        key: the experiment's key.
        project: its project; Comet's default if None.
    """

    def __init__(self, settings: Settings, key: str, project: str | None) -> None:
        self.connection = Connection(settings, key, project)
        self.files = ServerFiles(self.connection)
        self._logs, self._rest, self._key = self.connection.logs, self.connection.rest, key
        self._ids = self.connection.run_id, self.connection.project_id

    @property
    def url(self) -> str | None:
        """Where Comet shows the experiment."""
        return self.connection.url

    # What the experiment says of itself

    def others(self) -> dict[str, str]:
        """Return what is under "Other": a text for each name."""
        with translated("what the experiment says of itself cannot be read"):
            found = self._rest.get_experiment_others_summaries(self._key)
        return {str(each.get("name")): str(each.get("valueCurrent")) for each in found.get("values") or []}

    def log_other(self, name: str, value: Any, time: float) -> None:
        """Set a value under "Other"."""
        with taken(f"{name!r} was not taken"):
            self._rest.log_experiment_other(self._key, name, value, timestamp=time)

    def add_tags(self, tags: Sequence[str]) -> None:
        """Add tags."""
        with taken("tags were not taken"):
            self._rest.add_experiment_tags(self._key, list(tags))

    def set_times(self, started: float, ended: float | None = None) -> None:
        """Say when the experiment started and ended, in Unix seconds."""
        times = round(started * 1000), None if ended is None else round(ended * 1000)
        with taken("the times of the experiment were not taken"):
            self._rest.set_experiment_start_end(self._key, *times)

    def beat(self) -> None:
        """Say that the experiment goes on; may be called from one other thread."""
        with translated("the experiment's state was not taken", *STRANGE_ANSWERS):
            self.connection.life.update_experiment_status(*self._ids, True)

    def end(self, status: str) -> None:
        """Say how the experiment ended."""
        what = "the experiment's end was not taken"
        with taken(what, *STRANGE_ANSWERS):
            self._logs.update_experiment_status(*self._ids, False)
        with taken(what, *STRANGE_ANSWERS):
            if status in _STATES:
                self._rest.set_experiment_state(self._key, _STATES[status])
            else:
                self._rest.update_experiment_error_status(self._key, False, status, has_crashed=True)

    # Numbers, params, texts

    def log_metrics(self, values: Iterable[Value]) -> None:
        """Send values of metrics in one request, so that Comet takes all of them or none.

        Raises:
            UnconfirmedError: `missing` says whether Comet has taken them.
        """
        from comet_ml.batch_utils import MessageBatchItem
        from comet_ml.messages import MetricMessage

        def message(each: Value) -> Any:
            made = MetricMessage(timestamp=round(each.time * 1000))
            made.set_metric(each.name, each.value, each.step, each.epoch)
            return made

        with translated("metrics were not taken"):
            self._logs.log_metrics_batch([MessageBatchItem(message(each)) for each in values])

    def missing(self, values: Sequence[Value]) -> list[Value]:
        """Return which values of metrics Comet does not hold, as far as it says."""
        with translated("what Comet holds of the metrics cannot be read", *STRANGE_ANSWERS):
            return missing(self._rest, self._key, values)

    def log_params(self, values: Iterable[Value]) -> None:
        """Send params, 1,000 in a request."""
        from comet_ml.batch_utils import MessageBatchItem
        from comet_ml.messages import ParameterMessage

        def message(each: Value) -> Any:
            made = ParameterMessage(timestamp=round(each.time * 1000))
            setter = made.set_params if isinstance(each.value, list) else made.set_param
            setter(each.name, each.value, step=each.step, source=ParameterMessage.source_manual)
            return made

        for batch in _batches(values):
            with taken("params were not taken"):
                try:
                    self._logs.log_parameters_batch([MessageBatchItem(message(each)) for each in batch])
                except UnconfirmedError:
                    if not self._holds_params(batch):
                        raise

    def _holds_params(self, values: Iterable[Value]) -> bool:
        with translated("what Comet holds of the params cannot be read", *STRANGE_ANSWERS):
            found = (self._rest.get_experiment_parameters_summaries(self._key) or {}).get("values") or []
            times = {each["name"]: each["timestampCurrent"] for each in found}
        return all(times.get(value.name) == round(value.time * 1000) for value in values)

    def log_html(self, html: str, time: float) -> None:
        """Add to the page of HTML."""
        with taken("HTML was not taken"):
            self._rest.log_experiment_html(self._key, html, timestamp=time)

    def set_graph(self, graph: str) -> None:
        """Show a model's structure."""
        with taken("the model's structure was not taken"):
            self._rest.set_experiment_model_graph(self._key, graph)

    def log_output(self, text: str, stream: str, time: float) -> None:
        """Add lines to the output."""
        with taken("output was not taken"):
            self._rest.log_experiment_output(self._key, text + "\n", stderr=stream == "stderr", timestamp=time)

    def notify(self, run: str, title: str, text: str, level: str) -> None:
        """Send the user a message about a run, which is called so."""
        with taken("a message was not taken"):
            self._logs.send_notification(title, level, run, self.url, {"text": text} if text else {}, None)

    # Environment

    def describe(self, setter: str, *values: Any) -> None:
        """Say something of the process that trains, such as its ``hostname`` or ``command``."""
        with taken(f"the experiment's {setter} was not taken", never=_NO_ENDPOINT):
            getattr(self._rest, f"set_experiment_{setter}")(self._key, *values)

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()


def _batches(values: Iterable[Value]) -> Iterator[list[Value]]:
    waiting = iter(values)
    while batch := list(islice(waiting, _MOST_PARAMS)):
        yield batch

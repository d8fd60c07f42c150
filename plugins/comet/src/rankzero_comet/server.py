"""One experiment on Comet's server; each call returns only when the server has accepted the data.

Comet's own ``Experiment`` has a queue, and reports success also for lost data. This file uses the client's HTTP layer
below it, which is not public; no other file does.
"""

from __future__ import annotations

import io
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rankzero.errors import AccessError, TrackerUnavailableError
from rankzero.events.run_info import LogContext
from rankzero.loggers.sdk_errors import Rule
from rankzero.values import parse_number
from rankzero_comet.errors import (
    MISUNDERSTOOD,
    UnconfirmedError,
    check_answer,
    opening,
    reading,
    sending,
    writing,
)
from rankzero_comet.options import CometOptions, load_sdk

ASSET, IMAGE = "asset", "visualization"
"""Comet's types of files: any file, and a picture."""

_MAX_PARAMS = 1000  # in a request, as in Comet's client
_MAX_LISTED = 15_000  # points; Comet may list a sample of a longer series

_Point = tuple[int, int | None, str]
"""Time in milliseconds, step, and the ``repr`` of the value as a float."""
_incomplete: dict[tuple[str, int | None], tuple[str, set[str]]] = {}
"""Incomplete artifact versions: (experiment, journal line) → (id, files that were sent).

They must outlive a logger that is replaced after an error.
"""


class Value(NamedTuple):
    """A value of a metric or param."""

    name: str
    value: Any
    time: int
    """Unix time in milliseconds."""
    step: int | None = None
    epoch: int | None = None


class Upload(NamedTuple):
    """A file to send."""

    content: Path | bytes
    type: str
    name: str
    context: LogContext
    step: int | None = None
    metadata: Mapping[str, Any] = MappingProxyType({})


class Version(NamedTuple):
    """A version of one of Comet's artifacts."""

    name: str
    type: str
    aliases: Sequence[str]
    metadata: dict[str, Any]
    files: Mapping[str, Path]
    """Path in the artifact → file."""
    context: LogContext


class Server:
    """Writes to one experiment, which is created if it does not exist.

    Args:
        options: the options of the logger.
        key: the experiment's key.
        project: its project.

    Raises:
        AccessError: the experiment cannot be opened until the user acts.
        TrackerUnavailableError: it cannot be opened now.
    """

    def __init__(self, options: CometOptions, key: str, project: str) -> None:
        self._key = key
        with opening():
            self._connect(options)
            if options["mode"] == "get":
                joined = self._logs.get_run(key)
            else:
                joined = self._logs.add_run(project, options["workspace"], get_or_create_mode=True)
        self._run_id, self._project_id = joined.run_id, joined.project_id
        self.url: str | None = f"{joined.focus_link}{key}" if joined.focus_link else None
        """Where Comet shows the experiment."""

    def _connect(self, options: CometOptions) -> None:
        self._api_key, address = key_and_address(options)
        from comet_ml.config import get_config
        from comet_ml.connection.connection_factory import get_rest_api_client, get_rest_server_connection

        self._file_timeout = float(get_config()["comet.timeout.file_upload"])  # seconds
        self._logs = get_rest_server_connection(self._api_key, self._key, server_address=address)
        self._heartbeat = get_rest_server_connection(
            self._api_key, self._key, server_address=address
        )  # for the heartbeat's thread
        self._rest = get_rest_api_client("v2", server_address=address, api_key=self._api_key, check_version=False)
        connections = (each._low_level_http_client for each in (self._logs, self._heartbeat))
        for client in (*connections, self._rest.low_level_api_client):
            _try_once(client)
            client.session.hooks["response"].append(check_answer)

    def close(self) -> None:
        """Close the connections."""
        with ExitStack() as stack:
            for each in (self._logs, self._heartbeat, self._rest):
                stack.callback(each.close)

    # Details, texts, the end

    def others(self) -> dict[str, str]:
        """Return name → text of the entries under "Other"."""
        with reading('what is under "Other" cannot be read'):
            summaries = self._rest.get_experiment_others_summaries(self._key)
            return {str(each.get("name")): str(each.get("valueCurrent")) for each in summaries.get("values") or []}

    def write(self, method: str, *args: Any, rules: Iterable[Rule] = (), **kwargs: Any) -> None:
        """Call a method of Comet's ``RestApiClient`` that writes, with the arguments after the experiment's key."""
        with writing(f"{method}()", *rules, MISUNDERSTOOD):
            getattr(self._rest, method)(self._key, *args, **kwargs)

    def notify(self, run: str, title: str, text: str, level: str) -> None:
        """Send the user a message about a run, given by its name."""
        with writing("the alert was not accepted"):
            self._logs.send_notification(title, level, run, self.url, {"text": text} if text else {}, None)

    def beat(self) -> None:
        """Send a heartbeat; one other thread may call this."""
        with reading("the heartbeat was not accepted"):
            self._heartbeat.update_experiment_status(self._run_id, self._project_id, True)

    def end(self, status: str) -> None:
        """Set the status with which the experiment ended."""
        with writing("the experiment's end was not accepted", MISUNDERSTOOD):
            self._logs.update_experiment_status(self._run_id, self._project_id, False)
        if status in ("success", "finished"):
            self.write("set_experiment_state", "finished")
        else:
            self.write("update_experiment_error_status", False, status, has_crashed=True)

    # Metrics and params

    def log_metrics(self, values: Sequence[Value]) -> None:
        """Send values of metrics in one request, of which Comet accepts all or none."""
        from comet_ml.batch_utils import MessageBatchItem
        from comet_ml.messages import MetricMessage

        def message(each: Value) -> Any:
            made = MetricMessage(timestamp=each.time)
            made.set_metric(each.name, each.value, each.step, each.epoch)
            return MessageBatchItem(made)

        try:
            with sending("metrics were not accepted"):
                self._logs.log_metrics_batch([message(each) for each in values])
        except UnconfirmedError:
            if self.missing(values):
                raise

    def missing(self, values: Sequence[Value]) -> list[Value]:
        """Return the values of metrics that Comet does not have, in their order.

        It takes one request, and one for each metric of which Comet may have some values.
        """
        sent: dict[str, list[_Point]] = {}
        for value in values:
            sent.setdefault(value.name, []).append(_point(value.time, value.step, +value.value))
        with reading("metrics cannot be read from Comet"):
            summaries = (self._rest.get_experiment_metrics_summaries(self._key) or {}).get("values") or []
            latest = {
                each["name"]: _point(each["timestampCurrent"], each["stepCurrent"], each["valueCurrent"])
                for each in summaries
            }
            stored = {
                name: iter(self._are_stored(name, latest[name], points))
                for name, points in sent.items()
                if name in latest and latest[name][0] >= min(points)[0]
            }
        return [value for value in values if value.name not in stored or not next(stored[value.name])]

    def _are_stored(self, name: str, latest: _Point, sent: Sequence[_Point]) -> list[bool]:
        """Return for each point of a metric whether Comet has it; each listed point matches one that was sent."""
        listed = (self._rest.get_experiment_metric(self._key, name) or {}).get("metrics") or []
        points = Counter(_point(each["timestamp"], each["step"], each["metricValue"]) for each in listed)
        is_sample = len(listed) >= _MAX_LISTED
        if is_sample:
            points[latest] = points[latest] or 1
        stored = []
        for point in sent:
            points[point] -= 1
            stored.append(points[point] >= 0)
        if is_sample and True in stored:  # Comet accepts values in order: with one it has all before it
            last = len(stored) - stored[::-1].index(True)
            stored[:last] = [True] * last
        return stored

    def log_params(self, values: Sequence[Value]) -> None:
        """Send params."""
        from comet_ml.batch_utils import MessageBatchItem
        from comet_ml.messages import ParameterMessage

        def message(each: Value) -> Any:
            made = ParameterMessage(timestamp=each.time)
            made.set_param(each.name, each.value, source=ParameterMessage.source_manual)
            return MessageBatchItem(made)

        for start in range(0, len(values), _MAX_PARAMS):
            batch = values[start : start + _MAX_PARAMS]
            with writing("params were not accepted", is_stored=partial(self._has_params, batch)):
                self._logs.log_parameters_batch([message(each) for each in batch])

    def _has_params(self, values: Sequence[Value]) -> bool:
        with reading("params cannot be read from Comet"):
            summaries = (self._rest.get_experiment_parameters_summaries(self._key) or {}).get("values") or []
            times = {each["name"]: each["timestampCurrent"] for each in summaries}
        return all(times.get(value.name) == value.time for value in values)

    # Files

    def id_of(self, file: Upload) -> str:
        """Return the id of a file in Comet, which is the same if the file is sent again."""
        if file.context.line is None:
            return uuid.uuid4().hex
        seed = self._key, file.context.line, file.name, file.step, dict(file.metadata)
        return uuid.uuid5(uuid.NAMESPACE_OID, repr(seed)).hex

    def stored_files(self) -> set[str]:
        """Return the ids of the files that Comet has."""
        with reading("Comet's list of the files cannot be read"):
            listed: Any = self._rest.get_experiment_asset_list(self._key, "all")
            return {each["assetId"] for each in listed or []}

    def upload(self, file: Upload, file_id: str, version: str | None = None) -> None:
        """Send a file, which gets this id in Comet; ``version`` is the id of its artifact version."""
        what = f"the file {file.name!r} was not accepted"
        with writing(what, is_stored=lambda: file_id in self.stored_files()):
            self._send_file(file, file_id, version)

    def _send_file(self, file: Upload, file_id: str, version: str | None) -> None:
        from comet_ml.connection.connection_upload import send_file_like
        from requests import HTTPError

        of_type = (
            {"figName": file.name, "imageId": file_id}
            if file.type == IMAGE
            else {"fileName": file.name, "assetId": file_id, "type": file.type}
        )
        content = file.content
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
            answer = send_file_like(
                self._logs.get_upload_url(file.type),
                source,
                params={
                    "experimentId": self._key,
                    "projectId": self._project_id,
                    "runId": self._run_id,
                    "step": file.step,
                    "epoch": file.context.epoch,
                    "extension": Path(file.name).suffix.removeprefix(".") or None,
                    "overwrite": False,
                    "artifactVersionId": version,
                    **of_type,
                },
                headers={"Authorization": self._api_key, "X-COMET-DEBUG-EXPERIMENT-KEY": self._key},
                timeout=self._file_timeout,
                session=self._logs._low_level_http_client.session,
                metadata=dict(file.metadata) or None,
            )
        if answer.status_code != 200:
            raise HTTPError(response=answer)

    def log_version(self, made: Version) -> None:
        """Create a version of an artifact, or continue an incomplete one."""
        event, what = (self._key, made.context.line), f"the artifact {made.name!r} was not accepted"
        version, sent = _incomplete.pop(event) if event in _incomplete else (self._begin_version(made, what), set())
        try:
            for name, path in made.files.items():
                if name not in sent:
                    self.upload(Upload(path, ASSET, name, made.context), uuid.uuid4().hex, version)
                    sent.add(name)
            with writing(what):
                state = {"artifactVersionId": version, "experimentKey": self._key, "state": "CLOSED"}
                self._rest.post_from_endpoint("write/artifacts/state", state)
        except TrackerUnavailableError:
            _incomplete[event] = version, sent
            raise

    def _begin_version(self, made: Version, what: str) -> str:
        with sending(what):
            answer = self._rest.upsert_artifact(
                artifact_name=made.name,
                artifact_type=made.type,
                experiment_key=self._key,
                metadata=made.metadata,
                aliases=list(made.aliases),
            )
            return str(answer.json()["artifactVersionId"])

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        """Download the files of an artifact's version into a directory, and return their paths.

        Raises:
            LookupError: no version has the alias.
        """
        from comet_ml.exceptions import CometRestApiException

        try:
            version = self._rest.get_artifact_version_details(
                name=artifact, version_or_alias=alias, experiment_key=self._key
            )
        except CometRestApiException as error:
            if error.response.status_code not in (400, 404):
                raise
            raise LookupError(f"no version of the artifact {artifact!r} has the alias {alias!r}") from error
        workspace = version["artifact"]["workspaceName"]
        listed = self._rest.get_artifact_files(workspace=workspace, name=artifact, version=version["artifactVersion"])
        paths = []
        for file in listed["files"]:
            path = (directory / file["fileName"]).resolve()
            if not path.is_relative_to(directory.resolve()):
                raise ValueError(f"Comet names a file that is not inside {directory}: {file['fileName']!r}")
            self._download(file["assetId"], version["artifactVersionId"], path)
            paths.append(path)
        return paths

    def _download(self, asset: str, version: str, path: Path) -> None:
        answer = self._rest.get_experiment_asset(asset, self._key, version, return_type="response", stream=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            for chunk in answer.iter_content(1 << 20):
                target.write(chunk)


def read_points(options: CometOptions, key: str, names: Iterable[str]) -> dict[str, list[Value]]:
    """Return name → values of metrics, without opening the experiment; none if it does not exist.

    Raises:
        TrackerUnavailableError: Comet cannot be read, or lists only a sample of a metric.
    """
    api_key, address = key_and_address(options)
    from comet_ml.connection.connection_factory import get_rest_api_client
    from comet_ml.exceptions import CometRestApiException

    client = get_rest_api_client("v2", server_address=address, api_key=api_key, check_version=False)
    found: dict[str, list[Value]] = {}
    with closing(client), reading("metrics cannot be read back"):
        _try_once(client.low_level_api_client)
        try:
            summaries = (client.get_experiment_metrics_summaries(key) or {}).get("values") or []
        except CometRestApiException as error:
            if error.response.status_code != 404:
                raise
            return {}
        for name in {each["name"] for each in summaries}.intersection(names):
            listed = (client.get_experiment_metric(key, name) or {}).get("metrics") or []
            if len(listed) >= _MAX_LISTED:
                raise TrackerUnavailableError(f"Comet lists {len(listed):,} points of {name!r}, which may be a sample")
            found[name] = [
                Value(name, number, each["timestamp"], each["step"], each["epoch"])
                for each in listed
                if (number := parse_number(each["metricValue"])) is not None
            ]
    return found


def key_and_address(options: CometOptions) -> tuple[str, str]:
    """Return the API key and the address of the server."""
    load_sdk()
    from comet_ml.config import get_api_key, get_backend_address, get_config

    api_key = get_api_key(options["api_key"], get_config())
    if not api_key:
        raise AccessError("not logged in to Comet: run `comet login`, or set COMET_API_KEY")
    return api_key, options["url"] or get_backend_address(get_config())  # the key may contain another one


def _try_once(client: Any) -> None:
    """Make one of comet_ml's HTTP clients send each request once: it retries for an hour, the courier sooner."""
    post = client.post
    client.retry_session = client.session
    client.post = lambda *args, session=None, **kwargs: post(*args, session=client.session, **kwargs)


def _point(milliseconds: int | None, step: int | None, value: Any) -> _Point:
    return milliseconds or 0, step, repr(float(str(value)))

"""The endpoints of the REST API under ``write/``."""

from __future__ import annotations

from servers.comet_mock import client_endpoints, uploads
from servers.comet_mock.client_endpoints import Endpoint
from servers.comet_mock.experiment import Html, Other, OutputLine, as_metric
from servers.comet_mock.request import Request
from servers.comet_mock.store import Store

_REPORTS = (
    "code",
    "file-path",
    "dependencies",
    "cloud-details",
    "git/metadata",
    "cpu-metrics",
    "gpu-metrics",
    "ram-metrics",
    "load-metrics",
)


def metric(store: Store, request: Request) -> None:
    """Store a value of a metric."""
    store.experiment(request.json["experimentKey"]).metrics.append(as_metric(request.json))


def other(store: Store, request: Request) -> None:
    """Store a value under "Other"."""
    sent = request.json
    kept = Other(sent["key"], sent["value"], sent.get("timestamp"))
    store.experiment(sent["experimentKey"]).other_history.append(kept)


def html(store: Store, request: Request) -> None:
    """Store HTML."""
    sent = request.json
    kept = Html(sent["html"], sent["override"], sent.get("timestamp"))
    store.experiment(sent["experimentKey"]).pages.append(kept)


def graph(store: Store, request: Request) -> None:
    """Store a model graph."""
    store.experiment(request.json["experimentKey"]).graph = request.json["graph"]


def output(store: Store, request: Request) -> None:
    """Store console output."""
    sent = request.json
    store.experiment(sent["experimentKey"]).output.extend(
        OutputLine(line["output"], line["stderr"], line["localTimestamp"], line["offset"], sent.get("runContext"))
        for line in sent["outputLines"]
    )


def system_details(store: Store, request: Request) -> None:
    """Store details of the machine."""
    details = {name: value for name, value in request.json.items() if name != "experimentKey"}
    store.experiment(request.json["experimentKey"]).system_details.update(details)


def state(store: Store, request: Request) -> None:
    """Store the state of an experiment, and its error."""
    sent = request.json
    experiment = store.experiment(sent["experimentKey"])
    experiment.is_alive, experiment.has_crashed = sent["isAlive"], sent["hasCrashed"]
    if sent.get("error"):
        experiment.errors.append(sent["error"])


def times(store: Store, request: Request) -> None:
    """Store the start and end of an experiment."""
    experiment = store.experiment(request.json["experimentKey"])
    experiment.started, experiment.ended = request.json["startTimeMillis"], request.json["endTimeMillis"]


def report(kind: str) -> Endpoint:
    """Return an endpoint that stores data of one kind."""

    def keep(store: Store, request: Request) -> None:
        experiment = store.experiment(request.json["experimentKey"])
        experiment.reports.setdefault(kind, []).append(request.json)

    return keep


ENDPOINTS: dict[str, Endpoint] = {
    "write/experiment/metric": metric,
    "write/experiment/log-other": other,
    "write/experiment/html": html,
    "write/experiment/graph": graph,
    "write/experiment/output": output,
    "write/experiment/tags": client_endpoints.tags,
    "write/experiment/system-details": system_details,
    "write/experiment/update-status": state,
    "write/experiment/set-start-end-time": times,
    "write/experiment/upload-asset": uploads.asset,
    "write/experiment/git/patch": uploads.git_patch,
    **{f"write/experiment/{kind}": report(kind) for kind in _REPORTS},
}

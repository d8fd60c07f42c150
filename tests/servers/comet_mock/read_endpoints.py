"""The endpoints of the REST API that read experiments."""

from __future__ import annotations

from typing import Any

from servers.comet_mock.client_endpoints import Endpoint
from servers.comet_mock.experiment import StoredExperiment
from servers.comet_mock.request import Request
from servers.comet_mock.store import Store
from servers.comet_mock.views import asset_view, experiment_view, metric_view, summary_views

from rankzero.testing.loopback import Answer


def account(store: Store, request: Request) -> dict[str, Any]:
    """The owner of the key."""
    return {"userName": store.workspace, "defaultWorkspaceName": store.workspace}


def metadata(store: Store, request: Request) -> dict[str, Any]:
    """The metadata of an experiment."""
    return experiment_view(_experiment(store, request))


def params(store: Store, request: Request) -> dict[str, Any]:
    """Summaries of the parameters."""
    history = _experiment(store, request).param_history
    return {"values": summary_views((param.name, param.value, param.time, param.step) for param in history)}


def others(store: Store, request: Request) -> dict[str, Any]:
    """Summaries of the values under "Other"."""
    history = _experiment(store, request).other_history
    return {"values": summary_views((other.name, other.value, other.time, None) for other in history)}


def metric_summaries(store: Store, request: Request) -> dict[str, Any]:
    """Summaries of the metrics."""
    history = _experiment(store, request).metrics
    return {"values": summary_views((metric.name, metric.sent, metric.time, metric.step) for metric in history)}


def metric(store: Store, request: Request) -> dict[str, Any]:
    """All values of a metric."""
    found = _experiment(store, request).metrics
    return {"metrics": [metric_view(each) for each in found if each.name == request.query["metricName"]]}


def tags(store: Store, request: Request) -> dict[str, Any]:
    """The tags."""
    return {"tags": _experiment(store, request).tags}


def assets(store: Store, request: Request) -> dict[str, Any]:
    """The files of a type, or all; with ``assetName`` those with a name."""
    wanted, name = request.query.get("type", "all"), request.query.get("assetName")
    found = _experiment(store, request).assets
    return {
        "assets": [asset_view(each) for each in found if wanted in ("all", each.type) and name in (None, each.name)]
    }


def asset(store: Store, request: Request) -> Answer:
    """The bytes of a file."""
    return Answer(200, {"Content-Type": "application/octet-stream"}, store.asset(request.query["assetId"]).content)


def _experiment(store: Store, request: Request) -> StoredExperiment:
    return store.experiment(request.query.get("experimentKey"), status=404)


ENDPOINTS: dict[str, Endpoint] = {
    "account-details": account,
    "experiment/metadata": metadata,
    "experiment/parameters": params,
    "experiment/log-other": others,
    "experiment/metrics/summary": metric_summaries,
    "experiment/metrics/get-metric": metric,
    "experiment/tags": tags,
    "experiment/asset/list": assets,
    "experiment/asset/get-by-name": assets,
    "experiment/asset/get-asset": asset,
}

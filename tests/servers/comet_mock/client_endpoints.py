"""The endpoints under ``/clientlib/``, which a live experiment uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from servers.comet_mock import uploads
from servers.comet_mock.experiment import Beat, StoredExperiment, as_metric, as_param
from servers.comet_mock.request import UNKNOWN_EXPERIMENT, Refused, Request
from servers.comet_mock.store import Store

Endpoint = Callable[[Store, Request], Any]
"""Returns the response or its JSON; None is the usual response to a success."""

_EXPERIMENT_EXISTS = 90999
_OWN_WORD = 7777777
_VERSION = "4.40.0"


def version(store: Store, request: Request) -> dict[str, Any]:
    """The server's version; the client does without features of newer servers."""
    return {"msg": "Healthy Server", "version": _VERSION}


def add_run(store: Store, request: Request) -> dict[str, Any]:
    """Create an experiment; with ``getOrCreateEnabled`` return an existing one."""
    sent = request.json
    key = sent["experimentKey"]
    found = store.experiments.get(key)
    if found is not None and not sent.get("getOrCreateEnabled"):
        raise Refused(f"experiment {key} already exists", _EXPERIMENT_EXISTS)
    if not (32 <= len(key) <= 50 and key.isalnum()):
        raise Refused(f"{key!r} is no key: it needs 32 to 50 letters and digits", _OWN_WORD)
    where = sent.get("teamName"), sent.get("projectName"), bool(sent.get("offline"))
    return _handshake(found or store.add_experiment(key, *where), request)


def get_run(store: Store, request: Request) -> dict[str, Any]:
    """Return an existing experiment."""
    return _handshake(store.experiment(request.json["previousExperiment"]), request)


def metrics(store: Store, request: Request) -> None:
    """Store values of metrics."""
    experiment = store.experiment(request.json["experimentKey"])
    experiment.metrics.extend(as_metric(sent) for sent in request.json["values"])


def params(store: Store, request: Request) -> None:
    """Store values of parameters."""
    experiment = store.experiment(request.json["experimentKey"])
    experiment.param_history.extend(as_param(sent) for sent in request.json["values"])


def tags(store: Store, request: Request) -> None:
    """Store tags."""
    store.experiment(request.json["experimentKey"]).added_tags.extend(request.json["addedTags"])


def status(store: Store, request: Request) -> dict[str, Any]:
    """Store a heartbeat, and return the interval of heartbeats."""
    sent = request.json
    experiment = store.experiment(sent["experimentKey"])
    if sent["runId"] != experiment.run_id:
        raise Refused(f"{sent['runId']} is not the run of experiment {experiment.key}", UNKNOWN_EXPERIMENT)
    experiment.beats.append(Beat(sent["is_alive"], bool(sent.get("offline")), time.time()))
    experiment.is_alive = sent["is_alive"]
    experiment.has_crashed = experiment.has_crashed and not sent["is_alive"]
    return {
        "is_alive_beat_duration_millis": 10_000,
        "gpu_monitor_interval_millis": 60_000,
        "cpu_monitor_interval_millis": 60_000,
        "parameter_update_interval_millis": 60_000,
        "pending_rpcs": False,
    }


def notification(store: Store, request: Request) -> None:
    """Store a notification."""
    store.experiment(request.json["experiment_key"]).notifications.append(request.json)


def nothing(store: Store, request: Request) -> None:
    """Do nothing."""


def _handshake(experiment: StoredExperiment, request: Request) -> dict[str, Any]:
    return {
        "runId": experiment.run_id,
        "project_id": experiment.project_id,
        "focusUrl": f"http://{request.headers['Host']}/{experiment.workspace}/{experiment.project}/",
        "name": experiment.name,
        "lastOffset": len(experiment.output),
        "upload_file_size_limit_in_mb": 200,
        "uploadVideoMaxSizeMB": 200,
        "asset_upload_file_size_limit_in_mb": 102_400,
        "featureToggles": [],
    }


ENDPOINTS: dict[str, Endpoint] = {
    "isAlive/ver": version,
    "health/ping": nothing,
    "notify/event": nothing,
    "logger/add/run": add_run,
    "logger/get/run": get_run,
    "batch/logger/experiment/metric": metrics,
    "batch/logger/experiment/parameter": params,
    "tags/add-tags-to-experiment": tags,
    "status-report/update": status,
    "status-report/offline-metadata": nothing,
    "notification/experiment": notification,
    "asset/3d-limits": nothing,
    "asset/upload": uploads.asset,
    "visualizations/upload": uploads.image,
    "git-patch/upload": uploads.git_patch,
}

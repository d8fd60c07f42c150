"""The GraphQL operations on the account and its runs.

A response has all fields that any client requests; clients ignore others.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from servers.wandb_mock.run import CONSOLE, EVENTS, HISTORY, SUMMARY, Alert, StoredRun
from servers.wandb_mock.store import Store


class RefusedError(Exception):
    """The server refuses an operation, with the status 400 and a reason."""


Operation = Callable[[Store, dict[str, Any], str], dict[str, Any]]
"""Answers an operation with variables; the last argument is the server's URL."""


def viewer(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The owner of the key."""
    name = store.entity
    user = {"id": encoded("User:1"), "name": name, "username": name, "email": f"{name}@example.com", "entity": name}
    entity = variables.get("entity")
    asked = None if entity in store.unknown_entities else {"id": encoded(f"Entity:{entity}")}
    no_edges: dict[str, Any] = {"edges": []}
    return {
        "viewer": {**user, "admin": False, "flags": "{}", "deletedAt": None, "teams": no_edges, "apiKeys": no_edges},
        "entity": asked,
    }


def nothing(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """An empty result."""
    return {"entity": None, "organization": None, "serverInfo": {"features": []}}


def upsert_run(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Create or update a run."""
    where = (variables.get("entity"), variables.get("project"), variables.get("name") or _run_id(variables["id"]))
    found = store.find_run(*where) or _by_node_id(store, variables.get("id"))
    run = found or store.add_run(*where)
    run.update(variables)
    return {"upsertBucket": {"bucket": node(run), "inserted": found is None}}


def rewind_run(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Delete the rows after a step."""
    run = store.find_run(variables["entity"], variables["project"], variables["runName"])
    assert run is not None
    assert variables["metricName"] == "_step"
    if not store.can_rewind:
        raise RefusedError('Cannot query field "rewindRun" on type "Mutation".')
    if run.state == "running":
        raise RefusedError("cannot rewind a run that is not in a terminal state")
    run.rewind(variables["metricValue"])
    return {"rewindRun": {"rewoundRun": node(run)}}


def resume_status(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The data with which a client resumes a run."""
    run = store.find_run(variables.get("entity"), variables.get("project"), variables["name"])
    if run is None:
        return {"model": None}
    return {"model": {**node(run)["project"], "bucket": {**node(run), "wandbConfig": _started(run)}}}


def run_state(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """A run, for the public API."""
    run = store.find_run(variables["entity"], variables["project"], variables.get("name") or variables["run"])
    return {"project": {"id": "1", "internalId": "1", "run": node(run) if run else None}}


def history(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """All rows of a run, or those of some steps."""
    run = store.find_run(variables["entity"], variables["project"], variables.get("name") or variables["run"])
    assert run is not None
    first, end = variables.get("minStep", 0), variables.get("maxStep", math.inf)
    lines = [line for line in run.lines(HISTORY) if first <= json.loads(line)["_step"] < end]
    return {"project": {"run": {"history": lines, "events": run.lines(EVENTS)}}}


def parquet(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The Parquet files of rows: none."""
    return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": []}}}}


def list_files(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The files of a run, including announced ones."""
    run = store.find_run(variables["entity"], variables["project"], variables["name"])
    assert run is not None
    found = [name for name in variables.get("fileNames") or sorted(run.announced) if name in run.announced]
    edges = [{"node": _file(run, name, url), "cursor": str(number)} for number, name in enumerate(found, start=1)]
    page = {"endCursor": str(len(found)), "hasNextPage": False}
    files = {"edges": edges, "pageInfo": page}
    return {"project": {"internalId": "1", "run": {"fileCount": len(found), "files": files}}}


def create_files(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The upload URLs of files of a run."""
    run = store.find_run(variables["entity"], variables["project"], variables["run"])
    assert run is not None
    run.announced.update(variables["files"])
    files = [{"name": name, "uploadUrl": _file_url(run, name, url)} for name in variables["files"]]
    return {"createRunFiles": {"runID": _node_id(run), "uploadHeaders": [], "files": files}}


def alert(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Store an alert."""
    run = store.find_run(variables["entityName"], variables["projectName"], variables["runName"])
    assert run is not None
    run.alerts.append(Alert(variables["title"], variables["text"], variables.get("severity") or "INFO"))
    return {"notifyScriptableRunAlert": {"success": True}}


def done(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The response of a success."""
    return {"markRunFilesUploaded": {"success": True}, "stopRun": {"success": True}}


def node(run: StoredRun) -> dict[str, Any]:
    """The GraphQL object of a run."""
    return {
        "__typename": "Run",
        "id": _node_id(run),
        "name": run.id,
        "displayName": run.display_name,
        "description": run.notes,
        "notes": run.notes,
        "tags": list(run.tags),
        "group": run.group,
        "jobType": run.job_type,
        "sweepName": run.sweep,
        "commit": run.commit,
        "state": run.state,
        "config": json.dumps(run.raw_config),
        "summaryMetrics": (run.lines(SUMMARY) or ["{}"])[-1],
        "systemMetrics": "{}",
        "historyKeys": {"lastStep": run.history[-1]["_step"], "sets": [], "keys": {}} if run.history else None,
        "historyLineCount": run.line_count(HISTORY),
        "eventsLineCount": run.line_count(EVENTS),
        "logLineCount": run.line_count(CONSOLE),
        "historyTail": json.dumps(run.lines(HISTORY)[-1:]),
        "eventsTail": json.dumps(run.lines(EVENTS)[-1:]),
        "createdAt": "2025-01-01T00:00:00",
        "heartbeatAt": "2025-01-01T00:00:00",
        "readOnly": False,
        "user": {"name": run.entity, "username": run.entity},
        "projectId": "1",
        "project": project(run.entity, run.project),
    }


def project(entity: str, name: str) -> dict[str, Any]:
    """The GraphQL object of a project."""
    return {
        "id": encoded(f"Project:{name}"),
        "internalId": encoded("ProjectInternalId:1"),
        "name": name,
        "entity": {"id": encoded(f"Entity:{entity}"), "name": entity},
    }


def encoded(name: str) -> str:
    """A GraphQL id."""
    return base64.b64encode(name.encode()).decode()


def _file(run: StoredRun, name: str, url: str) -> dict[str, Any]:
    content = run.files.get(name)
    digest = None if content is None else base64.b64encode(hashlib.md5(content).digest()).decode()
    return {
        "id": encoded(f"File:{run.path}:{name}"),
        "name": name,
        "url": _file_url(run, name, url),
        "directUrl": _file_url(run, name, url),
        "sizeBytes": str(len(content or b"")),
        "mimetype": "",
        "updatedAt": "2025-01-01T00:00:00",
        "md5": digest,
    }


def _file_url(run: StoredRun, name: str, url: str) -> str:
    return f"{url}/run-file/{quote(run.path)}/{quote(name)}"


def _node_id(run: StoredRun) -> str:
    return encoded(f"Run:v1:{run.id}:{run.project}:{run.entity}")


def _run_id(node_id: str) -> str:
    return base64.b64decode(node_id).decode().split(":")[2]


def _by_node_id(store: Store, node_id: str | None) -> StoredRun | None:
    return next((run for run in store.runs.values() if _node_id(run) == node_id), None)


def _started(run: StoredRun) -> str | None:
    """A field by which the client tells a started run from one that was only created for a sweep."""
    sent = run.raw_config.get("_wandb", {}).get("value", {}).get("t")
    return json.dumps({"t": sent}) if sent else None


OPERATIONS: dict[str, Operation] = {
    "Viewer": viewer,
    "GetViewer": viewer,
    "GetDefaultEntity": viewer,
    "ServerFeaturesQuery": nothing,
    "OrgFeatureFlags": nothing,
    "OrganizationCoreWeaveOrganizationID": nothing,
    "FetchOrgEntityFromEntity": nothing,
    "UpsertBucket": upsert_run,
    "RewindRun": rewind_run,
    "RunResumeStatus": resume_status,
    "Run": run_state,
    "RunState": run_state,
    "QueryRunInfo": run_state,
    "RunHistoryKeys": run_state,
    "RunFullHistory": history,
    "RunParquetHistory": parquet,
    "HistoryPage": history,
    "RunFiles": list_files,
    "CreateRunFiles": create_files,
    "MarkRunFilesUploaded": done,
    "StopRun": done,
    "NotifyScriptableRunAlert": alert,
}

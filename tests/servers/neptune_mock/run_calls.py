"""The calls that create runs and write to them."""

from __future__ import annotations

from typing import Any

from servers.neptune_mock.attributes import described
from servers.neptune_mock.calls import Asked, Call, Problem
from servers.neptune_mock.operations import apply
from servers.neptune_mock.run import StoredRun


def create(asked: Asked) -> dict[str, Any]:
    """Create a run, or return the one with the custom id."""
    sent = asked.json
    project = asked.store.find_project(sent["projectIdentifier"])
    if project is None:
        raise Problem(404, f"project {sent['projectIdentifier']} not found")
    if sent["type"] != "run":
        raise Problem(422, f"this server has no {sent['type']}")
    return _run(asked.store.create_run(project, sent))


def get(asked: Asked) -> dict[str, Any]:
    """A run, or a project, which is a kind of run in the API."""
    identifier = asked.query["experimentId"]
    project = asked.store.find_project(identifier)
    if project is not None:
        return {
            "id": project.id,
            "type": "project",
            "shortId": project.key,
            "organizationName": project.workspace,
            "projectName": project.name,
            "trashed": False,
        }
    run = asked.store.find_run(identifier)
    if run is None:
        raise Problem(404, f"run {identifier} not found", "EXPERIMENT_NOT_FOUND")
    return _run(run)


def get_attributes(asked: Asked) -> dict[str, Any]:
    """The attributes of a run; a project has none here."""
    if asked.store.find_project(asked.query["experimentId"]):
        return {"attributes": []}
    attributes = [described(path, each) for path, each in asked.run().described().items()]
    return {"attributes": attributes}


def execute(asked: Asked) -> list[dict[str, Any]]:
    """Apply operations; return those that cannot be applied."""
    run = asked.run()
    run.hear()
    reasons = apply(run, asked.json, asked.increasing_steps)
    return [{"errorDescription": reason} for reason in reasons]


def ping(asked: Asked) -> None:
    """Record a heartbeat."""
    asked.run().hear()


def _run(run: StoredRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "type": "run",
        "shortId": run.sys_id,
        "organizationName": run.workspace,
        "projectName": run.project,
        "trashed": run.value("sys/trashed"),
    }


_API = "/api/leaderboard/v1"
_RUN = "experimentId:string"
_CREATED = "body:experimentCreationParams:Creation header:X-Neptune-CliVersion:string"
CALLS: dict[str, Call] = {
    "createExperiment": Call("leaderboard", "POST", f"{_API}/experiments/create", _CREATED, "Experiment", create),
    "getExperiment": Call("leaderboard", "GET", f"{_API}/experiments/get", _RUN, "Experiment", get),
    "getExperimentAttributes": Call(
        "leaderboard", "GET", f"{_API}/experiments/attributes", _RUN, "Attributes", get_attributes
    ),
    "executeOperations": Call(
        "leaderboard", "POST", f"{_API}/attributes/operations", f"{_RUN} body:operations:array", "[Error]", execute
    ),
    "ping": Call("leaderboard", "POST", f"{_API}/experiments/ping", _RUN, "", ping),
}

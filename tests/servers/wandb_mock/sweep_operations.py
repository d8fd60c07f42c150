"""The GraphQL operations on sweeps."""

from __future__ import annotations

import json
from typing import Any

from servers.wandb_mock.run_operations import Operation, encoded, node, project
from servers.wandb_mock.store import Store
from servers.wandb_mock.sweep import Sweep


def upsert(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Create a sweep, or change its state."""
    found = next((each for each in store.sweeps.values() if _node_id(each) == variables.get("id")), None)
    if found is None:
        where = store.place(variables.get("entityName"), variables.get("projectName"))
        found = Sweep(*where, f"sweep{len(store.sweeps)}", variables["config"])
        store.sweeps[found.id] = found
    found.state = variables.get("state") or found.state
    return {"upsertSweep": {"sweep": _sweep(found), "configValidationWarnings": []}}


def with_runs(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """A sweep, and its runs."""
    found = store.sweeps.get(variables.get("sweep") or variables["name"])
    if found is None:
        return {"project": {"sweep": None}}
    runs = [node(run) for run in store.runs.values() if run.sweep == found.id]
    return {"project": {"sweep": {**_sweep(found), "runs": {"edges": [{"node": each} for each in runs]}}}}


def create_agent(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Create an agent; its id contains that of its sweep."""
    return {"createAgent": {"agent": {"id": f"agent:{store.sweeps[variables['sweep']].id}"}}}


def heartbeat(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The next commands for an agent."""
    sweep = store.sweeps[variables["id"].partition(":")[2]]
    commands = [] if any(json.loads(variables["runState"]).values()) else [sweep.command()]
    return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}


def _sweep(sweep: Sweep) -> dict[str, Any]:
    return {
        "__typename": "Sweep",
        "id": _node_id(sweep),
        "name": sweep.id,
        "displayName": None,
        "method": sweep.config["method"],
        "state": sweep.state,
        "description": None,
        "config": sweep.raw_config,
        "controllerRunName": None,
        "runCount": len(sweep.run_ids),
        "runCountExpected": None,
        "project": project(sweep.entity, sweep.project),
    }


def _node_id(sweep: Sweep) -> str:
    return encoded(f"Sweep:v1:{sweep.id}:{sweep.project}:{sweep.entity}")


OPERATIONS: dict[str, Operation] = {
    "UpsertSweep": upsert,
    "SweepWithRuns": with_runs,
    "SweepConfig": with_runs,
    "GetSweep": with_runs,
    "GetSweepState": with_runs,
    "CreateAgent": create_agent,
    "Heartbeat": heartbeat,
}

"""The artifact endpoints of the REST API."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from servers.comet_mock.artifacts import ArtifactVersion, StoredArtifact
from servers.comet_mock.client_endpoints import Endpoint
from servers.comet_mock.experiment import Asset
from servers.comet_mock.request import Request
from servers.comet_mock.store import Store
from servers.comet_mock.views import asset_view


def upsert(store: Store, request: Request) -> dict[str, Any]:
    """Create a version."""
    experiment = store.experiment(request.json["experimentKey"])
    version = store.artifacts.add_version(experiment.workspace, experiment.key, request.json)
    artifact, _ = store.artifacts.with_version(version.id)
    return {
        "artifactId": artifact.id,
        "artifactVersionId": version.id,
        "currentVersion": version.version,
        "previousVersion": artifact.versions[-2].version if len(artifact.versions) > 1 else None,
    }


def state(store: Store, request: Request) -> None:
    """Set the state of a version: whether all its files have arrived."""
    store.artifacts.with_version(request.json["artifactVersionId"])[1].state = request.json["state"]


def version(store: Store, request: Request) -> dict[str, Any]:
    """A version, by its id, or by name and version or alias."""
    artifact, found = store.artifacts.wanted(*_wanted(store, request))
    return {
        "artifact": _view(artifact),
        "artifactVersionId": found.id,
        "artifactVersion": found.version,
        "alias": found.aliases,
        "tags": found.tags,
        "metadata": found.metadata,
        "state": found.state,
        "experimentKey": found.experiment_key,
        "sizeInBytes": sum(len(asset.content) for asset in found.assets),
    }


def files(store: Store, request: Request) -> dict[str, Any]:
    """The files of a version."""
    artifact, found = store.artifacts.wanted(*_wanted(store, request))
    return {"files": [_file_view(artifact, found, asset) for asset in found.assets]}


def _wanted(store: Store, request: Request) -> tuple[str, dict[str, str]]:
    """Return the workspace and the query; the client quotes names twice."""
    sent = dict(request.query)
    if "artifactName" in sent:
        sent["artifactName"] = unquote(sent["artifactName"])
    if "workspace" in sent:
        return sent["workspace"], sent
    if "experimentKey" in sent:
        return store.experiment(sent["experimentKey"]).workspace, sent
    return store.workspace, sent


def _view(artifact: StoredArtifact) -> dict[str, Any]:
    return {
        "artifactId": artifact.id,
        "artifactName": artifact.name,
        "artifactType": artifact.type,
        "workspaceName": artifact.workspace,
        "tags": artifact.tags,
    }


def _file_view(artifact: StoredArtifact, version: ArtifactVersion, asset: Asset) -> dict[str, Any]:
    encoded = None if asset.metadata is None else json.dumps(asset.metadata)
    return {**asset_view(asset), "artifactId": artifact.id, "artifactVersionId": version.id, "metadata": encoded}


ENDPOINTS: dict[str, Endpoint] = {
    "write/artifacts/upsert": upsert,
    "write/artifacts/state": state,
    "artifacts/version": version,
    "artifacts/version/files": files,
}

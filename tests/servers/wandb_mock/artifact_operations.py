"""The GraphQL operations on artifacts."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from servers.wandb_mock.artifacts import ArtifactVersion
from servers.wandb_mock.run_operations import Operation, encoded, node, project
from servers.wandb_mock.store import Store


def create(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Create a version."""
    with_names = {**variables["input"]}
    with_names["entityName"], with_names["projectName"] = store.place(
        with_names.get("entityName"), with_names.get("projectName")
    )
    version = store.artifacts.create(with_names)
    latest = version.collection.aliases.get("latest")
    sequence = {"id": version.name, "latestArtifact": {"id": latest.id} if latest else None}
    return {"createArtifact": {"artifact": {**artifact(version), "artifactSequence": sequence}}}


def create_manifest(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The upload URL of a version's manifest."""
    target = f"{url}/artifact-manifest/{variables['artifactID']}"
    file = {"id": "manifest", "uploadUrl": target, "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}


def update_manifest(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The same for a complete manifest."""
    answer = create_manifest(store, {"artifactID": variables["artifactManifestID"]}, url)
    return {"updateArtifactManifest": answer["createArtifactManifest"]}


def create_files(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The upload URLs of files whose content the server does not have."""
    edges = []
    for each in variables["input"]["artifactFiles"]:
        wanted = store.artifacts.announce(each["artifactID"], each["name"], each["md5"])
        file = {
            "storagePath": f"wandb_artifacts/{each['md5']}",
            "uploadUrl": _file_url(url, each["artifactID"], each["name"]) if wanted else None,
            "uploadHeaders": [],
            "uploadMultipartUrls": None,
            "artifact": {"id": each["artifactID"]},
        }
        edges.append({"node": file})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def commit(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Complete a version."""
    version = store.artifacts.by_id[variables["artifactID"]]
    version.commit()
    return {"commitArtifact": {"artifact": artifact(version)}}


def by_id(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """A version, its manifest, files and runs."""
    version = store.artifacts.by_id[variables.get("id") or variables["artifact_id"]]
    creator = store.runs.get(_parts(version.run)) if version.run else None
    users = [node(store.runs[_parts(path)]) for path in version.used_by]
    manifest = {"file": {"directUrl": f"{url}/artifact-manifest/{version.id}"}}
    return {
        "artifact": {
            **artifact(version),
            "currentManifest": manifest,
            "createdBy": node(creator) if creator else None,
            "usedBy": {"edges": [{"node": each} for each in users]},
            "filesByManifestEntries": _files(version, url),
        }
    }


def by_name(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The version with a name and an alias."""
    found = store.artifacts.find(*store.place(variables["entity"], variables["project"]), variables["name"])
    if found is None:
        return {"project": {"artifact": None, "artifactCollectionMembership": None}}
    return {"project": {"artifact": artifact(found), "artifactCollectionMembership": _membership(found)}}


def file_urls(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The download URLs of a version's files."""
    name = f"{variables['collection']}:{variables['alias']}"
    found = store.artifacts.find(variables["entity"], variables["project"], name)
    membership = {"files": _files(found, url)} if found else None
    kind = {"__typename": "ArtifactSequence"}
    return {"project": {"artifactCollection": {**kind, "artifactMembership": membership}}}


def artifact_type(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The type of a version, if it exists."""
    found = store.artifacts.find(*store.place(variables["entity"], variables["project"]), variables["name"])
    return {"project": {"artifact": artifact(found) if found else None}}


def use(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """Record that a run used a version."""
    sent = variables.get("input") or variables
    version = store.artifacts.by_id[sent["artifactID"]]
    version.used_by.append("/".join([*store.place(sent["entityName"], sent["projectName"]), sent["runName"]]))
    return {"useArtifact": {"artifact": artifact(version)}}


def client_id(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """The id of a version by its client id."""
    found = store.artifacts.by_client_id.get(variables["clientID"])
    return {"clientIDMapping": {"serverID": found.id} if found else None}


def nothing(store: Store, variables: dict[str, Any], url: str) -> dict[str, Any]:
    """An empty result."""
    return {"project": None, "entity": {"xxhashDigestsEnabled": False}}


def artifact(version: ArtifactVersion) -> dict[str, Any]:
    """The GraphQL object of a version."""
    collection = _collection(version)
    aliases = [{**_alias(each), "artifactCollection": collection} for each in version.aliases]
    return {
        "__typename": "Artifact",
        "id": version.id,
        "artifactSequence": {**collection, "__typename": "ArtifactSequence"},
        "versionIndex": version.index,
        "artifactType": {"name": version.type},
        "description": version.description,
        "metadata": version.raw_metadata,
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": "PENDING" if version.index is None else "COMMITTED",
        "size": sum(map(len, version.files.values())) if version.raw_manifest else 0,
        "digest": version.digest,
        "digestAlgorithm": None,
        "commitHash": version.id,
        "fileCount": len(version.manifest["contents"]) if version.raw_manifest else 0,
        "createdAt": "2025-01-01T00:00:00Z",
        "updatedAt": None,
        "aliases": aliases,
    }


def _membership(version: ArtifactVersion) -> dict[str, Any]:
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": encoded(f"ArtifactCollectionMembership:{version.id}"),
        "versionIndex": version.index,
        "createdAt": "2025-01-01T00:00:00Z",
        "aliases": [_alias(each) for each in version.aliases],
        "artifactCollection": _collection(version),
        "artifact": artifact(version),
    }


def _collection(version: ArtifactVersion) -> dict[str, Any]:
    held = version.collection
    return {"__typename": "ArtifactSequence", "name": held.name, "project": project(held.entity, held.project)}


def _alias(alias: str) -> dict[str, Any]:
    return {"__typename": "ArtifactAlias", "id": encoded(f"ArtifactAlias:{alias}"), "alias": alias}


def _files(version: ArtifactVersion, url: str) -> dict[str, Any]:
    edges = [
        {"node": {"__typename": "File", "name": path, "directUrl": _file_url(url, version.id, path)}}
        for path in version.files
    ]
    return {"pageInfo": {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}, "edges": edges}


def _file_url(url: str, artifact_id: str, path: str) -> str:
    return f"{url}/artifact-file/{artifact_id}/{quote(path)}"


def _parts(path: str) -> tuple[str, str, str]:
    entity, project_name, run_id = path.split("/")
    return entity, project_name, run_id


OPERATIONS: dict[str, Operation] = {
    "CreateArtifact": create,
    "CreateArtifactManifest": create_manifest,
    "UpdateArtifactManifest": update_manifest,
    "CreateArtifactFiles": create_files,
    "CommitArtifact": commit,
    "ArtifactByID": by_id,
    "ArtifactManifest": by_id,
    "FetchArtifactManifest": by_id,
    "ArtifactCreatedBy": by_id,
    "ArtifactUsedBy": by_id,
    "ArtifactFileURLsByManifestEntries": by_id,
    "ArtifactMembershipByName": by_name,
    "GetArtifactMembershipFileUrls": file_urls,
    "ArtifactType": artifact_type,
    "UseArtifact": use,
    "ClientIDMapping": client_id,
    "FetchArtifactDigestAlgorithm": nothing,
    "XXHashDigestsEnabled": nothing,
}

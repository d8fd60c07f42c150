"""The endpoints that upload files, or store their URLs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from servers.comet_mock.experiment import Asset, StoredExperiment
from servers.comet_mock.request import Refused, Request, as_bool, as_json, as_number
from servers.comet_mock.store import Store, now

from rankzero.testing.loopback import Answer


def asset(store: Store, request: Request) -> Answer:
    """Store a file, or its URL."""
    fields = {**request.query, **_metadata(request)}
    kept = _keep(store, request, _asset(fields, fields.get("type", "asset"), fields.get("fileName", ""), request.parts))
    return as_json({"assetId": kept.id, "msg": "", "code": 200})


def image(store: Store, request: Request) -> Answer:
    """Store an image."""
    fields = {**request.query, **_metadata(request)}
    kept = _keep(store, request, _asset(fields, "image", fields.get("figName", ""), request.parts))
    return as_json({"imageId": kept.id, "msg": "", "code": 200})


def git_patch(store: Store, request: Request) -> None:
    """Store the diff of the repository."""
    _keep(store, request, _asset(request.query, "git-patch", "git-patch", request.parts))


def _keep(store: Store, request: Request, asset: Asset) -> Asset:
    """Store a file in its experiment, and a file of an artifact also there."""
    experiment = _experiment(store, request)
    asset.experiment_key = experiment.key
    if asset.artifact_version_id is not None:
        store.artifacts.with_version(asset.artifact_version_id)[1].assets.append(asset)
    experiment.add_asset(asset)
    return asset


def _experiment(store: Store, request: Request) -> StoredExperiment:
    return store.experiment(request.query.get("experimentKey") or request.query.get("experimentId"))


def _asset(fields: dict[str, str], kind: str, name: str, parts: Mapping[str, bytes]) -> Asset:
    if "file" not in parts:
        raise Refused("there is no file")
    return Asset(
        id=fields.get("assetId") or fields.get("imageId") or uuid.uuid4().hex,
        experiment_key="",
        name=name,
        type=kind,
        content=parts["file"],
        fields=fields,
        step=as_number(fields.get("step")),
        epoch=as_number(fields.get("epoch")),
        context=fields.get("context"),
        overwrite=as_bool(fields.get("overwrite", False)),
        metadata=_decoded(fields.get("metadata")),
        artifact_version_id=fields.get("artifactVersionId"),
        time=now(),
    )


def _metadata(request: Request) -> dict[str, str]:
    """Return the metadata of a file in a multipart body, which take precedence over the query."""
    return {"metadata": request.parts["metadata"].decode()} if "metadata" in request.parts else {}


def _decoded(metadata: str | None) -> Any:
    """Decode JSON; return other texts unchanged."""
    if metadata is None:
        return None
    try:
        return json.loads(metadata)
    except ValueError:
        return metadata

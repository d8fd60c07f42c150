"""Checkpoints as versions of a registered model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rankzero_mlflow.failures import AlreadyThereError
from rankzero_mlflow.names import LONGEST_TAG, metric_name
from rankzero_mlflow.tracked_run import TrackedRun

# MLflow keeps "latest" and "v1" for itself.
_ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]+", re.IGNORECASE)


def register(run: TrackedRun, model: str, folder: str, aliases: Sequence[str], details: Mapping[str, Any]) -> None:
    """Make a version of ``model`` of what is in ``folder`` of the run's artifacts, unless there is one.

    Args:
        run: the run.
        model: the registered model's name; it is made if there is none.
        folder: a path in the run's artifacts.
        aliases: they move to the version, those apart that MLflow does not allow.
        details: become tags of the version; the artifact ``metadata.json`` has them whole.
    """
    client = run.client
    with suppress(AlreadyThereError):
        client.create_registered_model(model)
    source = f"{run.artifact_uri}/{folder}"
    versions = client.search_model_versions(f"run_id = '{run.id}'")
    version = next((each for each in versions if (each.name, each.source) == (model, source)), None)
    if version is None:
        tags = {metric_name(key): str(value)[:LONGEST_TAG] for key, value in details.items() if value is not None}
        version = client.create_model_version(model, source, run.id, tags=tags, await_creation_for=0)
    for alias in filter(_ALIAS.fullmatch, aliases):
        client.set_registered_model_alias(model, alias, version.version)

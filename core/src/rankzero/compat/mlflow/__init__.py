"""MLflow logs to runs: with the tracking URI ``rankzero:DIRECTORY``, code that uses MLflow writes journals.

MLflow finds these functions by entry points, so this module imports neither MLflow nor the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero.compat.mlflow.store import RankzeroStore
    from rankzero.compat.mlflow.writing import RunArtifacts


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> RankzeroStore:
    """Return the tracking store for a URI: ``rankzero:DIRECTORY``, or ``rankzero:`` for the configured directory."""
    from rankzero.compat.mlflow.store import RankzeroStore

    return RankzeroStore(store_uri)


def artifact_repository(artifact_uri: str, *uris: Any, **named_uris: Any) -> RunArtifacts:
    """Return the artifact repository for a URI that the tracking store gave to a run or model."""
    from rankzero.compat.mlflow.writing import RunArtifacts

    return RunArtifacts(artifact_uri, *uris, **named_uris)

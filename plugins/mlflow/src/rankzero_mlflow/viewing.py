"""How a person looks at a run of MLflow."""

from __future__ import annotations

import re
import shlex

from rankzero_mlflow.failures import without_password

_PASSWORD = re.compile(r"(//[^/@:]*):[^/@]*@")


def how_to_view(tracking_uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the page of a run on a server, or the command that shows a database; never a password."""
    if tracking_uri.startswith(("http://", "https://")):
        server = without_password(tracking_uri).rstrip("/")
        return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"
    if "://" not in tracking_uri:  # databricks
        return None
    database = _PASSWORD.sub(r"\1:***@", tracking_uri)
    return f"mlflow ui --backend-store-uri {shlex.quote(database)}"

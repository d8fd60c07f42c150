"""How a person looks at a run of MLflow."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_PASSWORD = re.compile(r"(//[^/@:]*):[^/@]*@")


def how_to_view(tracking_uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the page of a run on a server, or the command that shows a database; never a password."""
    if tracking_uri.startswith(("http://", "https://")):
        server = re.sub(r"//[^/@]*@", "//", tracking_uri).rstrip("/")
        return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"
    if "://" not in tracking_uri:  # databricks
        return None
    database = _PASSWORD.sub(r"\1:***@", _short(tracking_uri))
    return f"mlflow ui --backend-store-uri {shlex.quote(database)}"


def _short(uri: str) -> str:
    """Return the URI of a database with its path as it looks from here, if it is below here."""
    scheme, separator, path = uri.partition(":///")
    if scheme != "sqlite" or not Path(path).is_relative_to(Path.cwd()):
        return uri
    return f"{scheme}{separator}{Path(path).relative_to(Path.cwd())}"

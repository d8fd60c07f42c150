"""The options of `MLFlowLogger`, and checks of the tracking URI."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rankzero.errors import ConfigError
from rankzero.loggers.options import Option, Options
from rankzero.secrets import mask_urls

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")
_SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc"}
_SQLITE = "sqlite:///"


class MlflowOptions(Options):
    """The options of `MLFlowLogger`."""

    table = (
        Option("experiment_name", variable="MLFLOW_EXPERIMENT_NAME", early=True, kept=True),
        Option("experiment_id", variable="MLFLOW_EXPERIMENT_ID", early=True),  # only from the environment
        Option("tracking_uri", str, variable="MLFLOW_TRACKING_URI", early=True, kept=True),
        *map(Option, ("run_id", "run_name", "tags", "save_dir", "artifact_location", "synchronous", "description")),
        *map(Option, ("parent_run_id", "registered_model_name")),
        Option("rewind", bool),
    )

    def check(self, logger: str, others: Iterable[str] = ()) -> None:
        super().check(logger, others)
        check_tracking_uri(self["tracking_uri"])
        if not isinstance(self["tags"], Mapping | None):
            raise ConfigError(f'tags must be a dictionary, as in {{"team": "vision"}}, not {self["tags"]!r}')

    def resolved(self) -> dict[str, Any]:
        found = super().resolved()
        if self.experiment_id is not None:  # it takes precedence, and is no argument of the logger
            found.pop("experiment_name", None)
        uri = found.get("tracking_uri", "")
        if _PASSWORD.search(uri):
            del found["tracking_uri"]
        elif path := _database_path(uri):
            found["tracking_uri"] = f"{_SQLITE}{path}"
        return found

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; None if a name is given."""
        return None if self.given.get("experiment_name") else self["experiment_id"]


def database_uri(directory: str) -> str:
    """Return the URI of the SQLite database in ``directory``."""
    return f"{_SQLITE}{os.path.abspath(directory)}/mlflow.db"


def has_database(uri: str) -> bool:
    """Return whether the file of a SQLite database exists, without creating it; True for other URIs."""
    return not uri.startswith(_SQLITE) or os.path.exists(uri.removeprefix(_SQLITE).partition("?")[0])


def artifacts_beside(uri: str) -> str | None:
    """Return the artifact location for a SQLite database, beside its file; None for other URIs.

    MLflow's default is the working directory of the process that creates the experiment.
    """
    path = _database_path(uri)
    return None if path is None else os.path.join(os.path.dirname(path), "mlartifacts")


def _database_path(uri: str) -> str | None:
    """Return the absolute path of a SQLite database; None for one in memory, and for other URIs."""
    if not uri.startswith(_SQLITE) or uri.startswith(f"{_SQLITE}:"):
        return None
    return os.path.abspath(uri.removeprefix(_SQLITE))


def check_tracking_uri(uri: str | None) -> None:
    """Check that a URI is a server or database.

    Raises:
        ConfigError: the URI has no scheme or an unknown one, is a directory, which MLflow 3 refuses, or is the URI of
            rankzero's own runs.
    """
    from importlib.metadata import entry_points

    if not uri:
        return
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme == "rankzero":
        raise ConfigError(
            f"with tracking_uri={uri!r}, MLflow itself stores its runs in rankzero, so they cannot be delivered to it. "
            'Leave the logger mlflow out, or give it a server: tracking_uri="http://HOST:PORT"'
        )
    if scheme == "file" or (":" not in uri and not uri.startswith("databricks")):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise ConfigError(
                f"MLflow 3 no longer writes to directories, and tracking_uri={uri!r} is one. Leave it out for a "
                "database in save_dir, or set a database, as sqlite:///mlflow.db; or allow it with the environment "
                "variable MLFLOW_ALLOW_FILE_STORE=true"
            )
    elif scheme not in _SCHEMES and scheme not in entry_points(group="mlflow.tracking_store").names:
        raise ConfigError(
            f"tracking_uri={uri!r} is neither a server (http://HOST:PORT) nor a database (sqlite:///PATH, postgresql://…)"
        )


def how_to_view(uri: str, experiment_id: str, run_id: str) -> str | None:
    """Return the URL of a run on a server, or the command that shows a database, without passwords."""
    if uri.startswith(("http://", "https://")):
        return f"{without_password(uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    if "://" not in uri:  # databricks
        return None
    return f"mlflow ui --backend-store-uri {shlex.quote(mask_urls(uri))}"


def without_password(uri: str) -> str:
    """Return a URI without user and password."""
    return _PASSWORD.sub("", uri)

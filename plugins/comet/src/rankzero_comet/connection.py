"""The connections to Comet's server, by which each request returns its answer.

Comet's own ``Experiment`` puts everything into a queue, and says "done" also of what it has lost. Below it the client
has what is used here, and is no public API; only this file, `rankzero_comet.server` and `rankzero_comet.server_files`
touch it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rankzero.errors import AccessError
from rankzero_comet.failures import check_answer, opening
from rankzero_comet.sdk import load_sdk
from rankzero_comet.settings import Settings

_TRIES = "COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL"
_changing_environment = threading.Lock()  # two couriers of one process, which are threads


class Connection:
    """What is needed to write to one experiment, which is made if need be.

    Args:
        settings: what the user said.
        key: the experiment's key.
        project: its project; Comet's default if None.

    Raises:
        TrackerUnavailableError: the experiment cannot be opened now.
        AccessError: it cannot be opened before a person acts.
    """

    def __init__(self, settings: Settings, key: str, project: str | None) -> None:
        self.key = key
        with opening():
            self._connect(settings)
            with _one_try():
                self._join(settings, project)

    def _connect(self, settings: Settings) -> None:
        load_sdk()
        from comet_ml.config import get_api_key, get_backend_address, get_config
        from comet_ml.connection.connection_factory import get_rest_api_client, get_rest_server_connection

        config = get_config()
        api_key = get_api_key(settings.api_key, config)
        if not api_key:
            raise AccessError("not logged in to Comet: run `comet login`, or set COMET_API_KEY")
        address = settings.server_url or get_backend_address(get_config())  # the key may have named another one
        self.api_key = api_key
        self.file_timeout = float(config["comet.timeout.file_upload"])
        """Seconds."""
        self.logs = get_rest_server_connection(api_key, self.key, server_address=address)
        self.rest = get_rest_api_client("v2", server_address=address, api_key=api_key, check_version=False)
        self.life = get_rest_server_connection(api_key, self.key, server_address=address)  # of another thread
        connections = (self.logs, self.life)
        for client in (*(each._low_level_http_client for each in connections), self.rest.low_level_api_client):
            client.retry_session = client.session  # a courier tries again, and obeys nobody who says: in an hour
            client.session.hooks["response"].append(check_answer)

    def _join(self, settings: Settings, project: str | None) -> None:
        if settings.real_mode == "get":
            joined = self.logs.get_run(self.key)
        else:
            joined = self.logs.add_run(project, settings.workspace_of_run(), get_or_create_mode=True)
        self.run_id, self.project_id = joined.run_id, joined.project_id
        self.url: str | None = f"{joined.focus_link}{self.key}" if joined.focus_link else None
        """Where Comet shows the experiment."""

    def close(self) -> None:
        """Close them."""
        for connection in (self.logs, self.life, self.rest):
            connection.close()


@contextmanager
def _one_try() -> Iterator[None]:
    """Have Comet's client ask once, which the environment decides: the courier tries again."""
    with _changing_environment:
        before = os.environ.get(_TRIES)
        os.environ[_TRIES] = "0"
        try:
            yield
        finally:
            del os.environ[_TRIES]
            if before is not None:
                os.environ[_TRIES] = before

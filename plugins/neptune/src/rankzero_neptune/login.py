"""Whether a Neptune server lets the user in, found out without its client, whose import takes two seconds."""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from urllib.parse import urljoin, urlsplit

from rankzero.errors import ConfigError
from rankzero.loggers.login import ask, is_refused
from rankzero_neptune.hosted import WHAT_BECAME_OF_IT, is_hosted

_SWAGGER = "/api/backend/swagger.json"
_EXCHANGE = "exchangeApiToken"
_ANONYMOUS = "ANONYMOUS"


def check_login(api_key: str | None) -> None:
    """Ask the server, with two short requests, whether it takes the user's token; no answer is as good as yes.

    Args:
        api_key: the token; ``$NEPTUNE_API_TOKEN`` if None.

    Raises:
        ConfigError: there is no token, it is none, it is for the hosted service, or the server refuses it.
    """
    token = (api_key or os.environ.get("NEPTUNE_API_TOKEN") or "").strip()
    if not token:
        raise ConfigError(
            "nobody is logged in to Neptune: set NEPTUNE_API_TOKEN to a token of your server; or start with "
            f'mode="offline" and deliver later with rankzero sync. {WHAT_BECAME_OF_IT}'
        )
    url = server_of(token)
    if is_hosted(url):
        raise ConfigError(f"the API token is for {urlsplit(url).netloc}. {WHAT_BECAME_OF_IT}")
    if _is_refused(url, token):
        raise ConfigError(
            f"{urlsplit(url).netloc} refuses the Neptune API token: set NEPTUNE_API_TOKEN to one that it knows"
        )


def server_of(token: str) -> str:
    """Return the URL of the server that a token is for.

    Raises:
        ConfigError: it is no token.
    """
    if token == _ANONYMOUS:
        return "https://app.neptune.ai"
    try:
        said = json.loads(base64.b64decode(token.encode()))
        url = said.get("api_url") or said["api_address"]
        if urlsplit(url).netloc:
            return str(url)
        raise ValueError(url)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigError(
            "the Neptune API token names no server: it is the long text that the server shows under its user menu "
            "(Get your API token), in NEPTUNE_API_TOKEN or api_key"
        ) from None


def _is_refused(url: str, token: str) -> bool:
    from http.client import HTTPException

    try:
        paths: dict[str, dict[str, Any]] = json.loads(ask(urljoin(url, _SWAGGER), {}))["paths"]
        path = next(path for path, calls in paths.items() if _EXCHANGE in _names(calls))
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return False  # what it says makes no sense
    return is_refused(urljoin(url, path), {"X-Neptune-Api-Token": token})


def _names(calls: dict[str, Any]) -> list[Any]:
    return [call.get("operationId") for call in calls.values() if isinstance(call, dict)]

"""The login that a Neptune server is asked about, found without its client, whose import takes two seconds."""

from __future__ import annotations

import base64
import json
import os
from urllib.parse import urlsplit

from rankzero.errors import ConfigError
from rankzero.loggers.login import Login
from rankzero_neptune.hosted import WHAT_BECAME_OF_IT, is_hosted

_LOGIN = Login(
    tracker="Neptune",
    key="API token",
    how="set NEPTUNE_API_TOKEN to a token of your server",
    offline='mode="offline"',
    path="/api/backend/v1/authorization/oauth-token",
    headers=lambda token: {"X-Neptune-Api-Token": token},
    note=WHAT_BECAME_OF_IT,
)
_ANONYMOUS = "ANONYMOUS"


def check_login(api_key: str | None) -> None:
    """Raise `ConfigError` if there is no token, it is for the hosted service, or its server refuses it.

    Args:
        api_key: the token; ``$NEPTUNE_API_TOKEN`` if None.
    """
    token = _LOGIN.require((api_key or os.environ.get("NEPTUNE_API_TOKEN") or "").strip())
    url = server_of(token)
    if is_hosted(url):
        raise ConfigError(f"the API token is for {urlsplit(url).netloc}. {WHAT_BECAME_OF_IT}")
    _LOGIN.check(url, token)


def server_of(token: str) -> str:
    """Return the URL of the server that a token is for.

    Raises:
        ConfigError: it is no token.
    """
    if token == _ANONYMOUS:
        return "https://app.neptune.ai"
    try:
        content = json.loads(base64.b64decode(token.encode()))
        url = content.get("api_url") or content["api_address"]
        if urlsplit(url).netloc:
            return str(url)
        raise ValueError(url)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigError(
            "the Neptune API token names no server: it is the long text that the server shows under its user menu "
            "(Get your API token), in NEPTUNE_API_TOKEN or api_key"
        ) from None

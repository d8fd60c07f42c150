"""The login that Comet is asked about, found without its client, whose import takes seconds."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from urllib.parse import urlsplit

from rankzero.loggers.login import Login
from rankzero_comet.config_files import setting
from rankzero_comet.sdk import load_sdk
from rankzero_comet.settings import Settings

_LOGIN = Login(
    tracker="Comet",
    key="API key",
    how="run `comet login`, or set COMET_API_KEY",
    offline="online=False",
    path="/api/rest/v2/account-details",
    headers=lambda key: {"Authorization": key},
)
_HOSTED = "https://www.comet.com/clientlib/"


def check_login(settings: Settings) -> None:
    """Raise `ConfigError` if there is no key, or Comet refuses it."""
    key = _LOGIN.require(settings.api_key or setting("api_key") or _key_known_to_client())
    server = urlsplit(settings.server_url or _url_in(key) or _HOSTED)
    _LOGIN.check(f"{server.scheme}://{server.netloc}", key)


def _url_in(key: str) -> str | None:
    """Return the server that a key names: Comet may put it behind the key, as JSON in base64."""
    with suppress(ValueError, AttributeError):
        encoded = key.split("*")[1] if "*" in key else ""
        url = json.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4))).get("baseUrl")
        return str(url) if url else None
    return None


def _key_known_to_client() -> str | None:
    """Ask Comet's client, which knows more places: a file ``.env``, Google Colab, secret managers."""
    load_sdk()
    from comet_ml.config import get_api_key, get_config

    return get_api_key(None, get_config()) or None

"""Whether Comet lets the user in, found out without its client, whose import takes seconds."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from rankzero.errors import ConfigError
from rankzero.loggers.login import is_refused
from rankzero_comet.config_files import setting
from rankzero_comet.sdk import load_sdk
from rankzero_comet.settings import Settings

_HOSTED = "https://www.comet.com/clientlib/"
_ADVICE = "run `comet login`, or set COMET_API_KEY"


def check_login(settings: Settings) -> None:
    """Ask Comet, with one short request, whether it takes the user's key; no answer is as good as yes.

    Raises:
        ConfigError: there is no key, or Comet refuses it.
    """
    key = settings.api_key or setting("api_key") or _key_known_to_client()
    if key is None:
        raise ConfigError(
            f"nobody is logged in to Comet: {_ADVICE}; or start with online=False and deliver later with rankzero sync"
        )
    server = _server(settings, key)
    if is_refused(f"{server}/api/rest/v2/account-details", {"Authorization": key}):
        raise ConfigError(f"{urlsplit(server).netloc} refuses the Comet API key: {_ADVICE}")


def _server(settings: Settings, key: str) -> str:
    url = settings.server_url or _url_in(key) or _HOSTED
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def _url_in(key: str) -> str | None:
    """Return the server that a key names: Comet may put it behind the key, as JSON in base64."""
    with suppress(ValueError, AttributeError):
        said = key.split("*")[1] if "*" in key else ""
        url = json.loads(base64.b64decode(said + "=" * (-len(said) % 4))).get("baseUrl")
        return str(url) if url else None
    return None


def _key_known_to_client() -> str | None:
    """Ask Comet's client, which knows more places: a file ``.env``, Google Colab, secret managers."""
    load_sdk()
    from comet_ml.config import get_api_key, get_config

    return get_api_key(None, get_config()) or None

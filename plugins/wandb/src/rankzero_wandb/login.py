"""Whether W&B lets the user in, found out without its client, whose import takes as long as all of `rankzero.start`.

The client finds the key in the environment, or in the ``.netrc`` that ``wandb login`` writes; where it finds it
elsewhere, it is asked itself.
"""

from __future__ import annotations

import base64
import configparser
import json
import netrc
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import ConfigError
from rankzero.login import is_refused

_HOSTED = ("https://api.forge.coreweave.com", "https://api.wandb.ai")  # W&B's own; the first is the client's default
_QUERY = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()


def check_login(settings: Mapping[str, Any]) -> None:
    """Ask W&B, with one short request, whether it takes the user's key; no answer is as good as yes.

    Args:
        settings: what the user set of ``wandb.Settings``.

    Raises:
        ConfigError: there is no key, or W&B refuses it.
    """
    url = settings.get("base_url") or os.environ.get("WANDB_BASE_URL") or _url_of_client()
    key = settings.get("api_key") or os.environ.get("WANDB_API_KEY") or _key_from_netrc(url)
    if key is None and not _is_known_to_client():
        raise ConfigError(
            "nobody is logged in to W&B: run `wandb login`, or set WANDB_API_KEY; or start with offline=True and "
            "deliver later with rankzero sync"
        )
    if key is not None and _is_refused(str(url), str(key)):
        raise ConfigError(f"{urlsplit(url).netloc} refuses the W&B API key: run `wandb login`, or set WANDB_API_KEY")


def setting_from_files(name: str) -> str | None:
    """Return what the files say that ``wandb login --host`` and ``wandb init`` write; None if they do not say it."""
    parser = configparser.ConfigParser(interpolation=None)
    own = os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    with suppress(configparser.Error, OSError, ValueError):
        parser.read([Path(own, "settings"), Path(os.environ.get("WANDB_DIR", "."), "wandb", "settings")])
    return parser.get("default", name, fallback=None)


def _url_of_client() -> str:
    return setting_from_files("base_url") or next(filter(_key_from_netrc, _HOSTED), _HOSTED[0])


def _key_from_netrc(url: str) -> str | None:
    host = urlsplit(url).netloc
    for path in _netrc_files():
        with suppress(OSError, netrc.NetrcParseError):
            found = netrc.netrc(path).authenticators(host)
            if found:
                return found[2]
    return None


def _netrc_files() -> Iterator[Path]:
    if "NETRC" in os.environ:
        yield Path(os.environ["NETRC"]).expanduser()
        return
    yield Path.home() / ".netrc"
    yield Path.home() / "_netrc"


def _is_known_to_client() -> bool:
    import wandb

    return wandb.run is not None or bool(wandb.login(prompt=False, verify=False))


def _is_refused(url: str, key: str) -> bool:
    token = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    return is_refused(f"{url.rstrip('/')}/graphql", headers, _QUERY)

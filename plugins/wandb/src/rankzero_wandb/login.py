"""The login that W&B is asked about, found without its client, whose import takes as long as all of `rankzero.start`.

The client finds the key in the environment, or in the ``.netrc`` that ``wandb login`` writes; where it finds it
elsewhere, it is asked itself.
"""

from __future__ import annotations

import base64
import configparser
import netrc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import ConfigError
from rankzero.loggers.login import Login

_HOSTED = ("https://api.forge.coreweave.com", "https://api.wandb.ai")  # W&B's own; the first is the client's default
_QUERY = "query Viewer { viewer { id } }"
_QUERY_WITH_ENTITY = "query Viewer($entity: String!) { viewer { id } entity(name: $entity) { id } }"


def _headers(key: str) -> dict[str, str]:
    token = base64.b64encode(f"api:{key}".encode()).decode()
    return {"Authorization": f"Basic {token}", "Content-Type": "application/json"}


def _has_no_viewer(answer: Any) -> bool:
    return bool(answer["data"]) and answer["data"].get("viewer") is None


_LOGIN = Login(
    tracker="W&B",
    key="API key",
    how="run `wandb login`, or set WANDB_API_KEY",
    offline="offline=True",
    path="/graphql",
    headers=_headers,
    is_refusal=_has_no_viewer,
)


def check_login(base_url: str | None, api_key: str | None, entity: str | None) -> None:
    """Raise `ConfigError` if there is no key, W&B refuses it, or there is no such entity.

    Args:
        base_url: the server; the client's default if None.
        api_key: the key, if the user set it among the settings.
        entity: the account or team that the run belongs to; None for the user's own.
    """
    url = base_url or _url_of_client()
    key = api_key or os.environ.get("WANDB_API_KEY") or _key_from_netrc(url)
    if key is None and _is_known_to_client():
        return
    query = {"query": _QUERY_WITH_ENTITY, "variables": {"entity": entity}} if entity else {"query": _QUERY}
    answer = _LOGIN.check(url, _LOGIN.require(key), {"variables": {}, **query})
    if entity and answer and answer["data"] and answer["data"].get("entity", entity) is None:
        raise ConfigError(
            f"{urlsplit(url).netloc} has no entity (account or team) {entity!r} that the user of the key may see; "
            "change entity=... or WANDB_ENTITY"
        )


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

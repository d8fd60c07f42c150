"""Check the login at a tracker with one short request, without its SDK.

An SDK takes seconds to import. A tracker describes its request in a `Login`; the rest is the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import ConfigError

_REFUSED = 401  # not 403, which a firewall answers, too
_TIMEOUT = 3.0


@dataclass(frozen=True)
class Login:
    """How one tracker is asked whether it accepts a key, and what to tell a user whom it refuses."""

    tracker: str
    """Its name, for messages."""
    key: str
    """What the key is called, as in ``API key``."""
    how: str
    """How to log in, as in ``set NAME_API_KEY``."""
    offline: str
    """The option that needs no login, as in ``offline=True``."""
    path: str
    """What is asked for on the server; ``check`` adds it to the server's URL."""
    headers: Callable[[str], Mapping[str, str]]
    """Returns the headers of the request for a key."""
    is_refusal: Callable[[Any], bool] = lambda answer: False
    """Whether an answer with the status 200, decoded from JSON, means that the key is refused."""
    note: str = ""
    """A sentence for users who have no key."""

    def require(self, key: str | None) -> str:
        """Return the user's key.

        Raises:
            ConfigError: there is none.
        """
        if key:
            return key
        note = f". {self.note}" if self.note else ""
        raise ConfigError(
            f"not logged in to {self.tracker}: {self.how}; or start with {self.offline} and deliver later with "
            f"rankzero sync{note}"
        )

    def check(self, server: str, key: str, body: Any = None) -> Any:
        """Ask a server whether it accepts a key.

        Args:
            server: its URL.
            key: the user's key.
            body: posted as JSON; None for a GET request.

        Returns:
            What it answered, decoded from JSON; None if it gave no answer of use, which is no reason not to train.

        Raises:
            ConfigError: it refuses the key.
        """
        import http.client  # with a request only
        import urllib.error

        data = None if body is None else json.dumps(body).encode()
        try:
            answer = json.loads(_request(server.rstrip("/") + self.path, self.headers(key), data))
            is_refused = self.is_refusal(answer)
        except urllib.error.HTTPError as error:
            answer, is_refused = None, error.code == _REFUSED
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError):
            # no answer, or not this tracker's
            return None
        if is_refused:
            raise ConfigError(f"{urlsplit(server).netloc} refuses the {self.tracker} {self.key}: {self.how}")
        return answer


def _request(url: str, headers: Mapping[str, str], data: bytes | None) -> bytes:
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        """Follow no redirect: the key would go along."""

        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(url, headers=dict(headers), data=data)
    with urllib.request.build_opener(NoRedirects).open(request, timeout=_TIMEOUT) as answer:
        return bytes(answer.read())

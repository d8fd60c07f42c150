"""Check the login at a tracker with one short request, without its SDK, which takes seconds to import.

A tracker describes its request as a `Login`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import ConfigError

_REFUSED = 401  # not 403, which firewalls also return
_TIMEOUT = 3.0


@dataclass(frozen=True)
class Login:
    """Describes how to check a key at a tracker, and the texts for error messages."""

    tracker: str
    """The name of the tracker, for messages."""
    key: str
    """The tracker's term for the key, such as ``API key``."""
    how: str
    """How to log in, such as ``set NAME_API_KEY``."""
    offline: str
    """The option that needs no login, such as ``offline=True``."""
    path: str
    """The path of the request, which ``check`` adds to the server's URL."""
    headers: Callable[[str], Mapping[str, str]]
    """Returns the headers of the request with a key."""
    is_refusal: Callable[[Any], bool] = lambda answer: False
    """Returns whether the decoded JSON of a response with status 200 means that the key is rejected."""
    note: str = ""
    """A sentence for users who have no key."""

    def require(self, key: str | None) -> str:
        """Return the user's key.

        Raises:
            ConfigError: there is no key.
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
            server: the URL of the server.
            key: the user's key.
            body: posted as JSON; None for a GET request.

        Returns:
            The decoded JSON response; None if there was no valid one, which must not prevent training.

        Raises:
            ConfigError: the server rejects the key.
        """
        import http.client  # imported only for a request
        import urllib.error

        data = None if body is None else json.dumps(body).encode()
        try:
            answer = json.loads(_request(server.rstrip("/") + self.path, self.headers(key), data))
            is_refused = self.is_refusal(answer)
        except urllib.error.HTTPError as error:
            answer, is_refused = None, error.code == _REFUSED
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError):
            # no response, or not from this tracker
            return None
        if is_refused:
            raise ConfigError(f"{urlsplit(server).netloc} refuses the {self.tracker} {self.key}: {self.how}")
        return answer


def _request(url: str, headers: Mapping[str, str], data: bytes | None) -> bytes:
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        """Refuses redirects, which would send the key to another server."""

        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(url, headers=dict(headers), data=data)
    with urllib.request.build_opener(NoRedirects).open(request, timeout=_TIMEOUT) as answer:
        return bytes(answer.read())

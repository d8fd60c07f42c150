"""One short question to a tracker's server, for `Logger.check_login`: without its SDK, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_REFUSED = 401  # not 403, which a firewall answers, too
_TIMEOUT = 3.0


def ask(url: str, headers: Mapping[str, str], data: bytes | None = None) -> bytes:
    """Return what a server answers, in seconds; no redirect is followed, for who is logged in would go along.

    Args:
        url: what is asked for.
        headers: those of the request, with what says who asks.
        data: what is posted; None to get something.

    Raises:
        urllib.error.HTTPError: the answer is no yes.
        OSError: there is none.
        http.client.HTTPException: it breaks off, or is no HTTP.
        ValueError: the URL is none.
    """
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(url, headers=dict(headers), data=data)
    with urllib.request.build_opener(NoRedirects).open(request, timeout=_TIMEOUT) as answer:
        return bytes(answer.read())


def is_refused(url: str, headers: Mapping[str, str], data: bytes | None = None) -> bool:
    """Return whether a server says that it does not know who asks (401); no answer, or another one, is no refusal."""
    import http.client
    import urllib.error

    try:
        ask(url, headers, data)
    except urllib.error.HTTPError as error:
        return error.code == _REFUSED
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return False

"""Bounds on how long Neptune's client waits and tries, and on what it takes for an answer, for a courier's requests.

By itself the client waits ten minutes for an answer, and for ever for that to an upload or a login. And it takes an
empty answer for a yes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

_OK = 200
_OPERATIONS = "/attributes/operations"  # answered with the list of what was refused
_SLOWEST = 50_000  # bytes a second at which files are uploaded
_ONE_TRY = 0.5  # seconds after which the client does not try again
_TIMEOUT = 60.0
_UPLOADS = 3


def request_timeout() -> float:
    """Return for how many seconds a request may go unanswered: ``$NEPTUNE_REQUEST_TIMEOUT``, or 60."""
    return float(os.environ.get("NEPTUNE_REQUEST_TIMEOUT") or _TIMEOUT)


class _Patches:
    """Counts who needs the client bounded: its settings for this are global."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[tuple[Any, str, Any]] = []

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                wanted = list(_settings())
                self._before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
                _set(wanted)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                _set(self._before)


def _settings() -> Iterator[tuple[Any, str, Any]]:
    """Yield (module, name, value) of what bounds the client."""
    from neptune.common import oauth
    from neptune.common.backends import utils
    from neptune.internal.backends import hosted_client

    make_session = oauth.OAuth2Session
    yield utils, "retries_timeout", _ONE_TRY
    yield hosted_client, "_set_pool_size", lambda client: _bound(client.session)  # called with each new client
    yield oauth, "OAuth2Session", lambda *args, **kwargs: _bound(make_session(*args, **kwargs))


def _set(settings: Iterable[tuple[Any, str, Any]]) -> None:
    for module, name, value in settings:
        setattr(module, name, value)


_patches = _Patches()


@contextmanager
def bounded() -> Iterator[None]:
    """Have the client try once, and wait for a time at most, whatever it asks meanwhile."""
    _patches.enter()
    try:
        yield
    finally:
        _patches.leave()


def bound_client(http_client: Any) -> None:
    """Bound a client that somebody else may have made, in this process.

    Args:
        http_client: the ``RequestsClient`` of a backend.
    """
    _bound(http_client.session)
    _bound(http_client.authenticator.auth.session)


def bound_uploads(backend: Any) -> None:
    """Have a backend upload anew only a few times what has changed meanwhile; by itself it does so without end.

    Args:
        backend: a ``HostedNeptuneBackend``.
    """
    from neptune.common.exceptions import ClientHttpError

    upload = backend._execute_upload_operations

    def upload_at_last(*args: Any, **kwargs: Any) -> Any:
        for _ in range(_UPLOADS - 1):
            try:
                return upload(*args, **kwargs)
            except ClientHttpError as error:
                if "Length of stream does not match given range" not in str(error.response):
                    raise
        return upload(*args, **kwargs)

    backend._execute_upload_operations_with_400_retry = upload_at_last


def _bound(session: Any) -> Any:
    adapter = _make_adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    if _check_answer not in session.hooks["response"]:
        session.hooks["response"].append(_check_answer)
    return session


def _check_answer(response: Any, **_: object) -> None:
    """Raise what has the client try again if the answer to operations is not Neptune's.

    It takes an empty one for a yes; all other answers it checks itself.
    """
    from requests import ConnectionError

    if response.status_code != _OK or not urlsplit(response.url).path.endswith(_OPERATIONS):
        return
    try:
        is_neptunes = isinstance(response.json(), list)
    except ValueError:
        is_neptunes = False
    if not is_neptunes:
        begin = response.text.lstrip()[:20]
        what = f"what begins with {begin!r}" if begin else "nothing"
        raise ConnectionError(f"{response.url} answered with {what}, which is no answer of Neptune's")


def _make_adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class BoundedAdapter(HTTPAdapter):  # type: ignore[misc]
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            seconds = request_timeout()
            size = len(request.body) if isinstance(request.body, str | bytes) else 0
            kwargs["timeout"] = (min(seconds, 30.0), seconds + size / _SLOWEST)
            return super().send(request, *args, **kwargs)

    return BoundedAdapter()

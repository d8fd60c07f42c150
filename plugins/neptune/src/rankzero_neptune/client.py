"""Requests to Neptune that return when the server has responded, and the translation of Neptune's errors.

This module and the sessions use undocumented parts of Neptune's client (neptune 1.14). The client itself waits ten
minutes for a response, forever after an upload or a login, and it accepts an empty response to operations.
"""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from rankzero.errors import AccessError, RejectedError, TrackerUnavailableError
from rankzero.loggers.sdk_errors import Failure, Rule, translated
from rankzero_neptune.fields import Point
from rankzero_neptune.options import END_OF_SERVICE, is_hosted, server_of

T = TypeVar("T")

_OK = 200
_OPERATIONS = "/attributes/operations"  # the response is the list of refused operations
_MIN_UPLOAD_SPEED = 50_000  # bytes per second
_TIMEOUT = 60.0
_MAX_UPLOADS = 3
_PAGE = 1000  # points

# Errors

_STOPPED = "; Neptune's client has given up, and keeps unsent data on this machine"
_LIMITS = ("PROJECT_LIMITS_EXCEEDED", "WORKSPACE_IN_READ_ONLY_MODE")  # of the account; they can be raised
_FORBIDDEN = "it forbids this (403): the token may not write to the project, or a proxy refuses it"
_LOGIN = "it refuses the login; set NEPTUNE_API_TOKEN"
_TEXTS = {
    "Forbidden": _FORBIDDEN,
    "Unauthorized": _LOGIN,
    "NeptuneInvalidApiTokenException": _LOGIN,
    "OAuth2Error": _LOGIN,
}
"""Short texts instead of the client's, which are long and about the hosted service."""
_DECORATION = re.compile(r"\x1b\[[0-9;]*m|-{4,}\w*-{4,}")
_LONGEST = 400

ERRORS = (
    Rule(TrackerUnavailableError, ("neptune.Forbidden",)),
    Rule(AccessError, ("neptune.Unauthorized", "neptune.NeptuneInvalidApiTokenException", "oauthlib.OAuth2Error")),
    Rule(AccessError, ("neptune.MetadataContainerNotFound",)),
    Rule(RejectedError, ("neptune.NeptuneFieldCountLimitExceedException",)),
    Rule(TrackerUnavailableError, ("neptune.NeptuneLimitExceedException",)),  # with 402 and 422
    Rule(TrackerUnavailableError, ("neptune.NeptuneException",), code=_LIMITS),
    Rule(TrackerUnavailableError, ("neptune.NeptuneSynchronizationAlreadyStoppedException",), advice=_STOPPED),
    Rule(RejectedError, ("neptune.NeptuneException",), status=(400, 413, 422)),
    Rule(TrackerUnavailableError, ("neptune.NeptuneException", "requests.RequestException")),
)


def read_failure(error: BaseException) -> Failure:
    """Return the text of an error of Neptune's client in one line, and the status and code of the response."""
    response, code = getattr(error.__cause__, "response", None), None
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    with suppress(AttributeError, ValueError):  # no answer, or a page
        code = response.json().get("errorType")  # type: ignore[union-attr]
    text = next((_TEXTS[each.__name__] for each in type(error).__mro__ if each.__name__ in _TEXTS), None)
    return Failure(text or _brief(error), status, code)


def _brief(error: BaseException) -> str:
    if hasattr(error, "status") and hasattr(error, "response"):
        return f"it answered {error.status}: {' '.join(str(error.response).split())[:_LONGEST]}"
    if isinstance(error, TimeoutError):
        return f"no answer in {request_timeout():g} s"
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(error).__name__}: {_brief(cause)}"
    text = " ".join(_DECORATION.sub(" ", str(error)).split())[:_LONGEST]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# Limits for the client


def request_timeout() -> float:
    """Return the timeout of a request in seconds: ``$NEPTUNE_REQUEST_TIMEOUT``, or 60."""
    return float(os.environ.get("NEPTUNE_REQUEST_TIMEOUT") or _TIMEOUT)


class _Clock(threading.local):
    """The clock of Neptune's client; inside `limited` it runs fast, so that the client gives up after two attempts."""

    is_limited = False
    ahead = 0.0

    def monotonic(self) -> float:
        """Return the time; the client calls this at the beginning, and before each attempt."""
        if self.is_limited:
            self.ahead += 0.4 * _retries_timeout()
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        """Sleep, or make the client give up instead."""
        if self.is_limited:
            self.ahead += _retries_timeout()
        else:
            time.sleep(seconds)


def _retries_timeout() -> float:
    from neptune.common.backends import utils

    return float(utils.retries_timeout)


_clock = _Clock()


@contextmanager
def limited() -> Iterator[None]:
    """Make Neptune's client send each request of this thread once, with a timeout."""
    _limit_new_clients()
    _clock.is_limited = True
    try:
        yield
    finally:
        _clock.is_limited = False


@functools.cache
def _limit_new_clients() -> None:
    from neptune.common import oauth
    from neptune.common.backends import utils
    from neptune.internal.backends import hosted_client

    make_session = oauth.OAuth2Session
    utils.time = _clock  # used for retries
    hosted_client._set_pool_size = lambda client: _limit(client.session)  # called with each new client
    oauth.OAuth2Session = lambda *args, **kwargs: _limit(make_session(*args, **kwargs))


def _limit(session: Any) -> Any:
    adapter = _make_adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    if _check_answer not in session.hooks["response"]:
        session.hooks["response"].append(_check_answer)
    return session


def _make_adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class LimitedAdapter(HTTPAdapter):  # type: ignore[misc]
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            seconds = request_timeout()
            size = len(request.body) if isinstance(request.body, str | bytes) else 0
            kwargs["timeout"] = (min(seconds, 30.0), seconds + size / _MIN_UPLOAD_SPEED)
            return super().send(request, *args, **kwargs)

    return LimitedAdapter()


def _check_answer(response: Any, **_: object) -> None:
    """Raise the error for a retry if the response to operations is not from Neptune; the client checks all others."""
    from requests import ConnectionError

    if response.status_code != _OK or not urlsplit(response.url).path.endswith(_OPERATIONS):
        return
    try:
        is_neptunes = isinstance(response.json(), list)
    except ValueError:
        is_neptunes = False
    if not is_neptunes:
        begin = response.text.lstrip()[:20]
        what = f"a text that begins with {begin!r}" if begin else "nothing"
        raise ConnectionError(f"{response.url} answered with {what}, which is not an answer of Neptune")


def _limit_uploads(backend: Any) -> None:
    """Limit the attempts to upload a file that changes meanwhile; the client has no limit."""
    from neptune.common.exceptions import ClientHttpError

    upload = backend._execute_upload_operations

    def upload_a_few_times(*args: Any, **kwargs: Any) -> Any:
        for _ in range(_MAX_UPLOADS - 1):
            try:
                return upload(*args, **kwargs)
            except ClientHttpError as error:
                if "Length of stream does not match given range" not in str(error.response):
                    raise
        return upload(*args, **kwargs)

    backend._execute_upload_operations_with_400_retry = upload_a_few_times


# Requests


class Field(NamedTuple):
    """A field of a run."""

    type: str
    """Neptune's type: ``floatSeries``, ``string``, …"""
    value: Any
    """The value of a single value; None for other types."""
    last_step: float | None
    """The last step of a series, if the server returns it."""


class RunClient:
    """One run, and the server that has it.

    Args:
        api_key: the API token.
        project: ``workspace/name``.
        proxies: for HTTP, as ``requests`` takes them.
        with_id: Neptune's short id of a run that exists.
        custom_id: without ``with_id``, the id by which the run is found or created.

    Raises:
        DeliveryError: see `ERRORS`.
    """

    def __init__(
        self, api_key: str, project: str, proxies: Mapping[str, str] | None, *, with_id: str | None, custom_id: str
    ) -> None:
        from neptune.internal.backends.hosted_neptune_backend import HostedNeptuneBackend
        from neptune.internal.container_type import ContainerType
        from neptune.internal.credentials import Credentials

        self._type = ContainerType.RUN
        self._login: Any = None
        self._server = server_of(api_key)
        # The client raises any exception for an unexpected response.
        self._rules: tuple[Rule, ...] = (*ERRORS, Rule(TrackerUnavailableError))
        if is_hosted(self._server):
            note = f". {END_OF_SERVICE}"
            self._rules = tuple(msgspec.structs.replace(rule, advice=rule.advice + note) for rule in self._rules)
        try:
            self._backend: Any = self._request(
                lambda: HostedNeptuneBackend(Credentials.from_token(api_key), proxies and dict(proxies))
            )
        except TrackerUnavailableError:
            _clear_caches()
            raise
        http = self._backend._http_client
        self._login = http.authenticator.auth
        for session in (http.session, self._login.session):  # they may have been created before `limited` was entered
            _limit(session)
        _limit_uploads(self._backend)
        self._project = self._request(lambda: self._backend.get_project(project))
        found = self._request(lambda: self._find_or_create(with_id, custom_id))
        self._id: str = found.id
        self.short_id: str = found.sys_id
        """Neptune's id of the run in its project, ``RUN-1``."""
        self.project = f"{found.workspace}/{found.project_name}"
        """The run's project, ``workspace/name``."""
        self.url: str = self._backend.get_run_url(found.id, found.workspace, found.project_name, found.sys_id)
        """Where the server shows the run."""

    def _find_or_create(self, with_id: str | None, custom_id: str) -> Any:
        if with_id is None:
            return self._backend.create_run(self._project.id, custom_run_id=custom_id)
        name = f"{self._project.workspace}/{self._project.name}/{with_id}"
        return self._backend.get_metadata_container(name, self._type)

    def _request(self, request: Callable[[], T]) -> T:
        try:
            with limited(), translated(self._rules, self._server, read=read_failure):
                return request()
        except TrackerUnavailableError:
            if self._login is not None:
                self._login.token_expires_at = 0  # log in again next time: the token may be the problem
            raise

    def execute(self, operations: Sequence[Any]) -> None:
        """Execute operations on the server: upload files first, and send all others in one request.

        Raises:
            RejectedError: the server refused some operations, and executed the others.
            DeliveryError: it is unknown which operations were executed.
        """
        remaining = list(operations)
        errors: list[BaseException] = []
        while remaining:
            request = functools.partial(self._backend.execute_operations, self._id, self._type, remaining, None)
            done, failed = self._request(request)
            errors += failed
            if not done:
                raise TrackerUnavailableError("Neptune's client has skipped operations")
            remaining = remaining[done:]
        if errors:
            raise RejectedError(f"Neptune refused {len(errors)} of the operations, the first: {_brief(errors[0])}")

    def fields(self) -> dict[str, Field]:
        """Return path → field of the run."""
        from neptune.common.backends.utils import with_api_exceptions_handler
        from neptune.internal.backends.hosted_client import DEFAULT_REQUEST_KWARGS

        ask = with_api_exceptions_handler(self._backend.leaderboard_client.api.getExperimentAttributes)
        result = self._request(lambda: ask(experimentId=self._id, **DEFAULT_REQUEST_KWARGS).response().result)
        return {each.name: _field(each) for each in result.attributes}

    def newest_points(self, path: str, kind: str, since: int) -> list[Point]:
        """Return the newest points of a series of floats or strings, the oldest first.

        Args:
            path: the series.
            kind: ``floatSeries`` or ``stringSeries``.
            since: return at least all points since this time, in milliseconds.
        """
        backend = self._backend
        get = backend.get_float_series_values if kind == "floatSeries" else backend.get_string_series_values

        def page(offset: int, limit: int) -> Any:
            return self._request(lambda: get(self._id, self._type, path.split("/"), offset, limit))

        begin = page(0, 1).totalItemCount
        points: list[Point] = []
        while begin and (not points or points[0].time >= since):
            end, begin = begin, max(0, begin - _PAGE)
            values = page(begin, end - begin).values
            points = [Point(each.value, each.step, int(each.timestampMillis)) for each in values] + points
        return points

    def download(self, path: str, destination: str) -> None:
        """Download a file."""
        self._request(lambda: self._backend.download_file(self._id, self._type, path.split("/"), destination, False))


def _field(attribute: Any) -> Field:
    properties = getattr(attribute, f"{attribute.type}Properties", None)
    return Field(attribute.type, getattr(properties, "value", None), getattr(properties, "lastStep", None))


def _clear_caches() -> None:
    """Clear the caches of Neptune's client, which also keep responses that are not from Neptune."""
    from neptune.internal.backends import hosted_client as client

    create = (client.create_http_client_with_auth, client.create_backend_client, client.create_leaderboard_client)
    for function in (client.get_client_config, *create, client.create_artifacts_client):
        function.cache_clear()

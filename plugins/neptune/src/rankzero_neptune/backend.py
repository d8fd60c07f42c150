"""The layer below ``neptune.Run``: requests that return when the server has answered.

Only here and in `rankzero_neptune.operations` and `rankzero_neptune.bounds` is used what Neptune's client keeps to
itself (neptune 1.14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from rankzero.errors import TrackerUnavailableError
from rankzero_neptune.bounds import bound_client, bound_uploads, bounded
from rankzero_neptune.failures import refused, translated
from rankzero_neptune.login import server_of
from rankzero_neptune.points import Point

T = TypeVar("T")

_PAGE = 1000  # points


class Held(NamedTuple):
    """What a run holds under a path."""

    type: str
    """In Neptune's words: ``floatSeries``, ``string``, …"""
    value: Any
    """Of a single value; None for others."""
    last_step: float | None
    """Of a series, if the server says it."""


class Backend:
    """One run, and the server that has it.

    Args:
        api_key: the API token; ``$NEPTUNE_API_TOKEN`` if None.
        project: ``workspace/name``.
        proxies: for HTTP, as ``requests`` takes them.
        with_id: Neptune's short id of a run that exists.
        custom_id: otherwise, the id under which the run is found, or made.

    Raises:
        DeliveryError: see `rankzero_neptune.failures.translated`.
    """

    def __init__(
        self,
        api_key: str | None,
        project: str,
        proxies: Mapping[str, str] | None,
        *,
        with_id: str | None,
        custom_id: str,
    ) -> None:
        from neptune.internal.backends.hosted_neptune_backend import HostedNeptuneBackend
        from neptune.internal.container_type import ContainerType
        from neptune.internal.credentials import Credentials

        self._type = ContainerType.RUN
        self._login: Any = None
        with translated("Neptune"):
            credentials = Credentials.from_token(api_token=api_key)
        self.server = server_of(credentials.api_token)
        try:
            self._backend: Any = self._ask(lambda: HostedNeptuneBackend(credentials, proxies and dict(proxies)))
        except TrackerUnavailableError:
            _forget_answers()
            raise
        bound_client(self._backend._http_client)
        bound_uploads(self._backend)
        self._login = self._backend._http_client.authenticator.auth
        self._project = self._ask(lambda: self._backend.get_project(project))
        found = self._ask(lambda: self._find_or_create(with_id, custom_id))
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

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            with bounded(), translated(self.server):
                return question()
        except TrackerUnavailableError:
            if self._login is not None:
                self._login.token_expires_at = 0  # have it log in anew the next time: that may be what is wrong
            raise

    # Write

    def execute(self, operations: Sequence[Any]) -> None:
        """Have the server do some operations; files are uploaded first, and all the rest is one request.

        Raises:
            RejectedError: the server refused some of them, and did the others.
            DeliveryError: it is not known which were done.
        """
        left = list(operations)
        errors: list[Any] = []
        while left:
            batch = left
            done, failed = self._ask(lambda: self._backend.execute_operations(self._id, self._type, batch, None))  # noqa: B023
            errors += failed
            if not done:
                raise TrackerUnavailableError("Neptune's client has left out operations")
            left = left[done:]
        if errors:
            raise refused(errors)

    # Read

    def attributes(self) -> dict[str, Held]:
        """Return what the run holds, by path."""
        from neptune.common.backends.utils import with_api_exceptions_handler

        ask = with_api_exceptions_handler(self._backend.leaderboard_client.api.getExperimentAttributes)
        result = self._ask(lambda: ask(experimentId=self._id, **_options()).response().result)
        return {each.name: _held(each) for each in result.attributes}

    def newest_points(self, path: str, kind: str, since: int) -> list[Point]:
        """Return the newest points of a series of floats or strings, the oldest first.

        Args:
            path: of the series.
            kind: ``floatSeries`` or ``stringSeries``.
            since: go back at least to this time, in milliseconds.
        """
        get = {
            "floatSeries": self._backend.get_float_series_values,
            "stringSeries": self._backend.get_string_series_values,
        }[kind]

        def page(offset: int, limit: int) -> Any:
            return self._ask(lambda: get(self._id, self._type, path.split("/"), offset, limit))

        begin = page(0, 1).totalItemCount
        points: list[Point] = []
        while begin and (not points or points[0].time >= since):
            end, begin = begin, max(0, begin - _PAGE)
            found = page(begin, end - begin).values
            points = [Point(each.value, each.step, int(each.timestampMillis)) for each in found] + points
        return points

    def download(self, path: str, destination: str) -> None:
        """Download a file to a path on this machine."""
        self._ask(lambda: self._backend.download_file(self._id, self._type, path.split("/"), destination, False))


def _options() -> dict[str, Any]:
    from neptune.internal.backends.hosted_client import DEFAULT_REQUEST_KWARGS

    return dict(DEFAULT_REQUEST_KWARGS)


def _held(attribute: Any) -> Held:
    properties = getattr(attribute, f"{attribute.type}Properties", None)
    return Held(attribute.type, getattr(properties, "value", None), getattr(properties, "lastStep", None))


def _forget_answers() -> None:
    """Have Neptune's client ask anew: it remembers the first answer, also one that is not Neptune's."""
    from neptune.internal.backends import hosted_client

    hosted_client.get_client_config.cache_clear()
    hosted_client.create_http_client_with_auth.cache_clear()
    hosted_client.create_backend_client.cache_clear()
    hosted_client.create_leaderboard_client.cache_clear()
    hosted_client.create_artifacts_client.cache_clear()

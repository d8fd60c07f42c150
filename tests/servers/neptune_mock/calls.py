"""The calls of the API: their description for the client, and the functions that answer them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from servers.neptune_mock.run import StoredRun
from servers.neptune_mock.store import Store


class Problem(Exception):
    """An error response.

    Args:
        status: the HTTP status.
        title: the text that the client shows.
        error_type: the type by which the client chooses an exception.
    """

    def __init__(self, status: int, title: str, error_type: str | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.body = {"code": status, "title": title, **({"errorType": error_type} if error_type else {})}


class Content(NamedTuple):
    """A response that is not JSON."""

    body: bytes
    type: str
    name: str = ""
    """The file name of a download."""


@dataclass
class Asked:
    """A request."""

    store: Store
    url: str
    """The URL of the server."""
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    part_sizes: tuple[int, int]
    """Bytes above which a file is sent in parts, and the size of a part."""
    increasing_steps: bool

    @property
    def json(self) -> Any:
        """The body as strict JSON: without NaN and Infinity."""
        try:
            return json.loads(self.body, parse_constant=_refuse)
        except ValueError as error:
            raise Problem(400, f"malformed JSON: {error}") from None

    def run(self, name: str = "experimentId") -> StoredRun:
        """The run that the query names."""
        run = self.store.find_run(self.query[name])
        if run is None:
            raise Problem(404, f"run {self.query[name]} not found")
        return run


Answerer: TypeAlias = Callable[[Asked], Any]


class Call(NamedTuple):
    """One call.

    Args:
        api: ``backend`` or ``leaderboard``.
        parameters: of the query, ``name:type``; ``body:NAME`` and ``header:NAME`` for others.
        returns: the name of a schema, ``[NAME]`` for a list.
    """

    api: str
    method: str
    path: str
    parameters: str
    returns: str
    answer: Answerer
    is_open: bool = False
    """Whether it may be called without login."""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")

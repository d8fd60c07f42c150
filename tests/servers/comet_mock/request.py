"""Decoded requests, and responses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from requests_toolbelt import MultipartDecoder

from rankzero.testing.loopback import Answer

UNKNOWN_KEY = 90212
UNKNOWN_EXPERIMENT = 90210


class Refused(Exception):
    """The request is refused.

    Args:
        message: the reason.
        code: the ``sdk_error_code``, by which the client distinguishes refusals.
        status: the HTTP status.
    """

    def __init__(self, message: str, code: int | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.answer = refusal(status, message, code)


@dataclass(frozen=True)
class Request:
    """A request as it came over the wire."""

    method: str
    target: str
    """Path and query."""
    headers: Message
    body: bytes
    """The body, decompressed."""

    @cached_property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @cached_property
    def query(self) -> dict[str, str]:
        """The fields of the query; the last value of a repeated field."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @cached_property
    def json(self) -> Any:
        """The body as strict JSON: without NaN and Infinity."""
        return json.loads(self.body, parse_constant=_no_json)

    @cached_property
    def parts(self) -> dict[str, bytes]:
        """Name → content of the parts of a multipart body."""
        decoded = MultipartDecoder(self.body, self.headers["Content-Type"]).parts
        return {_name(part.headers[b"Content-Disposition"]): part.content for part in decoded}


def as_json(content: Any, status: int = 200) -> Answer:
    """Return a response with JSON."""
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())


def refusal(status: int, message: str, code: int | None = None) -> Answer:
    """Return the response to a refused request."""
    return as_json({"msg": message, "code": status, "data": None, "sdk_error_code": code or 0}, status)


def as_bool(sent: Any) -> bool:
    """Decode a bool from JSON or a query."""
    return sent if isinstance(sent, bool) else str(sent).lower() == "true"


def as_number(sent: Any) -> int | None:
    """Decode an integer from JSON or a query; None if it is missing."""
    return None if sent in (None, "") else int(sent)


def _no_json(constant: str) -> NoReturn:
    raise Refused(f"{constant} is not JSON")


def _name(disposition: bytes) -> str:
    fields = dict(field.strip().split("=", 1) for field in disposition.decode().split(";")[1:])
    return fields["name"].strip('"')

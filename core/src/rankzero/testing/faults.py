"""Faults: wrong responses that a `FaultyProxy` or a mock server sends instead of the right one.

server.fail("log-batch", status(429, retry_after="1"), times=2)
"""

from __future__ import annotations

import threading
from typing import Any

from rankzero.testing.loopback import Answer, Fault
from rankzero.testing.proxy import PAGE, SIGN_IN


def status(code: int, body: str = "", **headers: str) -> Fault:
    """Answer with a status, without processing the request."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return lambda handler: Answer(code, named, body.encode())


def dropped(handler: Any) -> None:
    """Close the connection without an answer, without processing the request."""


def dies(handler: Any) -> None:
    """Stop the server like a kill; after a restart it has the data from before this request."""
    handler.server.owner.stop()


def stalled(seconds: float = threading.TIMEOUT_MAX) -> Fault:
    """Hang for some seconds or until the server is healed, then close the connection."""
    return lambda handler: handler.server.owner.wait_for_healing(seconds)


def late(seconds: float) -> Fault:
    """Process the request at once, and answer after some seconds or when the server is healed."""

    def answer(handler: Any) -> Answer | None:
        answer: Answer | None = handler.ask()
        handler.server.owner.wait_for_healing(seconds)
        return answer

    return answer


def lost(handler: Any) -> None:
    """Process the request, and close the connection without an answer."""
    handler.ask()


def truncated(handler: Any) -> Answer:
    """Process the request, and close the connection in the middle of the answer."""
    answer: Answer = handler.ask()
    return answer._replace(body=answer.body[: len(answer.body) // 2], headers={"Content-Length": str(1 << 20)})


FAULTS: dict[str, Fault] = {
    "refuse": dies,  # the first connection breaks, all others are refused
    "500": status(500, "sorry"),
    "503": status(503, "<html>Service Unavailable</html>"),
    "gateway 504": status(504, "<html>Gateway Time-out</html>"),
    "429": status(429, "slowly", retry_after="1"),
    "401": status(401, "who?"),
    "403": status(403, "<html>no</html>"),
    "404": status(404),
    "redirect": status(302, "", location=SIGN_IN),
    "page with 200": status(200, PAGE, content_type="text/html"),
    "empty 200": status(200),
    "other JSON with 200": status(200, '{"status": "maintenance"}', content_type="application/json"),
    "dropped": dropped,
    "lost answer": lost,
    "truncated answer": truncated,
    "hang": stalled(),
}
"""The faults of `DeliveryContract`: the server rejects every request, or its answers do not arrive."""

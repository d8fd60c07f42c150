"""Answers that no healthy server gives; those of `servers.faulty_proxy` work here too."""

from __future__ import annotations

from typing import Any

from servers.faulty_proxy import Answer, Fault


def dropped(handler: Any) -> None:
    """Close the connection without a word."""


def stalled(seconds: float = float("inf")) -> Fault:
    """Say nothing for some seconds or until the server is healed, then close the connection; do nothing."""
    return lambda handler: handler.server.mock.wait_for_healing(seconds)


def slow(seconds: float) -> Fault:
    """Do what is asked at once, and answer only after some seconds or when the server is healed."""

    def answer_late(handler: Any) -> Answer:
        answer = handler.ask()
        handler.server.mock.wait_for_healing(seconds)
        return answer

    return answer_late


def dies(handler: Any) -> None:
    """End the server as a kill would; it starts again with what it had stored before this request."""
    handler.server.mock.stop()

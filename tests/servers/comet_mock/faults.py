"""Answers that no healthy server gives; those of `servers.faulty_proxy` work here too: ``status``, ``lost``…"""

from __future__ import annotations

from typing import Any

from servers.comet_mock.request import refusal
from servers.faulty_proxy import Answer, Fault


def refused(code: int, message: str = "refused", status: int = 400) -> Fault:
    """Refuse as Comet does, with an ``sdk_error_code``."""
    return lambda handler: refusal(status, message, code)


def dropped(handler: Any) -> None:
    """Close the connection without a word, and do nothing of what is asked."""


def stalled(seconds: float) -> Fault:
    """Say and do nothing for so many seconds or until the server is healed, then close the connection."""

    def wait(handler: Any) -> None:
        handler.server.mock.wait_for_healing(seconds)

    return wait


def late(seconds: float) -> Fault:
    """Do at once what is asked, and answer after so many seconds, or when the server is healed."""

    def answer(handler: Any) -> Answer:
        said: Answer = handler.ask()
        handler.server.mock.wait_for_healing(seconds)
        return said

    return answer


def dies(handler: Any) -> None:
    """End the server as a kill would; it starts again with what it had stored before this request."""
    handler.server.mock.stop()

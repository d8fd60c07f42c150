"""Answers that no healthy server gives; those of `servers.faulty_proxy` work here too."""

from __future__ import annotations

from typing import Any


def dropped(handler: Any) -> None:
    """Close the connection without a word."""


def stalled(handler: Any) -> None:
    """Say nothing until the server is healed, then close the connection."""
    handler.server.mock.wait_for_healing()


def dies(handler: Any) -> None:
    """End the server as a kill would; it starts again with what it had stored before this request."""
    handler.server.mock.stop()

"""Faults of a Comet server, in addition to those of `rankzero.testing.faults`."""

from __future__ import annotations

from servers.comet_mock.request import refusal

from rankzero.testing.loopback import Fault


def refused(code: int, message: str = "refused", status: int = 400) -> Fault:
    """Refuse as Comet does, with an ``sdk_error_code``."""
    return lambda handler: refusal(status, message, code)

"""What became of Neptune's hosted service."""

from __future__ import annotations

from urllib.parse import urlsplit

WHAT_BECAME_OF_IT = (
    "Neptune's hosted service (neptune.ai) ended on 5 March 2026, and what it held was deleted. Set NEPTUNE_API_TOKEN "
    "to a token of a server that speaks its API (self-hosted Neptune, Minfx), or use another tracker; runs that "
    "were never synced can be rescued with `rankzero import neptune`"
)
"""What happened, and what to do."""


def is_hosted(url: str) -> bool:
    """Return whether a server's URL is that of the service that has ended."""
    host = urlsplit(url).hostname or ""
    return host == "neptune.ai" or host.endswith(".neptune.ai")

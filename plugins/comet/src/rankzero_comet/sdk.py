"""Comet's client, imported late and without what importing it does to others."""

from __future__ import annotations

import os
from typing import Any


def load_sdk() -> Any:
    """Import ``comet_ml`` and return it; it takes two seconds the first time."""
    os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")  # or it would change torch, Keras and others
    import comet_ml

    return comet_ml

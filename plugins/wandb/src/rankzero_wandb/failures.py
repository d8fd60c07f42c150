"""What an error of W&B's client means for a courier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rankzero.errors import TrackerUnavailableError


@contextmanager
def opening() -> Iterator[None]:
    """Raise `TrackerUnavailableError` for whatever hinders a run from being opened: no event is to blame for it."""
    try:
        yield
    except TrackerUnavailableError:
        raise
    except Exception as error:
        raise TrackerUnavailableError(f"the run cannot be opened in W&B: {describe(error)}") from error


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `TrackerUnavailableError` for an error of W&B, of which ``what`` says what was tried.

    W&B's client does not tell what it never takes from what it does not take now; what is wrong with a value is
    found before it is sent, and raised as ValueError or TypeError.
    """
    import wandb

    try:
        yield
    except (wandb.errors.Error, OSError, TimeoutError) as error:
        raise TrackerUnavailableError(f"{what}: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Return what an error of W&B says, with a word of what to do about a refused login."""
    text = " ".join(str(error).split()) or type(error).__name__
    if any(word in text for word in ("401", "API key", "api_key", "not logged in", "permission denied")):
        return f"{text}; if the key is wrong or was revoked: wandb login, or set WANDB_API_KEY"
    return text

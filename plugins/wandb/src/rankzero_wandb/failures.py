"""What an error of W&B's client means for a courier."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rankzero.errors import AccessError, DeliveryError, RejectedError, TrackerUnavailableError

_NEVER_TAKEN = ("400", "413", "422")
_UNKNOWN_USER = re.compile(r"\b401\b|API key|api_key|not logged in|permission denied")
_NO_ACCESS = re.compile(rf"{_UNKNOWN_USER.pattern}|\b40[34]\b|<no message>")  # the last is what 401 comes as
_OF_FILES = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_STATUS = re.compile(r"\b(?:error|status:|upload:) (\d{3})\b")


@contextmanager
def opening(run_id: str | None) -> Iterator[None]:
    """Raise `TrackerUnavailableError` for whatever hinders a run from being opened: no event is to blame for it.

    It is an `AccessError` where W&B refuses the user, or does not know the entity or project.

    Args:
        run_id: W&B's id of the run.
    """
    try:
        yield
    except TrackerUnavailableError:
        raise
    except Exception as error:
        with suppress(Exception, SystemExit):
            _clear_away(run_id, error)
        kind = AccessError if _NO_ACCESS.search(str(error)) else TrackerUnavailableError
        raise kind(f"the run cannot be opened in W&B: {describe(error)}") from error


def _clear_away(run_id: str | None, error: Exception) -> None:
    """Have W&B's client able to open the run another time.

    It takes a run that it could not open for an open one, whatever the reason: W&B did not answer, or the disk is full.
    """
    import wandb
    from wandb.sdk.mailbox import MailboxClosedError

    if isinstance(error, ConnectionError | MailboxClosedError):  # wandb-core has died
        wandb.teardown()
    elif run_id:
        service = wandb.setup().ensure_service()
        _, interface = service.inform_attach(run_id)
        try:
            interface.deliver_exit(1).wait_or(timeout=10)  # without it wandb-core waits for more, for ever
        finally:  # also if the run has got that far before
            service.inform_finish(run_id)


def refused(reason: str) -> DeliveryError:
    """Return the error to raise when W&B's client gave up, of which ``reason`` says what it met."""
    found = _STATUS.search(reason)
    kind = RejectedError if found and found[1] in _NEVER_TAKEN else TrackerUnavailableError
    return kind(f"W&B refused the upload: {_advised(reason)}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `TrackerUnavailableError` for an error of W&B, of which ``what`` says what was tried.

    W&B's client does not tell what it never takes from what it does not take now; what is wrong with a value is
    found before it is sent, and raised as ValueError or TypeError.
    """
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        yield
    except _OF_FILES:  # the courier knows what a missing file means
        raise
    except (wandb.errors.Error, WandbApiFailedError, OSError, TimeoutError) as error:
        raise TrackerUnavailableError(f"{what}: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Return what an error of W&B says, with a word of what to do about a refused login."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _advised("it gave no reason, as for a login that it refuses (401)" if text == "<no message>" else text)


def _advised(text: str) -> str:
    if _UNKNOWN_USER.search(text):
        return f"{text}; if the key is wrong or was revoked: wandb login, or set WANDB_API_KEY"
    return text

"""What an error of Neptune's client means for a courier: try again, or give this event up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rankzero.errors import AccessError, RejectedError, TrackerUnavailableError
from rankzero_neptune.bounds import request_timeout
from rankzero_neptune.hosted import WHAT_BECAME_OF_IT, is_hosted

_NEVER_TAKEN = (400, 413, 422)
_LIMITS = frozenset(["PROJECT_LIMITS_EXCEEDED", "WORKSPACE_IN_READ_ONLY_MODE"])  # of the account: they can be raised
_DECORATION = re.compile(r"\x1b\[[0-9;]*m|-{4,}\w*-{4,}")
_LONGEST = 400


@contextmanager
def translated(server: str) -> Iterator[None]:
    """Raise `DeliveryError` for an error of Neptune's client or of HTTP.

    Args:
        server: the URL of the server.

    Raises:
        RejectedError: the server refuses what it was given, whenever it is asked.
        AccessError: it does not know who asks, or does not have the project or the run.
        TrackerUnavailableError: anything else: it is down, overloaded, or full.
    """
    from neptune.common.exceptions import Forbidden, NeptuneInvalidApiTokenException, Unauthorized
    from neptune.common.oauth import OAuth2Error
    from neptune.exceptions import (
        MetadataContainerNotFound,
        NeptuneFieldCountLimitExceedException,
        NeptuneLimitExceedException,
    )

    try:
        yield
    except Forbidden as error:
        text = "it forbids this (403): the token may not write to the project, or something on the way answers so"
        raise TrackerUnavailableError(_advised(text, server)) from error
    except NeptuneLimitExceedException as error:  # of 402 and of 422: limits can be raised
        raise TrackerUnavailableError(_advised(brief(error), server)) from error
    except MetadataContainerNotFound as error:
        raise AccessError(_advised(brief(error), server)) from error
    except (Unauthorized, NeptuneInvalidApiTokenException, OAuth2Error) as error:
        raise AccessError(_advised("it refuses the login; set NEPTUNE_API_TOKEN", server)) from error
    except NeptuneFieldCountLimitExceedException as error:
        raise RejectedError(f"Neptune: {brief(error)}") from error
    except Exception as error:  # the client raises anything when it does not understand an answer
        if _is_never_taken(error):
            raise RejectedError(f"Neptune: {brief(error)}") from error
        raise TrackerUnavailableError(_advised(brief(error), server)) from error


def _is_never_taken(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return status in _NEVER_TAKEN and _error_type(response) not in _LIMITS


def _error_type(response: Any) -> str | None:
    try:
        found = response.json().get("errorType")
    except (AttributeError, ValueError):
        return None
    return str(found) if found else None


def refused(errors: Sequence[BaseException]) -> RejectedError:
    """Return the error to raise when the server did a part of what it was asked, and refused the rest."""
    return RejectedError(f"Neptune refused {len(errors)} of the operations, the first: {brief(errors[0])}")


def brief(error: BaseException) -> str:
    """Return what an error says, in one line: many of the client's are a page with colours and drawings."""
    if hasattr(error, "status") and hasattr(error, "response"):
        return f"it answered {error.status}: {' '.join(str(error.response).split())[:_LONGEST]}"
    if isinstance(error, TimeoutError):
        return f"no answer in {request_timeout():g} s"
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(error).__name__}: {brief(cause)}"
    text = " ".join(_DECORATION.sub(" ", str(error)).split())[:_LONGEST]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _advised(text: str, server: str) -> str:
    return f"{server}: {text}. {WHAT_BECAME_OF_IT}" if is_hosted(server) else f"{server}: {text}"

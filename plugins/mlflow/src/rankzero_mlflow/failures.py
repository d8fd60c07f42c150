"""What an error of MLflow means for a courier: try again, or give this event up."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rankzero.errors import DeliveryError, RejectedError, TrackerUnavailableError

_REFUSALS = frozenset(["INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST"])
# BAD_REQUEST says that the database raised: because of a value, or as there was no free connection, or no table.
_BAD_VALUE = re.compile(
    r"DataError|DataRightTruncation|OutOfRange|UntranslatableCharacter|too long|incorrect string value|\bNUL\b",
    re.IGNORECASE,
)
_TOO_LARGE = 413
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_QUIET = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"


class AlreadyThereError(TrackerUnavailableError):
    """What was to be made has been made, perhaps by somebody else in this moment."""


class CheckedClient:
    """An ``MlflowClient`` that raises what a courier understands.

    Args:
        client: the ``MlflowClient``.
        has_courier: whether a courier tries again. MLflow's own seven tries take minutes, in which nobody is told
            that something is wrong; so it is given two, unless the user said how many. And it does not print the
            address of the run, which may hold a password.
    """

    def __init__(self, client: Any, *, has_courier: bool) -> None:
        self._client = client
        self._has_courier = has_courier

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        settings = {_RETRIES: os.environ.get(_RETRIES, "1"), _QUIET: "true"} if self._has_courier else {}
        if self._has_courier and name.startswith("create_"):
            settings[_RETRIES] = "0"  # it may have been made, and only the answer lost: look first

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with _environment(settings), translated():
                return method(*args, **kwargs)

        return call


@contextmanager
def translated() -> Iterator[None]:
    """Raise `DeliveryError` for an error of MLflow or of HTTP.

    Raises:
        RejectedError: MLflow refuses what it was given, whenever it is asked.
        TrackerUnavailableError: anything else: it is down, overloaded, misconfigured or knows nobody of this name.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except MlflowException as error:
        raise _of_mlflow(error) from error
    except RequestException as error:  # from uploads and downloads
        status = getattr(error.response, "status_code", None)
        kind = RejectedError if status == _TOO_LARGE else TrackerUnavailableError
        raise kind(f"MLflow's artifact store: {without_password(error)}") from error


def _of_mlflow(error: Any) -> DeliveryError:
    message, code = without_password(error), error.error_code
    if "must be in the 'active' state" in message:
        return TrackerUnavailableError(f"it was deleted in MLflow; restore it there and delivery goes on: {message}")
    if code == "RESOURCE_ALREADY_EXISTS":
        return AlreadyThereError(message)
    is_bad_value = code == "BAD_REQUEST" and _BAD_VALUE.search(message)
    if code in _REFUSALS or is_bad_value or f"failed with error code {_TOO_LARGE}" in message:
        return RejectedError(message)
    return TrackerUnavailableError(message)


def without_password(text: object) -> str:
    """Return a text without what stands before the host of a URL in it."""
    return _PASSWORD.sub("", str(text))


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while: the only way to tell MLflow."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

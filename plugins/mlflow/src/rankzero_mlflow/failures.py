"""What an error of MLflow means for a courier: try again, or give this event up."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from rankzero.errors import (
    AccessError,
    DeliveryError,
    PossiblyRejectedError,
    RejectedError,
    TrackerUnavailableError,
)
from rankzero_mlflow.answers import Answers, checked_answers

_REFUSALS = frozenset(["INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST"])
# BAD_REQUEST says that the database raised: because of a value, or as there was no free connection, or no table.
_BAD_VALUE = re.compile(
    r"DataError|DataRightTruncation|OutOfRange|UntranslatableCharacter|too long|incorrect string value|\bNUL\b",
    re.IGNORECASE,
)
_BUSY = re.compile(r"OperationalError|QueuePool|timed? ?out|connection|locked|no such table", re.IGNORECASE)
_NO_ACCESS = (401, 403, 407)
_TOO_LARGE = 413
_PERHAPS_REFUSED = (400, 409, 411, 414, 415, 422, 431)
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_QUIET = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"


class AlreadyThereError(TrackerUnavailableError):
    """What was to be made has been made, perhaps by somebody else in this moment."""


class NotThereError(AccessError):
    """MLflow says that there is no run, experiment or model of this id."""


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
        self._uploaded: dict[tuple[str, str], dict[str, int | None]] = {}  # (run, folder) → path → size

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        settings = {_RETRIES: os.environ.get(_RETRIES, "1"), _QUIET: "true"} if self._has_courier else {}
        if self._has_courier and name.startswith("create_"):
            settings[_RETRIES] = "0"  # it may have been made, and only the answer lost: look first

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with _environment(settings), translated() as answers:
                result = method(*args, **kwargs)
            if self._has_courier and answers.has_silent_upload:
                self._note_upload(name, *args)
            return result

        return call

    def _note_upload(self, name: str, run_id: str, what: str, where: str | None = None) -> None:
        """Remember a file that ``log_artifact`` or ``log_text`` has uploaded, until it is confirmed."""
        is_text = name == "log_text"
        path = (where or "") if is_text else posixpath.join(where or "", os.path.basename(what))
        folder = self._uploaded.setdefault((run_id, posixpath.dirname(path)), {})
        folder[path] = None if is_text else os.stat(what).st_size

    def confirm_uploads(self) -> None:
        """Ask MLflow whether it has the files whose upload it has answered with nothing.

        Raises:
            TrackerUnavailableError: it lacks one of them.
        """
        uploaded, self._uploaded = self._uploaded, {}
        for (run_id, folder), files in uploaded.items():
            listed = self.list_artifacts(run_id, folder or None)
            there = {unquote(each.path): each.file_size for each in listed}
            for path, size in files.items():
                if unquote(path) not in there or (size and there[unquote(path)] not in (size, None)):
                    raise TrackerUnavailableError(f"MLflow does not have {path}, although its upload was answered")


@contextmanager
def translated() -> Iterator[Answers]:
    """Raise `DeliveryError` for an error of MLflow or of HTTP.

    Raises:
        RejectedError: MLflow refuses what it was given, whenever it is asked.
        PossiblyRejectedError: it is refused without a reason, by MLflow or by a proxy.
        AccessError: MLflow refuses the user, or does not have the run or experiment.
        TrackerUnavailableError: anything else: it is down, overloaded or misconfigured.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    with checked_answers() as answers:
        try:
            yield answers
        except MlflowException as error:
            raise _meaning(without_password(error), error.error_code, answers.status) from error
        except RequestException as error:  # from uploads and downloads
            status = getattr(error.response, "status_code", None)
            message = f"MLflow's artifact store: {without_password(error)}"
            raise _meaning(message, _code_in(error.response), status) from error


def _code_in(response: Any) -> str | None:
    try:
        return str(response.json()["error_code"])
    except (AttributeError, LookupError, TypeError, ValueError):  # no answer, or a page
        return None


def _meaning(message: str, code: str | None, status: int | None) -> DeliveryError:
    """Return what an error means, by its code in MLflow's API and the HTTP status, where there are any."""
    if status in _NO_ACCESS:
        return AccessError(f"MLflow refuses the user, or a proxy does: {message}")
    if "must be in the 'active' state" in message:
        return AccessError(f"it was deleted in MLflow; restore it there and delivery goes on: {message}")
    if code == "RESOURCE_DOES_NOT_EXIST":
        return NotThereError(message)
    if code == "RESOURCE_ALREADY_EXISTS":
        return AlreadyThereError(message)
    is_bad_value = code == "BAD_REQUEST" and _BAD_VALUE.search(message)
    if code in _REFUSALS or is_bad_value or status == _TOO_LARGE:
        return RejectedError(message)
    if status in _PERHAPS_REFUSED and not _BUSY.search(message):
        return PossiblyRejectedError(message)
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

"""What MLflow's API accepts and answers: names, errors, a client that checks responses, that of ``logger.experiment``.

MLflow's client treats an empty response as success, and any response to an upload. So a proxy, login page or
maintenance page that responds with 200 would lose data.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import posixpath
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from rankzero.errors import AccessError, PossiblyRejectedError, RejectedError, TrackerUnavailableError
from rankzero.loggers import sdk_errors
from rankzero.loggers.sdk_errors import Failure, Rule, translated

_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_API = re.compile(r"/api/\d\.\d/mlflow/")
_WITHOUT_FIELDS = re.compile(r"/mlflow/runs/log-batch$|/mlflow-artifacts/artifacts/")  # of a write
_RUN_ID = re.compile("[0-9a-f]{32}")


# Names that MLflow accepts: different names stay different
#
# A character that is not allowed becomes its code point in hexadecimal between two marks: ``loss [x]`` becomes
# ``loss :5B:x:5D:`` as the name of a metric. A valid name is unchanged; one that is too long ends with a part of its
# SHA-256.

LONGEST = 250
"""Characters in the name of a metric, param or tag."""

LONGEST_TAG = 5000
"""Characters in the value of a tag that every MLflow server accepts."""

RUN_TAG = "rankzero.run_id"
"""The tag with the id of the rankzero run, by which its MLflow run is found."""

NAME_TAG = "rankzero.name."
"""The tag ``rankzero.name.<name in MLflow>`` contains the original of a changed name."""

_LONGEST_PART = 150  # bytes in a part of a path: file systems allow 255, and MLflow extends the key of an image
_DIGEST = 16


def metric_name(name: str) -> str:
    """Return the name of a metric, param or tag: letters, digits, ``_ - . : /`` and space, at most 250 of them."""
    safe = _escape(name, r"[^\w\-. /:]", ":", ":")
    longest = LONGEST if safe == name else LONGEST - len(NAME_TAG)
    if len(safe) <= longest:
        return safe
    return f"{safe[: LONGEST - len(NAME_TAG) - _DIGEST - 1]}:{_digest(name)}"


def path_name(name: str) -> str:
    """Return a name for a part of an artifact's path; ``/`` in it makes folders."""
    return "/".join(_short(part, "~") for part in _escape(name, r"[^\w\-. /=~]|^ | $", "~", "~").split("/"))


def image_name(name: str) -> str:
    """Return the key of an image; MLflow's image grid accepts only ASCII."""
    return _short(_escape(name, r"[^a-zA-Z0-9_\-. /]", "_x", "_"), "_x")


def _escape(name: str, refused: str, opening: str, closing: str) -> str:
    is_plain_path = posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."
    if not is_plain_path:  # "..", "/loss", "a//b"
        refused += "|[/.]"
    elif not re.search(f"{refused}|{opening}([0-9A-F]+|empty){closing}", name):  # nor does it look escaped
        return name
    opens = f"{opening[0]}(?={opening[1:]})"
    escaped = re.sub(f"{refused}|{opens}", lambda found: f"{opening}{ord(found[0]):X}{closing}", name)
    return escaped or f"{opening}empty{closing}"


def _short(part: str, mark: str) -> str:
    encoded = part.encode()
    if len(encoded) <= _LONGEST_PART:
        return part
    return encoded[: _LONGEST_PART - _DIGEST - len(mark)].decode(errors="ignore") + mark + _digest(part)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]


# What an error means


class AlreadyThereError(TrackerUnavailableError):
    """The object exists already, perhaps created by another process at the same time."""


class NotThereError(AccessError):
    """MLflow has no run, experiment or model with this id."""


_SDK_ERRORS = ("mlflow.MlflowException", "requests.RequestException")  # the latter from uploads and downloads
_BAD_VALUE = r"DataError|DataRightTruncation|OutOfRange|UntranslatableCharacter|too long|incorrect string value|\bNUL\b"
_BUSY = r"OperationalError|QueuePool|timed? ?out|connection|locked|no such table"
_DELETED = " It was deleted in MLflow; restore it there to continue the delivery"

ERRORS = (
    Rule(AccessError, _SDK_ERRORS, status=(401, 403, 407), advice="; MLflow refuses the user, or a proxy does"),
    Rule(AccessError, _SDK_ERRORS, text="must be in the 'active' state", advice=_DELETED),
    Rule(NotThereError, _SDK_ERRORS, code=("RESOURCE_DOES_NOT_EXIST",)),
    Rule(AlreadyThereError, _SDK_ERRORS, code=("RESOURCE_ALREADY_EXISTS",)),
    Rule(RejectedError, _SDK_ERRORS, code=("INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST")),
    # An error of the database: an invalid value, no free connection, or no table.
    Rule(RejectedError, _SDK_ERRORS, code=("BAD_REQUEST",), text=_BAD_VALUE),
    Rule(RejectedError, _SDK_ERRORS, status=(413,)),
    Rule(PossiblyRejectedError, _SDK_ERRORS, status=(400, 409, 411, 414, 415, 422, 431), unless=_BUSY),
    Rule(TrackerUnavailableError, _SDK_ERRORS),  # it is down, overloaded or misconfigured
)


def read_failure(error: BaseException) -> Failure:
    """Return the details of an error of MLflow's client, or of a request for a file."""
    failure = sdk_errors.read_failure(error)
    with suppress(AttributeError, LookupError, TypeError, ValueError):  # no answer, or a page
        return failure._replace(code=failure.code or error.response.json()["error_code"])  # type: ignore[attr-defined]
    return failure


# The checked client


def connect(uri: str) -> Any:
    """Return an ``MlflowClient``, which creates the tables of a new database."""
    from mlflow import MlflowClient

    scheme, _, path = uri.partition(":///")
    if scheme != "sqlite":
        return MlflowClient(uri)
    from filelock import FileLock

    # Two processes must not create the tables at the same time.
    with FileLock(f"{path}.lock"):
        return MlflowClient(uri)


class CheckedClient:
    """An ``MlflowClient`` that raises rankzero's errors.

    Args:
        uri: the tracking URI.
        has_courier: whether a courier retries. Then MLflow's client retries once instead of six times, which takes
            minutes, unless the user has set another number; and it does not print the run's URL, which may contain a
            password.
    """

    def __init__(self, uri: str, *, has_courier: bool) -> None:
        self._client = connect(uri)
        self._has_courier = has_courier
        if has_courier:
            self._client._tracking_client._log_url = lambda run_id: None

    def __getattr__(self, name: str) -> Any:
        method, retries = getattr(self._client, name), None
        if self._has_courier and name.startswith("create_"):
            retries = 0  # if only the response is lost, the object exists: search for it first
        elif self._has_courier and _RETRIES not in os.environ:
            retries = 1

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with translated(ERRORS, read=read_failure), _checked(retries):
                result = method(*args, **kwargs)
            if self._has_courier and _current.has_silent_upload:
                self._confirm_upload(name, *args)
            return result

        return call

    def _confirm_upload(self, method: str, run_id: str, content: str, artifact_path: str | None = None) -> None:
        """Check that MLflow has what ``log_artifact`` or ``log_text`` has uploaded."""
        path, size = artifact_path or "", 0
        if method != "log_text":
            path, size = posixpath.join(path, os.path.basename(content)), os.stat(content).st_size
        listed = self.list_artifacts(run_id, posixpath.dirname(path) or None)
        sizes = [each.file_size for each in listed if unquote(each.path) == unquote(path)]
        if not sizes or (size and sizes[0] not in (size, None)):
            raise TrackerUnavailableError(f"MLflow does not have {path}, although its upload succeeded")


class _Current(threading.local):
    """The current call of MLflow's client in this thread."""

    is_checked = False
    retries: int | None = None
    """The number of retries of a request; MLflow's own setting if None."""
    status: int | None = None
    """The HTTP status of the last response; None if there was none."""
    has_silent_upload = False
    """Whether the response to an upload was empty, as from some MLflow servers, but also from other servers."""


_current = _Current()


@contextmanager
def _checked(retries: int | None) -> Iterator[None]:
    """Check the responses to requests of this thread, and add the HTTP status to MLflow's errors."""
    from mlflow.exceptions import MlflowException

    _watch_requests()
    vars(_current).update(is_checked=True, retries=retries, status=None, has_silent_upload=False)
    try:
        yield
    except MlflowException as error:
        error.status_code = _current.status
        raise
    finally:
        _current.is_checked = False


@functools.cache
def _watch_requests() -> None:
    """Wrap the function with which MLflow's client sends all requests to a tracking server."""
    from mlflow.utils import rest_utils

    request = rest_utils._get_http_response_with_retries

    @functools.wraps(request)
    def watched(method: str, url: str, retries: int, *args: Any, **kwargs: Any) -> Any:
        if not _current.is_checked:
            return request(method, url, retries, *args, **kwargs)
        _current.status = None
        answer = request(method, url, retries if _current.retries is None else _current.retries, *args, **kwargs)
        _current.status = answer.status_code
        if answer.ok:
            _check(method, urlsplit(url).path, answer)
        return answer

    rest_utils._get_http_response_with_retries = watched


def _check(method: str, path: str, answer: Any) -> None:
    """Raise ValueError, which MLflow's client turns into its own error, for a response that is not from MLflow."""
    is_upload = method.upper() != "GET" and "/mlflow-artifacts/" in path  # artifacts may be on other web servers
    if is_upload and not answer.text:
        _current.has_silent_upload = True
    elif (is_upload or _API.search(path)) and not _is_answer(path, answer.text):
        raise ValueError(f"the answer is not from MLflow (status {answer.status_code}): {answer.text[:200]!r}")


def _is_answer(path: str, text: str) -> bool:
    try:
        fields = json.loads(text)
    except ValueError:
        return False
    if not isinstance(fields, dict) or not fields:
        return isinstance(fields, dict)
    return "run_info" in fields if path.endswith("/runs/update") else not _WITHOUT_FIELDS.search(path)


def client_of_run(tracking_uri: str, run_id: str) -> Any:
    """Return an ``MlflowClient`` whose methods use this run if no run id is passed.

    ``log_metric("loss", 0.5)`` and ``log_metric(run_id, "loss", 0.5)`` are equivalent.
    """
    client = connect(tracking_uri)
    for name, method in inspect.getmembers(client, inspect.ismethod):
        if not name.startswith("_") and next(iter(inspect.signature(method).parameters), None) == "run_id":
            setattr(client, name, _with_run_id(run_id, method))
    return client


def _with_run_id(run_id: str, method: Any) -> Any:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "run_id" in kwargs or (args and isinstance(args[0], str) and _RUN_ID.fullmatch(args[0])):
            return method(*args, **kwargs)
        try:
            signature.bind(run_id, *args, **kwargs)
        except (
            TypeError
        ):  # one argument too many: the first is the run id of another kind of store, or MLflow raises an error
            return method(*args, **kwargs)
        return method(run_id, *args, **kwargs)

    return call

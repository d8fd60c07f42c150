"""Translate Comet's errors and responses for a courier: retry, reject the event, or wait for the user."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import AccessError, DeliveryError, RejectedError, TrackerUnavailableError
from rankzero.loggers import sdk_errors
from rankzero.loggers.sdk_errors import Failure, Rule, translated

_REST = ("comet_ml.CometRestApiException", "requests.HTTPError")
_USER_CODES = (90210, 90212, 90219, 98219, 1341241, 7000011, 7000020, 7000023, 34323)
"""Codes of responses with status 400 that are about the user, workspace or project, not about an event."""
_LOGIN = "; if the key is wrong or was revoked: comet login, or set COMET_API_KEY"
_NOT_JSON = "without JSON"


class UnknownExperimentError(AccessError):
    """Comet has no experiment with this key."""


ERRORS = (
    Rule(UnknownExperimentError, ("comet_ml.ExperimentNotFound",)),
    Rule(AccessError, ("comet_ml.ProjectNameEmpty", "comet_ml.ProjectNameIsTooLong")),
    Rule(AccessError, ("comet_ml.ServiceAccountWorkspaceRestricted", "comet_ml.ViewOnlyAccessException")),
    Rule(AccessError, (*_REST, "comet_ml.InvalidAPIKey"), status=(401,), advice=_LOGIN),
    Rule(
        AccessError, ("comet_ml.InvalidWorkspace",), advice="; set workspace=... or COMET_WORKSPACE to one that exists"
    ),
    Rule(AccessError, _REST, code=_USER_CODES, advice=_LOGIN),
    Rule(TrackerUnavailableError, _REST, status=(403,), advice=_LOGIN),  # a firewall may respond with it, too
    Rule(RejectedError, _REST, status=(413,)),
    Rule(RejectedError, _REST, status=(400, 422), unless=f"{_NOT_JSON}$"),  # not from a proxy
    Rule(TrackerUnavailableError, ("comet_ml.CometException", "requests.RequestException", "OSError")),
)
MISUNDERSTOOD = Rule(TrackerUnavailableError, ("ValueError", "TypeError", "LookupError", "AttributeError"))
"""Errors of Comet's client at a response that is not JSON, or not the expected JSON."""
NO_ENDPOINT = Rule(RejectedError, _REST, status=(403, 404, 405))
"""An older server or a proxy lacks an endpoint for details of a run, for which metrics must not wait."""

_FIELDS = {
    "msg", "code", "sdk_error_code", "assetId", "imageId", "artifactVersionId", "runId", "is_alive_beat_duration_millis"
}  # fmt: skip
"""Comet's response to a write has at least one of these fields, according to its documentation and its client."""
_UNCONFIRMED_TIMEOUT = 600.0
"""Seconds after which responses without these fields count as success: not all responses of Comet are documented."""

log = logging.getLogger("rankzero.courier")
_unconfirmed_since: dict[str, float] = {}
"""Path → monotonic time since which its responses have no known field."""


class UnconfirmedError(TrackerUnavailableError):
    """The response to a write has no known field: it is empty, for example, or comes from a proxy."""

    def __init__(self, response: Any) -> None:
        path = urlsplit(response.url).path
        begin = response.text.lstrip()[:20]
        what = f"a text that begins with {begin!r}" if begin else "nothing"
        super().__init__(f"{path} answered {response.status_code} with {what}, which is not an answer of Comet")
        began = _unconfirmed_since.setdefault(path, time.monotonic())
        self.is_lasting = time.monotonic() - began > _UNCONFIRMED_TIMEOUT
        """Whether this has gone on for so long, while Comet responds to other requests, that it may mean success."""


def check_answer(response: Any, **_: object) -> None:
    """Check that a response to a write is from Comet, whose client accepts any response.

    Raises:
        TrackerUnavailableError: it is a page, for example a login page, or a redirect that loses the data.
        UnconfirmedError: it has no known field.
    """
    if response.request.method == "GET" or response.status_code >= 400:
        return
    is_page = "html" in response.headers.get("Content-Type", "") or response.content.lstrip()[:1] == b"<"
    if is_page or response.status_code in (301, 302, 303):
        response.close()
        what = "a page" if is_page else f"a redirect to {response.headers.get('Location')}"
        raise TrackerUnavailableError(f"{response.url} answered with {what}, which is not an answer of Comet")
    if response.status_code != 204 and not _FIELDS & _json(response).keys():
        raise UnconfirmedError(response)
    _unconfirmed_since.pop(urlsplit(response.url).path, None)


def read_failure(error: BaseException) -> Failure:
    """Return the text, status and code of an error of Comet's client or of HTTP."""
    match type(error).__name__:
        case "InvalidAPIKey":
            error.args = ()  # its text contains the key, which a traceback would show
            return Failure("Comet refuses the API key", 401)
        case "InvalidWorkspace":  # its text is only the name
            return Failure(f"the API key's owner has no workspace {str(error)!r}")
    response = getattr(error, "response", None)
    if response is None:
        return sdk_errors.read_failure(error)
    answer = _json(response)
    text = " ".join(str(answer.get("msg") or "").split())[:300]
    shown = f" ({text})" if text else "" if answer else f" {_NOT_JSON}"
    return Failure(f"Comet answered {response.status_code}{shown}", response.status_code, answer.get("sdk_error_code"))


@contextmanager
def opening() -> Iterator[None]:
    """Translate the errors of opening an experiment, which are never caused by an event."""
    try:
        with reading("the experiment cannot be opened in Comet"):
            yield
    except UnconfirmedError:
        raise
    except DeliveryError as error:
        _unconfirmed_since.clear()  # Comet does not respond now
        if isinstance(error, RejectedError):
            raise AccessError(str(error)) from error
        raise


def reading(what: str) -> AbstractContextManager[None]:
    """Translate the errors of a request that reads; an unexpected response is not from Comet."""
    return translated((*ERRORS, MISUNDERSTOOD), what, read=read_failure)


def sending(what: str, *rules: Rule) -> AbstractContextManager[None]:
    """Translate the errors of a request that writes; ``rules`` take precedence over `ERRORS`."""
    return translated((*rules, *ERRORS), what, read=read_failure, is_event=True)


@contextmanager
def writing(what: str, *rules: Rule, is_stored: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Translate the errors of a request that writes.

    After an unknown response ``is_stored`` tells whether Comet has the data. If it cannot tell, the response counts as
    success in the end, because all later events would wait forever.
    """
    try:
        with sending(what, *rules):
            yield
    except UnconfirmedError as error:
        if is_stored():
            return
        if not error.is_lasting:
            raise
        log.warning("%s; it is treated as success", error)


def _json(response: Any) -> dict[str, Any]:
    """Return the JSON object of a response; an empty one if it has none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}

"""What errors and answers of Comet mean for a courier: retry, reject the event, or wait for a person."""

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
"""Codes that Comet sends with 400 because of the user or of where the run is to be: no event is the cause."""
_LOGIN = "; if the key is wrong or was revoked: comet login, or set COMET_API_KEY"
_NOT_JSON = "without JSON"


class UnknownExperimentError(AccessError):
    """Comet has no experiment of this key."""


ERRORS = (
    Rule(UnknownExperimentError, ("comet_ml.ExperimentNotFound",)),
    Rule(AccessError, ("comet_ml.ProjectNameEmpty", "comet_ml.ProjectNameIsTooLong")),
    Rule(AccessError, ("comet_ml.ServiceAccountWorkspaceRestricted", "comet_ml.ViewOnlyAccessException")),
    Rule(AccessError, (*_REST, "comet_ml.InvalidAPIKey"), status=(401,), advice=_LOGIN),
    Rule(
        AccessError, ("comet_ml.InvalidWorkspace",), advice="; set workspace=... or COMET_WORKSPACE to one that exists"
    ),
    Rule(AccessError, _REST, code=_USER_CODES, advice=_LOGIN),
    Rule(TrackerUnavailableError, _REST, status=(403,), advice=_LOGIN),  # a firewall answers it, too
    Rule(RejectedError, _REST, status=(413,)),
    Rule(RejectedError, _REST, status=(400, 422), unless=f"{_NOT_JSON}$"),  # not if a proxy says so
    Rule(TrackerUnavailableError, ("comet_ml.CometException", "requests.RequestException", "OSError")),
)
MISUNDERSTOOD = Rule(TrackerUnavailableError, ("ValueError", "TypeError", "LookupError", "AttributeError"))
"""What Comet's client raises at an answer that is not JSON, or not the JSON that it knows."""
NO_ENDPOINT = Rule(RejectedError, _REST, status=(403, 404, 405))
"""An older server, or a proxy, does not take something that is not worth the values that wait."""

_FIELDS = {
    "msg", "code", "sdk_error_code", "assetId", "imageId", "artifactVersionId", "runId", "is_alive_beat_duration_millis"
}  # fmt: skip
"""Comet's answer to a write has at least one of these, as its documentation and its client say."""
_LONGEST_ODD = 600.0
"""Seconds after which an answer without them counts as a yes: Comet's answers to its own client are not documented."""

log = logging.getLogger("rankzero.courier")
_odd_since: dict[str, float] = {}
"""The paths whose last answer was not Comet's, and the monotonic time at which that began."""


class UnconfirmedError(TrackerUnavailableError):
    """The answer to a write is not one that Comet is known to give: an empty one, for example of a proxy."""

    def __init__(self, response: Any) -> None:
        path = urlsplit(response.url).path
        begin = response.text.lstrip()[:20]
        what = f"a text that begins with {begin!r}" if begin else "nothing"
        super().__init__(f"{path} answered {response.status_code} with {what}, which is not an answer of Comet")
        began = _odd_since.setdefault(path, time.monotonic())
        self.is_lasting = time.monotonic() - began > _LONGEST_ODD
        """Whether Comet, which answers other requests, has answered this way for so long that it may mean a yes."""


def check_answer(response: Any, **_: object) -> None:
    """Raise if an answer to a write is not Comet's: its client takes any for a yes.

    Raises:
        TrackerUnavailableError: it is a page, for example to sign in, or a redirect that loses what was sent.
        UnconfirmedError: it is something else that Comet is not known to answer.
    """
    if response.request.method == "GET" or response.status_code >= 400:
        return
    is_page = "html" in response.headers.get("Content-Type", "") or response.content.lstrip()[:1] == b"<"
    if is_page or response.status_code in (301, 302, 303):
        response.close()
        what = "a page" if is_page else f"a redirect to {response.headers.get('Location')}"
        raise TrackerUnavailableError(f"{response.url} answered with {what}, which Comet does not")
    if response.status_code != 204 and not _FIELDS & _json(response).keys():
        raise UnconfirmedError(response)
    _odd_since.pop(urlsplit(response.url).path, None)


def read_failure(error: BaseException) -> Failure:
    """Return what an error of Comet's client or of HTTP says."""
    match type(error).__name__:
        case "InvalidAPIKey":
            error.args = ()  # its text has the key, and a traceback shows it
            return Failure("Comet refuses the API key", 401)
        case "InvalidWorkspace":  # its text is the name
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
    """Translate the errors of opening an experiment: no event is the cause of any."""
    try:
        with reading("the experiment cannot be opened in Comet"):
            yield
    except UnconfirmedError:
        raise
    except DeliveryError as error:
        _odd_since.clear()  # it is not Comet that answers now
        if isinstance(error, RejectedError):
            raise AccessError(str(error)) from error
        raise


def reading(what: str) -> AbstractContextManager[None]:
    """Translate the errors of a request that reads: an answer that is not understood is not Comet's."""
    return translated((*ERRORS, MISUNDERSTOOD), what, read=read_failure)


def sending(what: str, *rules: Rule) -> AbstractContextManager[None]:
    """Translate the errors of a request that writes; ``rules`` count before `ERRORS`."""
    return translated((*rules, *ERRORS), what, read=read_failure, is_event=True)


@contextmanager
def writing(what: str, *rules: Rule, is_held: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Translate the errors of a request that writes, whose effect ``is_held`` reads back, if anything can.

    An answer that is not Comet's counts as a yes in the end: what follows would wait for ever.
    """
    try:
        with sending(what, *rules):
            yield
    except UnconfirmedError as error:
        if is_held():
            return
        if not error.is_lasting:
            raise
        log.warning("%s; it is taken for a yes", error)


def _json(response: Any) -> dict[str, Any]:
    """Return an answer's JSON object; an empty one if it has none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}

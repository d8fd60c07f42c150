"""What an error of Comet means for a courier: try again, or give this event up."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import AccessError, DeliveryError, RejectedError, TrackerUnavailableError

_WRONG = (400, 422)  # if Comet says so, and not something before it
_TOO_MUCH = (413,)
_OF_FILES = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_NO_CONTENT = 204
_WITHOUT_BODY = (301, 302, 303)
_OF_THE_USER = frozenset([90210, 90212, 90219, 98219, 1341241, 7000011, 7000020, 7000023, 34323])
"""Codes that Comet sends with 400 for who the user is, or where the run is to be: no event is to blame."""
_LOGIN = "; if the key is wrong or was revoked: comet login, or set COMET_API_KEY"
_LONGEST = 300
_FIELDS = frozenset(
    [
        "msg",
        "code",
        "sdk_error_code",
        "assetId",
        "imageId",
        "artifactVersionId",
        "runId",
        "is_alive_beat_duration_millis",
    ]
)
"""Of these Comet's answer to what it has taken has one at least, as its documentation and its client have it."""
_LASTING = 600.0
"""Seconds after which an answer without them counts as a yes: Comet's answers to its own client are not documented."""
STRANGE_ANSWERS = (ValueError, TypeError, LookupError, AttributeError)
"""What Comet's client raises at an answer that is no JSON, or not the JSON that it knows."""

log = logging.getLogger("rankzero.courier")
_strange_since: dict[str, float] = {}
"""The paths whose last answer was none of Comet's, and the monotonic time at which that began."""


class UnconfirmedError(TrackerUnavailableError):
    """The answer to what was sent is not one that Comet is known to give: an empty one, say, of a proxy.

    Args:
        response: the answer.
    """

    def __init__(self, response: Any) -> None:
        path = urlsplit(response.url).path
        begin = response.text.lstrip()[:20]
        what = f"what begins with {begin!r}" if begin else "nothing"
        super().__init__(f"{path} answered {response.status_code} with {what}, which is no answer of Comet's")
        since = _strange_since.setdefault(path, time.monotonic())
        self.is_lasting = time.monotonic() - since > _LASTING
        """Whether it has been so for so long that Comet, which answers other requests, may mean a yes."""


@contextmanager
def translated(what: str, *errors: type[Exception], never: Collection[int] = ()) -> Iterator[None]:
    """Raise `DeliveryError` for an error of Comet's client or of HTTP.

    Args:
        what: what was tried.
        *errors: what else the client raises when the server does not say yes.
        never: further statuses which say that Comet takes this never.

    Raises:
        RejectedError: Comet refuses what it was given, whenever it is asked.
        AccessError: it refuses the user, or does not have the workspace, project or experiment.
        TrackerUnavailableError: anything else.
    """
    import requests
    from comet_ml.exceptions import (
        CometException,
        CometRestApiException,
        ExperimentNotFound,
        InvalidAPIKey,
        InvalidWorkspace,
        ProjectNameEmpty,
        ProjectNameIsTooLong,
        ServiceAccountWorkspaceRestricted,
        ViewOnlyAccessException,
    )

    of_the_user = (
        ExperimentNotFound,
        ProjectNameEmpty,
        ProjectNameIsTooLong,
        ServiceAccountWorkspaceRestricted,
        ViewOnlyAccessException,
    )

    try:
        yield
    except (DeliveryError, *_OF_FILES):  # the courier knows what a missing file means
        raise
    except InvalidAPIKey:  # its text holds the key
        raise AccessError(f"{what}: Comet refuses the API key{_LOGIN}") from None
    except InvalidWorkspace as error:  # its text is the name
        advice = "set workspace=... or COMET_WORKSPACE to one that is there"
        raise AccessError(f"{what}: the API key's owner has no workspace {str(error)!r}; {advice}") from error
    except of_the_user as error:
        raise AccessError(f"{what}: {_described(error)}") from error
    except CometRestApiException as error:
        raise refused(what, error.response, never) from error
    except (CometException, requests.RequestException, OSError, *errors) as error:
        raise TrackerUnavailableError(f"{what}: {_described(error)}") from error


@contextmanager
def taken(what: str, *errors: type[Exception], never: Collection[int] = ()) -> Iterator[None]:
    """Raise as `translated` does, for one request whose effect cannot be read back.

    An answer that is none of Comet's counts as a yes in the end: what follows would wait for ever.
    """
    try:
        with translated(what, *errors, never=never):
            yield
    except UnconfirmedError as error:
        if not error.is_lasting:
            raise
        log.warning("%s; it is taken for a yes", error)


def refused(what: str, response: Any, never: Collection[int] = ()) -> DeliveryError:
    """Return the error to raise for an answer that is no yes; for these statuses it says that none will come."""
    said = _words(response)
    text = " ".join(str(said.get("msg") or "").split())[:_LONGEST]
    reason = f"{what}: Comet answered {response.status_code}" + (f" ({text})" if text else "")
    if response.status_code in never:
        return RejectedError(reason)
    if response.status_code == 401 or said.get("sdk_error_code") in _OF_THE_USER:
        return AccessError(reason + _LOGIN)
    if response.status_code == 403:  # a firewall answers it, too
        return TrackerUnavailableError(reason + _LOGIN)
    if response.status_code in _TOO_MUCH or (response.status_code in _WRONG and said):
        return RejectedError(reason)
    return TrackerUnavailableError(reason)


def check_answer(response: Any, **_: object) -> None:
    """Raise if an answer to what was sent is not Comet's, which its client takes for a yes.

    Raises:
        TrackerUnavailableError: it is a page, say one to sign in, or leads to where what was sent does not go along.
        UnconfirmedError: it is something else that Comet is not known to answer.
    """
    if response.request.method == "GET" or response.status_code >= 400:
        return
    page = "html" in response.headers.get("Content-Type", "") or response.content.lstrip()[:1] == b"<"
    if page or response.status_code in _WITHOUT_BODY:
        response.close()
        what = "a page" if page else f"a redirect to {response.headers.get('Location')}"
        raise TrackerUnavailableError(f"{response.url} answered with {what}, which Comet does not")
    if response.status_code != _NO_CONTENT and not _FIELDS & _words(response).keys():
        raise UnconfirmedError(response)
    _strange_since.pop(urlsplit(response.url).path, None)


@contextmanager
def opening() -> Iterator[None]:
    """Raise `TrackerUnavailableError` for whatever hinders an experiment from being opened: no event is to blame."""
    try:
        with translated("the experiment cannot be opened in Comet", *STRANGE_ANSWERS):
            yield
    except RejectedError as error:
        raise TrackerUnavailableError(str(error)) from error
    except UnconfirmedError:
        raise
    except DeliveryError:
        _strange_since.clear()  # it is not Comet that answers now
        raise


def is_unknown(error: DeliveryError) -> bool:
    """Return whether an experiment could not be opened because Comet does not know it."""
    from comet_ml.exceptions import ExperimentNotFound

    return isinstance(error.__cause__, ExperimentNotFound)


def _described(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def _words(response: Any) -> dict[str, Any]:
    """Return what Comet says in an answer; nothing if it is not Comet's."""
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}

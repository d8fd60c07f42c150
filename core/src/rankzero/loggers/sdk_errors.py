"""Translate the errors of an SDK for a courier, by a table: retry, reject the event, or wait for a person.

.. code-block:: python

    errors = (
        Rule(AccessError, status=(401, 403), advice="; run `acme login`, or set ACME_API_KEY"),
        Rule(RejectedError, error=("acme.InvalidValue",)),
        Rule(PossiblyRejectedError, status=(400, 422)),
        Rule(TrackerUnavailableError, error=("acme.AcmeError", "OSError")),
    )
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from rankzero.errors import DeliveryError
from rankzero.secrets import mask_urls

_LONGEST = 2000  # characters of a message: some responses are a whole page, and the cause is at the end of others


class Failure(NamedTuple):
    """The details of an exception."""

    text: str
    status: int | None = None
    """The HTTP status."""
    code: Any = None
    """The tracker's own error code."""


class Rule(msgspec.Struct, frozen=True):
    """The exception to raise for errors that match all fields of the rule."""

    kind: type[DeliveryError]
    """The exception to raise instead."""
    error: tuple[str, ...] = ()
    """Classes, including their subclasses: ``PACKAGE.Class`` with the top-level package, ``Class`` if built in."""
    status: tuple[int, ...] = ()
    """HTTP statuses."""
    code: tuple[Any, ...] = ()
    """The tracker's own error codes."""
    text: str = ""
    """A regular expression that the message must contain, ignoring case."""
    unless: str = ""
    """A regular expression that the message must not contain."""
    advice: str = ""
    """A text to append to the message."""

    def fits(self, error: BaseException, failure: Failure) -> bool:
        """Return whether the rule matches an exception."""
        return (
            (not self.error or not _names(error).isdisjoint(self.error))
            and (not self.status or failure.status in self.status)
            and (not self.code or failure.code in self.code)
            and (not self.text or _is_found(self.text, failure.text))
            and not (self.unless and _is_found(self.unless, failure.text))
        )


def read_failure(error: BaseException) -> Failure:
    """Return the details of an exception: its text in one line without passwords in URLs, its status and its code."""
    response = getattr(error, "response", None)
    text = " ".join(mask_urls(str(error)).split())[:_LONGEST] or type(error).__name__
    statuses = (
        getattr(error, "status_code", None),
        getattr(error, "status", None),
        getattr(response, "status_code", None),
        getattr(error, "code", None),
    )
    status = next((each for each in statuses if isinstance(each, int)), None)
    return Failure(text, status, getattr(error, "error_code", None))


@contextmanager
def translated(
    rules: Iterable[Rule],
    what: str = "",
    *,
    read: Callable[[BaseException], Failure] = read_failure,
    is_event: bool = False,
) -> Iterator[None]:
    """Translate an exception by the first rule that matches; raise others, and each `DeliveryError`, unchanged.

    Args:
        rules: the table.
        what: what failed, for the message.
        read: returns the details of an exception.
        is_event: whether an event is being written. Then built-in errors about files, disks and connections are also
            raised unchanged, because the courier decides whether the event may have caused them.
    """
    try:
        yield
    except DeliveryError:
        raise
    except Exception as error:
        if is_event and isinstance(error, OSError) and type(error).__module__ == "builtins":
            raise
        meaning = _meaning(error, rules, what, read)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(
    error: Exception, rules: Iterable[Rule], what: str, read: Callable[[BaseException], Failure]
) -> DeliveryError | None:
    failure = read(error)
    for rule in rules:
        if rule.fits(error, failure):
            return rule.kind(": ".join(filter(None, [what, failure.text])) + rule.advice)
    return None


def _names(error: BaseException) -> set[str]:
    return {
        each.__qualname__
        if each.__module__ == "builtins"
        else f"{each.__module__.partition('.')[0]}.{each.__qualname__}"
        for each in type(error).__mro__
    }


def _is_found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None

"""What the errors of an SDK mean for a courier, declared as a table: try again, reject the event, or wait for a person.

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

_LONGEST = 400  # characters of a message: some answers are a page


class Failure(NamedTuple):
    """What an exception says."""

    text: str
    status: int | None = None
    """The HTTP status."""
    code: Any = None
    """The code of the tracker's own."""


class Rule(msgspec.Struct, frozen=True):
    """What an exception means if all that the rule names fits it."""

    kind: type[DeliveryError]
    """The exception to raise instead."""
    error: tuple[str, ...] = ()
    """Classes, base classes included, as ``PACKAGE.Class`` with the name of the top package; built-in ones as such."""
    status: tuple[int, ...] = ()
    """HTTP statuses."""
    code: tuple[Any, ...] = ()
    """Codes of the tracker's own."""
    text: str = ""
    """A regular expression that is found in the message, in any case of letters."""
    unless: str = ""
    """One that is not."""
    advice: str = ""
    """What to add to the message."""

    def fits(self, error: BaseException, failure: Failure) -> bool:
        """Return whether this rule is for an exception."""
        return (
            (not self.error or not _names(error).isdisjoint(self.error))
            and (not self.status or failure.status in self.status)
            and (not self.code or failure.code in self.code)
            and (not self.text or _is_found(self.text, failure.text))
            and not (self.unless and _is_found(self.unless, failure.text))
        )


def read_failure(error: BaseException) -> Failure:
    """Return what an exception says: its text in one line, and a status and code where most SDKs have them."""
    response = getattr(error, "response", None)
    text = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
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
    """Raise what the first rule that fits an exception says; others, and each `DeliveryError`, go on as they are.

    Args:
        rules: the table.
        what: what was tried, for the message.
        read: returns what an exception says.
        is_event: an event is being written: then Python's own errors about files, disks and connections go on as they
            are, too, for the courier knows which of them may be the event's fault.
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

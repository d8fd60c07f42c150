"""The table of an SDK's errors: the first matching rule decides the meaning of an exception."""

import pytest

from rankzero.errors import AccessError, PossiblyRejectedError, RejectedError, TrackerUnavailableError
from rankzero.loggers.sdk_errors import Failure, Rule, read_failure, translated
from rankzero.messages import reason


class SdkError(Exception):
    status = None
    error_code = None

    def __init__(self, text="", **attributes):
        super().__init__(text)
        self.__dict__.update(attributes)


class TooLargeError(SdkError):
    pass


OWN = f"{__name__.partition('.')[0]}.{SdkError.__qualname__}"
RULES = (
    Rule(AccessError, status=(401,), advice="; log in"),
    Rule(RejectedError, error=(OWN.replace("SdkError", "TooLargeError"),)),
    Rule(RejectedError, code=("INVALID",)),
    Rule(PossiblyRejectedError, status=(400, 422), unless="locked|busy"),
    Rule(AccessError, error=(OWN,), text="no such project"),
    Rule(TrackerUnavailableError, error=(OWN, "OSError")),
)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (SdkError("who?", status=401), AccessError, "sending: who?; log in"),
        (TooLargeError("12 MB"), RejectedError, "sending: 12 MB"),
        (SdkError("x", error_code="INVALID", status=400), RejectedError, "sending: x"),
        (SdkError("x", status=422), PossiblyRejectedError, "sending: x"),
        (SdkError("database is LOCKED", status=400), TrackerUnavailableError, "sending: database is LOCKED"),
        (SdkError("No such\n project"), AccessError, "sending: No such project"),
        (SdkError(), TrackerUnavailableError, "sending: SdkError"),
        (ConnectionResetError("gone"), TrackerUnavailableError, "sending: gone"),
    ],
)
def test_the_first_rule_that_fits_counts(error, kind, message):
    with pytest.raises(kind) as caught, translated(RULES, "sending"):
        raise error
    assert type(caught.value) is kind
    assert str(caught.value) == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [TypeError("a list"), RejectedError("known"), KeyboardInterrupt()])
def test_errors_without_a_rule_and_delivery_errors_are_raised_unchanged(error):
    with pytest.raises(type(error)) as caught, translated(RULES, "sending"):
        raise error
    assert caught.value is error


def test_pythons_errors_are_unchanged_while_an_event_is_written():
    """The courier knows that a file which cannot be read is the event's fault, and a full disk is not."""
    with pytest.raises(PermissionError), translated(RULES, is_event=True):
        raise PermissionError("picture.png")
    with pytest.raises(TrackerUnavailableError), translated(RULES, is_event=True):
        raise SdkError("down")


def test_a_failure_is_read_where_sdks_say_it():
    class Response:
        status_code = 503

    assert read_failure(SdkError("x", response=Response())) == Failure("x", 503)
    assert read_failure(SdkError("x", status_code=404, error_code="GONE")) == Failure("x", 404, "GONE")
    assert read_failure(SdkError("x", code=500)) == Failure("x", 500)
    assert read_failure(ValueError("a\n  b " * 300)).text.startswith("a b a b")
    with pytest.raises(AccessError), translated(RULES, read=lambda error: Failure("x", 401)):
        raise SdkError


def test_the_cause_at_the_end_of_a_long_message_is_kept():
    pool = "HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url:"
    error = SdkError(
        f"the request failed with {pool} /get?{'run_id=0&' * 50} (Caused by [Errno 111] Connection refused)"
    )
    assert reason(read_failure(error).text).endswith("cannot reach 127.0.0.1:9: connection refused")

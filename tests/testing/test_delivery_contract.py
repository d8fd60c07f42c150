"""`DeliveryContract` passes for a correct logger, and fails for each kind of broken logger."""

import pytest
from servers.http_tracker import URL, HttpLogger, HttpTracker
from servers.training import TESTS
from testing.broken_loggers import failures

from rankzero.testing import ALL, DeliveryContract
from rankzero.testing.faults import status
from rankzero.testing.samples import KINDS


class TestHttpLogger(DeliveryContract):
    capabilities = ALL - set(KINDS) - {"acknowledges"} | {"artifact"}
    refusal = status(422)
    rows = "POST /events"
    uploads = "PUT /files"
    logger = HttpLogger

    @pytest.fixture(autouse=True)
    def _tracker(self):
        with HttpTracker() as self.tracker:
            yield

    def server_url(self):
        return self.tracker.url

    def connect(self, url, monkeypatch):
        monkeypatch.setenv(URL, url)

    def make_logger(self, tmp_path):
        return self.logger()

    def read_back(self, logger):
        return self.tracker.tracked(logger.run_info.id)


BROKEN_LOGGERS = """
import uuid
from contextlib import suppress

from rankzero.errors import RejectedError
from servers.http_tracker import HttpLogger
from testing.test_delivery_contract import TestHttpLogger as Contract


class Swallowing(HttpLogger):
    def _send(self, *request):
        with suppress(Exception):
            super()._send(*request)


class Believing(HttpLogger):
    def _check(self, status, body):
        if status != 200:
            super()._check(status, body)


class Blaming(HttpLogger):
    def _check(self, status, body):
        if status >= 500:
            raise RejectedError("no")
        super()._check(status, body)


class Doubling(HttpLogger):
    def _id(self, kind, name):
        return uuid.uuid4().hex


class Dropping(HttpLogger):
    def flush(self):
        with suppress(RejectedError):
            super().flush()


class Forgetting(HttpLogger):
    def finalize(self, status):
        self._events.clear()


class TestSwallowsErrors(Contract):
    logger = Swallowing


class TestBelievesEveryAnswer(Contract):
    logger = Believing


class TestBlamesTheEvent(Contract):
    logger = Blaming


class TestSendsTwice(Contract):
    logger = Doubling


class TestDropsWhatIsRefusedTogether(Contract):
    logger = Dropping


class TestForgetsTheEnd(Contract):
    logger = Forgetting
"""

FAILURES = {
    "TestSwallowsErrors::test_a_fault_at_first_and_later_loses_nothing[500]": "counts as delivered",
    "TestBelievesEveryAnswer::test_a_fault_at_first_and_later_loses_nothing[empty 200]": "counts as delivered",
    "TestBelievesEveryAnswer::test_each_request_may_fail_once[page with 200]": "are missing",
    "TestBlamesTheEvent::test_a_fault_at_first_and_later_loses_nothing[503]": "the tracker does not have",
    "TestSendsTwice::test_each_request_may_fail_once[lost answer]": "are twice",
    "TestSendsTwice::test_a_courier_that_is_killed_again_and_again": "are twice",
    "TestDropsWhatIsRefusedTogether::test_only_the_invalid_row_is_rejected": "missing",
    "TestForgetsTheEnd::test_a_fault_at_the_end_does_not_delay_the_exit_and_loses_nothing[503]": "came back as None",
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    return failures(tmp_path_factory.mktemp("broken"), BROKEN_LOGGERS, FAILURES, "-o", f"pythonpath={TESTS}")


@pytest.mark.parametrize("test", FAILURES)
def test_contract_fails_for_a_broken_logger(failed, test):
    assert FAILURES[test] in failed[test]

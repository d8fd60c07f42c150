"""The courier continues at the tracker's watermark, and never loops."""

import pytest
from recorded import write

from rankzero.delivery.courier import Courier
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Metrics, Start
from rankzero.testing import MemoryLogger

RUN = RunInfo("a" * 32, "happy-run", "project", "")
pytestmark = pytest.mark.timeout(20)  # a courier that loops never ends


@pytest.fixture
def calls():
    return []


@pytest.fixture
def deliver(tmp_path, calls):
    def deliver(*events, watermark=lambda: None):
        write(tmp_path, *events)

        class Counting(MemoryLogger):
            def watermark(self):
                return watermark()

        Courier(tmp_path, "memory", lambda: Counting(calls), follow=False, grace_period=0, dead_after=0).run()
        return [call.arguments["step"] for call in calls if call.verb == "log_metrics"]

    return deliver


def metrics(*steps):
    return [Metrics(1.0, step, {"loss": 0.5}) for step in steps]


def test_tracker_that_has_more_than_was_acknowledged(deliver):
    assert deliver(Start(1.0, RUN), *metrics(0, 1, 2), watermark=lambda: 3) == [2]


def test_tracker_that_lost_acknowledged_events(deliver):
    deliver(Start(1.0, RUN), *metrics(0, 1, 2))
    assert deliver(*metrics(3), watermark=lambda: 2) == [0, 1, 2, 1, 2, 3]


def test_tracker_that_counts_no_endings(deliver):
    """Its watermark is the end of the first part, because it does not get the Finish."""
    deliver(Start(1.0, RUN), *metrics(0), Finish(2.0, "success"), watermark=lambda: 0)
    assert deliver(Start(3.0, RUN, resumed=True), *metrics(1), watermark=lambda: 2) == [0, 1]


def test_damaged_line_at_the_end_of_a_run_whose_process_died(deliver, calls):
    assert deliver(Start(1.0, RUN), *metrics(0), b"{damaged\n") == [0]
    assert [call.arguments for call in calls if call.verb == "finalize"] == [{"status": "crashed"}]

"""Ranks without a launcher: processes of torch.multiprocessing, whose rank is in no environment variable."""

import pytest

from rankzero.events.structs import Params, Start, Text

pytestmark = pytest.mark.slow


def test_run_started_in_each_worker(job):
    job.python("spawn.py", "start in worker")

    (run,) = job.runs
    zero, one = job.reports()
    assert job.steps(run) == list(range(20))
    assert zero["couriers"] == 1
    assert one["known"] == zero["known"]
    assert zero["known"][0] == run.name
    assert one["loaded"] == []


def test_run_handed_to_each_worker(job):
    job.python("spawn.py", "take copy")

    (run,) = job.runs
    reports = job.reports()
    assert job.steps(run) == [100, *range(20)]
    assert [event.values for event in job.events(run, Params)] == [{"rank 0": True}]
    assert [event.key for event in job.events(run, Text)] == ["rank 0"]
    assert len(job.events(run, Start)) == 1
    assert "rank zero" not in job.output
    assert {report["known"][0] for report in reports} == {run.name}
    assert reports[0]["couriers"] == 1
    assert job.ends(run) == ["success"]


def test_rank_that_is_learned_late(job):
    job.python("spawn.py", "learn late")

    assert len(job.runs) == 2
    zero, one = job.reports()
    kept, begun = sorted(job.runs, key=lambda run: run.name != zero["mine"])
    assert job.steps(kept) == list(range(zero["last"] + 1))
    assert job.ends(kept) == ["success"]
    assert begun.name == one["mine"]
    assert job.ends(begun) == ["aborted"]
    assert job.steps(begun)[-1] < one["last"] / 2
    assert [type(event).__name__ for event in job.events(begun)][-1] == "Finish"
    assert zero["said"] == []
    assert len([text for text in one["said"] if "not to be rank zero" in text]) == 1
    assert one["experiment"] == "DummyExperiment"
    assert one["known"] == zero["known"]

"""Only rank zero logs: real torchrun, four ranks."""

import json

import pytest

from rankzero.events import Params, Start

RANKS = range(4)


@pytest.mark.parametrize("order", ["rank zero first", "rank zero last"])
def test_training(job, order):
    output = job.torchrun("train.py", order)

    (run,) = job.runs
    reports = job.reports()
    assert [report["rank"] for report in reports] == [0, 1, 2, 3]
    assert job.steps(run) == [*range(20), 20]
    assert job.ends(run) == ["success"]
    assert [event.pid for event in job.events(run, Start)] == [reports[0]["pid"]]
    assert len(job.events(run, Params)) == 1
    assert len((run / "metrics.csv").read_text().splitlines()) == 22
    told = {path for path in job.directory.iterdir() if path.suffix in (".json", ".txt")}
    assert set(job.directory.iterdir()) - told == {job.directory / "runs"}
    assert "Warning" not in output.replace("FutureWarning", "")


def test_ranks_agree_on_the_run_whenever_they_ask(job):
    job.torchrun("train.py", "rank zero first")

    (run,) = job.runs
    name = job.events(run, Start)[0].run.name
    answers = [report[when] for report in job.reports() for when in ("before", "after")]
    assert [answer for answer in answers if answer] == [[run.name, name, str(run)]] * 5


def test_other_ranks_do_nothing(job):
    job.torchrun("train.py", "rank zero first")

    zero, *others = job.reports()
    assert zero["couriers"] == 1
    assert zero["loaded"]
    for report in others:
        assert report["loaded"] == []
        assert report["experiment"] == "DummyExperiment"
        assert report["returned"] == [None] * 4


@pytest.mark.parametrize(("trouble", "last_step"), [("rank 0 raises", 5), ("rank 2 dies", 5)])
def test_failing_rank_ends_the_job_and_the_run(job, trouble, last_step):
    output = job.torchrun("trouble.py", trouble, status=1)

    (run,) = job.runs
    assert job.steps(run)[:last_step] == list(range(last_step))
    assert job.steps(run)[-1] <= last_step
    assert job.ends(run) in (["failed"], ["aborted"])
    if trouble == "rank 0 raises":
        assert job.ends(run) == ["failed"]
        assert "the loss is a pineapple" in output


def test_no_rank_waits_for_a_hanging_tracker(job):
    output = job.torchrun("trouble.py", "the tracker hangs")

    (run,) = job.runs
    zero, *others = job.reports()
    assert job.steps(run) == list(range(20))
    assert all(report["logging"] < 0.2 for report in (zero, *others))
    assert 1.9 < zero["finishing"] < 4.0  # finish() waits for as long as the script said
    assert all(report["finishing"] < 0.1 for report in others)
    assert "goes on in the background" in output


def test_two_runs_pair_up(job):
    job.torchrun("two_runs.py", ranks=3)

    first, second = job.runs
    for report in job.reports():
        assert report["first"] == [first.name, "first", str(first)]
        assert report["second"] == [second.name, "second", str(second)]
    for run in (first, second):
        assert json.loads((run / "csv.position.json").read_text())["closed"]


def test_disabled_run_keeps_nobody_waiting(job):
    job.environment["RANKZERO_DISABLED"] = "1"
    job.torchrun("two_runs.py", ranks=2)

    assert job.runs == []
    zero, one = job.reports()
    assert one["asking"] < 5
    assert one["first"] == zero["first"]

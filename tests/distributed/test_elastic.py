"""Runs of ranks that torchrun restarts after a failure."""

import socket

import pytest

from rankzero.events.structs import Start

pytestmark = pytest.mark.slow


def attempts(job, ranks):
    known = [report["known"] for report in job.reports()]
    return known[:ranks], known[ranks:]


def fail_once(job, shared):
    """Run a job whose first attempt fails, and return its runs."""
    job.torchrun("elastic.py", shared, ranks=2, options=["--standalone", "--max-restarts=1"])
    return job.runs


@pytest.mark.parametrize("shared", ["process group", "torchrun's store"])
def test_second_attempt_is_a_new_run(job, shared):
    # gloo finds what the first attempt left in a store that is shared by both
    job.environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1" if shared == "process group" else "0"
    failed, good = fail_once(job, shared)

    first, second = attempts(job, 2)
    assert [run_id for run_id, *_ in first] == [failed.name] * 2
    assert [run_id for run_id, *_ in second] == [good.name] * 2
    assert job.ends(failed) in (["failed"], ["aborted"])
    assert job.ends(good) == ["success"]
    assert job.steps(good) == list(range(20))


def test_second_attempt_resumes_a_named_run(job):
    job.environment["RANKZERO_RUN_ID"] = "the-one"
    (run,) = fail_once(job, "torchrun's store")

    assert run.name == "the-one"
    assert job.reports()[0]["known"][1] == "given once"
    reports = job.reports()
    assert {tuple(report["known"]) for report in reports} == {tuple(reports[0]["known"])}
    assert [event.resumed for event in job.events(run, Start)] == [False, True]
    again = next(report for report in reports if report["attempt"])
    assert again["resumed"]
    assert again["first"] >= 5
    assert job.ends(run)[-1] == "success"


def test_one_of_two_nodes_fails(job):
    """Only the agent of the node that failed counts the restart, so the count says nothing to the others."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    rendezvous = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=job"]
    launcher = [*job.TORCHRUN, *rendezvous, "--max-restarts=2", "--nproc-per-node=2", "--monitor-interval=0.1"]
    job.wait(*(job.start(launcher, "elastic.py", "torchrun's store") for node in range(2)))

    _, good = job.runs
    _, second = attempts(job, 4)
    assert [run_id for run_id, *_ in second] == [good.name] * 4
    assert job.ends(good) == ["success"]

"""The end of a run that the script does not end: at exit, after an exception, after a signal."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest
from servers.file_logger import calls, fail, rows
from servers.training import TESTS, Training
from waiting import SOON, until

from rankzero.reader.run_data import read_run


@pytest.fixture
def training(tmp_path):
    training = Training(tmp_path)
    yield training
    training.kill()


def finalized(training):
    return [call["status"] for call in calls(training.tracker, "finalize")]


@pytest.mark.parametrize(
    ("ending", "exit_status", "status"),
    [
        ("pass", 0, "success"),
        ("raise ValueError", 1, "failed"),
        ("run.finalize('success'); raise ValueError", 1, "failed"),
        ("import IPython; raise ValueError", 1, "failed"),  # as MLflow does
        ("run.finalize('failed')", 0, "failed"),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT, "aborted"),
        ("with run: raise ValueError", 1, "failed"),
        ("del run", 0, "success"),
    ],
)
def test_a_process_that_ends_ends_its_runs(training, ending, exit_status, status):
    returned, _, _ = training.run(f"run = begin()\nrun.log_metrics({{'loss': 1.0}})\n{ending}")
    assert (returned, training.statuses(), finalized(training)) == (exit_status, [status], [status])
    assert rows(training.tracker)[0] == (0, {"loss": 1.0})
    raised = {"ValueError": "ValueError", "SIGINT": "KeyboardInterrupt"}
    error = next((error for cause, error in raised.items() if cause in ending), "")
    assert read_run(training.run_dir).error.partition(":")[0] == error


def test_processes_of_tests_can_be_interrupted_if_sigint_was_ignored():
    """As a background job and many CI runners have it, and would pass it on."""
    child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    script = f"""
import runpy, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
runpy.run_path({str(TESTS / "conftest.py")!r})
subprocess.run([sys.executable, "-c", {child!r}])
"""
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("end", "what"),
    [("finish(timeout=0)", "gets the last"), ("finish(timeout=0.2)", "lacks"), ("finish_in_background()", "lacks")],
)
def test_a_rest_is_a_reason_to_worry_only_if_it_was_waited_for(training, end, what):
    fail(training.tracker, "log_metrics", "hang")
    _, _, stderr = training.run(f"run = begin(finish_timeout=0.2)\nrun.log_metrics({{'loss': 1.0}})\nrun.{end}")
    assert f"{what} " in stderr
    assert "in the background, see: rankzero ps" in stderr


def test_the_end_of_the_process_waits_for_runs_that_ended_in_the_background(training):
    training.run("""
        for number in range(3):
            run = begin(run_id=f"r{number}")
            for step in range(2000):
                run.log_metrics({"loss": 1.0}, step)
            run.finish_in_background()
    """)
    assert [step for step, _ in rows(training.tracker)].count(1999) == 3
    assert finalized(training) == ["success"] * 3


@pytest.mark.slow
def test_several_runs_share_the_time_that_an_exit_may_take(training):
    fail(training.tracker, "log_metrics", "unavailable")
    began = time.monotonic()
    training.run("""
        runs = [begin(run_id=f"r{number}", delivery="thread", finish_timeout=3.0) for number in range(1, 11)]
        for run in runs:
            run.log_metrics({"loss": 1.0})
    """)
    assert time.monotonic() - began < SOON
    journals = training.run_dir.parent.glob("*/journal.jsonl")
    assert [path.read_text().count('"finish"') for path in journals] == [1] * 10


@pytest.mark.slow
@pytest.mark.parametrize("is_down", [False, True], ids=["tracker up", "tracker down"])
def test_sigterm_aborts_the_run_and_loses_nothing(training, is_down):
    training.start("""
        run = begin()
        for step in range(1000):
            run.log_metrics({"loss": 1.0}, step)
        ready()
        time.sleep(60)
    """)
    if is_down:
        fail(training.tracker, "log_metrics", "unavailable")
    training.until_ready()
    began = time.monotonic()
    training.process.terminate()
    returned, _, stderr = training.wait()
    assert returned == -signal.SIGTERM
    assert time.monotonic() - began < SOON
    assert training.statuses() == ["aborted"]
    if is_down:
        assert "continues in the background" in stderr
    else:
        assert [step for step, _ in rows(training.tracker)] == list(range(1000))
        assert finalized(training) == ["aborted"]


@pytest.mark.parametrize("before", [True, False], ids=["set before", "set after"])
def test_a_sigterm_handler_of_the_users_own_is_respected(training, before):
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    first, second = (handler, "pass") if before else ("pass", handler)
    training.start(f"{first}\nrun = begin()\n{second}\nrun.log_metrics({{'loss': 1.0}})\nready()\ntime.sleep(60)")
    training.until_ready()
    training.process.terminate()
    assert training.wait()[0] == 7
    assert len(finalized(training)) == 1


def test_a_handler_that_hands_sigterm_on_ends_the_process(training):
    script = """
        run = begin()
        before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: before(number, frame))
        run.log_metrics({'loss': 1.0})
        signal.raise_signal(signal.SIGTERM)
        run.log_metrics({'loss': 2.0})
    """
    returned, _, _ = training.run(textwrap.dedent(script))
    assert (returned, training.statuses()) == (-signal.SIGTERM, ["aborted"])
    assert [values for _, values in rows(training.tracker)] == [{"loss": 1.0}]


def test_sigterm_in_a_forked_child_ends_the_child_alone(training):
    returned, _, _ = training.run("""
        run = begin()
        child = os.fork()
        if child == 0:
            ready()
            time.sleep(60)
        while not (directory / "ready").exists():
            time.sleep(0.01)
        os.kill(child, signal.SIGTERM)
        assert os.waitpid(child, 0)[1] == signal.SIGTERM
        run.log_metrics({"loss": 1.0})
    """)
    assert (returned, finalized(training)) == (0, ["success"])


def test_a_forked_child_that_exits_ends_nothing(training):
    returned, _, _ = training.run("""
        run = begin()
        run.agg_and_log_metrics({"parent": 1.0}, 0)
        if (child := os.fork()) == 0:
            run.log_metrics({"child": 1.0}, 1)
            run.flush()
            sys.exit(0)
        os.waitpid(child, 0)
        run.log_metrics({"parent": 1.0}, 2)
    """)
    assert (returned, training.statuses()) == (0, ["success"])
    assert sorted(rows(training.tracker)) == [(0, {"parent": 1.0}), (1, {"child": 1.0}), (2, {"parent": 1.0})]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize(("ending", "status"), [("pass", "success"), ("raise ValueError", "failed")])
def test_a_run_that_a_child_of_multiprocessing_began(training, method, ending, status):
    """As torch.multiprocessing.spawn does it; such a child leaves without calling atexit."""
    training.run(f"""
        def work():
            run = begin()
            run.log_metrics({{"loss": 1.0}})
            {ending}

        if __name__ == "__main__":
            import multiprocessing

            child = multiprocessing.get_context({method!r}).Process(target=work)
            child.start()
            child.join()
    """)
    assert training.statuses() == [status]
    until(lambda: finalized(training) == [status])

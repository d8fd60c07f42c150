"""A tracker that is down, slow or hangs, an SDK that crashes, and processes that are killed; with real couriers."""

import os
import pickle
import signal
import statistics
import subprocess
import sys
import threading
import time

import msgspec
import psutil
import pytest
from recorded import events_in
from servers.file_logger import FileLogger, calls, fail, heal, rows
from servers.training import TESTS, Training
from waiting import A_WHILE, SOON, until

import rankzero
from rankzero.delivery.background import _start_process
from rankzero.delivery.courier import Courier
from rankzero.processes import reap
from rankzero.rundir.positions import Position, load_position

SECRET = "hunter2-hunter2"


@pytest.fixture
def training(tmp_path):
    training = Training(tmp_path)
    yield training
    training.kill()


@pytest.fixture
def tracker(training):
    return training.tracker


@pytest.fixture
def begin(training, monkeypatch):
    """Start runs of this process, and end them."""
    monkeypatch.setenv("TRAINING_DIRECTORY", str(training.directory))
    runs = []

    def begin(loggers=None, run_id="r1", **options):
        loggers = loggers or [FileLogger(training.tracker)]
        runs.append(rankzero.start(loggers, dir=training.directory / "runs", run_id=run_id, **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=0)


def log(run, *steps):
    for step in steps:
        run.log_metrics({"loss": step / 10}, step)


def steps(tracker):
    return [step for step, _ in rows(tracker)]


def deliver(training):
    Courier(training.run_dir, "file", lambda: FileLogger(training.tracker), follow=False).run()


def is_closed(training):
    return training.position().closed


def only_courier(training):
    (process,) = until(training.couriers)
    return process


# The tracker


def test_a_tracker_that_is_down_at_first_gets_everything_when_it_is_back(training, tracker, begin):
    for verb in ("attach", "log_metrics"):
        fail(tracker, verb, "unavailable")
    run = begin()
    log(run, *range(100))
    assert "the tracker is down" in until(lambda: training.position().problem)
    assert not run.flush(0.1)
    heal(tracker)
    run.finish(timeout=A_WHILE)
    logged = {event.step: event.time for event in events_in(run.dir) if hasattr(event, "step")}
    assert [(call["step"], call["context"]["time"]) for call in calls(tracker, "log_metrics")] == list(logged.items())
    assert rows(tracker) == [(step, {"loss": step / 10}) for step in range(100)]


@pytest.mark.parametrize("verb", ["make", "log_metrics", "flush", "close"])
def test_a_run_whose_tracker_is_down_at_its_end_ends_in_time_and_is_completed_later(training, tracker, verb):
    fail(tracker, verb, "unavailable") if verb != "make" else None
    began = time.monotonic()
    returned, _, stderr = training.run(f"""
        run = begin()
        if {verb!r} == "make":
            fail(tracker, "make", "unavailable")
        for step in range(3):
            run.log_metrics({{"loss": 1.0}}, step)
        while {verb!r} != "close" and not load_position(run.dir, "file").problem:
            time.sleep(0.01)
        run.finish(timeout=0.5)
    """)
    assert time.monotonic() - began < SOON  # nor do those who read the output wait for the courier
    assert returned == 0
    assert "its courier continues in the background" in stderr
    assert "of the run (the tracker is down). Nothing is lost" in stderr or verb == "close"
    heal(tracker)
    until(lambda: is_closed(training))
    assert set(steps(tracker)) == {0, 1, 2}
    assert calls(tracker, "finalize")[-1]["status"] == "success"
    until(lambda: not training.couriers())


def test_a_terminal_shows_progress_and_the_reason_for_waiting(training, tracker):
    fail(tracker, "log_metrics", "unavailable", text="[/no tag]")
    watched, terminal = os.openpty()
    training.start("run = begin()\nrun.log_metrics({'loss': 1.0})\nrun.finish(timeout=2.5)", stderr=terminal)
    assert training.process.wait(A_WHILE) == 0
    os.close(terminal)
    shown = os.read(watched, 1 << 16).decode()
    os.close(watched)
    assert "delivering to file" in shown
    assert "the tracker is" in shown


def test_a_tracker_that_is_known_to_be_down_is_not_waited_for(training, tracker, begin):
    """Runs of a sweep end one after another."""
    fail(tracker, "log_metrics", "unavailable")
    began = time.monotonic()
    for number in range(2):
        log(run := begin(run_id=f"r{number}", finish_timeout=A_WHILE, down_timeout=0.1), 0)
        until(lambda run=run: load_position(run.dir, "file").problem)
        assert not run.flush()
        run.finish()
    assert time.monotonic() - began < SOON
    heal(tracker)
    until(lambda: len(calls(tracker, "finalize")) == 2)


def test_an_explicit_timeout_applies_to_an_unavailable_tracker_too(training, tracker, begin):
    fail(tracker, "log_metrics", "unavailable")
    log(run := begin(down_timeout=0.0), 0)
    until(lambda: load_position(run.dir, "file").problem)
    healing = threading.Timer(0.5, heal, [tracker])
    healing.start()
    assert run.flush(A_WHILE)
    run.finish(timeout=A_WHILE)
    assert [call["status"] for call in calls(tracker, "finalize")] == ["success"]


@pytest.mark.parametrize("verb", ["make", "log_metrics"])
def test_a_tracker_that_is_slow_or_was_down_yesterday_is_waited_for(training, tracker, begin, verb):
    log(run := begin(delivery="off"), 0)
    run.finish()
    (run.dir / "file.position.json").write_bytes(msgspec.json.encode(Position(problem="down", updated=1.0)))
    fail(tracker, verb, "slow", seconds=0.5)
    log(run := begin(finish_timeout=A_WHILE, down_timeout=0.1), 1)
    run.finish()
    assert steps(tracker) == [0, 1]


def test_a_tracker_that_is_back_and_busy_is_waited_for(tracker, begin):
    fail(tracker, "log_metrics", "unavailable", times=1)
    fail(tracker, "log_metrics", "slow", seconds=1.5)
    log(run := begin(finish_timeout=A_WHILE, down_timeout=0.1), 0)
    until(lambda: load_position(run.dir, "file").problem)
    run.finish()
    assert steps(tracker) == [0]


def test_a_signal_handler_may_end_the_run_while_a_courier_is_started_again(tracker, begin, monkeypatch):
    run = begin()
    delivery = run._owner.supervisor.get("file")
    delivery._process.kill()
    delivery._process.wait()
    handlers = [delivery.restart]

    def start_process(*arguments):
        if handlers:
            handlers.pop()()
        return _start_process(*arguments)

    monkeypatch.setattr("rankzero.delivery.background._start_process", start_process)
    thread = threading.Thread(target=delivery.restart, daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()
    run.finish(timeout=A_WHILE)


@pytest.mark.parametrize("verb", ["make", "log_metrics", "flush", "close"])
def test_a_hanging_sdk_does_not_delay_training(training, tracker, begin, verb):
    run = begin()
    fail(tracker, verb, "hang")
    log(run, 0)
    began = time.monotonic()
    run.finish(timeout=0.3)
    assert time.monotonic() - began < SOON
    only_courier(training).kill()
    heal(tracker)
    deliver(training)
    assert is_closed(training)
    assert set(steps(tracker)) == {0}


def test_a_slow_tracker_does_not_slow_the_loop(tracker, begin):
    def latency(run):
        took = []
        for step in range(2000):
            began = time.perf_counter()
            run.log_metrics({"loss": 1.0}, step)
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    fail(tracker, "log_metrics", "slow", seconds=0.5)
    undelivered, slow = begin(run_id="off", delivery="off"), begin()
    assert latency(slow) < 3 * latency(undelivered) < 0.001


def test_one_tracker_does_not_hurt_another(training, tracker, begin, tmp_path):
    others = [tmp_path / "good", tmp_path / "bad", tmp_path / "worst"]
    run = begin([FileLogger(path) for path in others], finish_timeout=A_WHILE, down_timeout=0.1)
    assert run.loggers == ("file", "file-2", "file-3")
    fail(others[1], "log_metrics", "unavailable")
    fail(others[2], "log_metrics", "exit")
    log(run, *range(5))
    run.finish()
    assert steps(others[0]) == list(range(5))
    assert [call["status"] for call in calls(others[0], "finalize")] == ["success"]
    assert [training.position(key).closed for key in run.loggers] == [True, False, False]
    heal(others[1])
    until(lambda: steps(others[1]) == list(range(5)))


def test_output_of_an_sdk_goes_to_the_couriers_log(training, tracker):
    fail(tracker, "log_metrics", "print", text="\x00nonsense ü")
    returned, stdout, stderr = training.run("with begin() as run: run.log_metrics({'loss': 1.0})")
    assert (returned, stdout, "nonsense" in stderr) == (0, "", False)
    assert training.log().count("nonsense") == 2
    assert is_closed(training)


# Crashes


@pytest.mark.parametrize("deed", ["exit", "segv"])
@pytest.mark.parametrize("verb", ["make", "log_metrics"])
def test_a_courier_killed_by_its_sdk_is_restarted(training, tracker, begin, verb, deed, caplog):
    log(run := begin(), 0)
    assert run.flush(A_WHILE)
    fail(tracker, verb, deed, times=2)
    if verb == "make":
        only_courier(training).kill()
    log(run, *range(1, 5))
    run.finish(timeout=A_WHILE)
    assert steps(tracker) == list(range(5))
    assert is_closed(training)
    assert "the courier for file died" in caplog.text
    assert "courier.log" in caplog.text


def test_a_courier_that_dies_during_training_is_restarted(training, tracker, begin, monkeypatch):
    run = begin()
    only_courier(training).kill()
    threads = []

    def start_process(*arguments):
        threads.append(threading.current_thread())
        return _start_process(*arguments)

    monkeypatch.setattr("rankzero.delivery.background._start_process", start_process)
    for step in range(10**6):
        run.log_metrics({"loss": 1.0}, step)
        time.sleep(0.02)
        if steps(tracker):
            break
    assert len(training.couriers()) == 1
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()  # to start a process takes milliseconds


def test_an_sdk_that_always_kills_its_process_is_given_up_at_once_and_the_run_can_be_delivered(
    training, tracker, begin, caplog
):
    fail(tracker, "log_metrics", "segv")
    log(run := begin(), 0, 1)
    began = time.monotonic()
    run.finish(timeout=A_WHILE)
    assert time.monotonic() - began < SOON
    assert f"deliver the rest with: rankzero sync {training.run_dir}" in caplog.text
    assert "Segmentation fault" in caplog.text
    assert not training.couriers()
    heal(tracker)
    deliver(training)
    assert (steps(tracker), is_closed(training)) == ([0, 1], True)


def test_a_killed_training_process_is_closed_as_crashed_with_all_that_it_logged(training, tracker):
    training.start("""
        run = begin()
        for step in range(500):
            run.log_metrics({"loss": step / 10}, step)
        ready()
        time.sleep(60)
    """)
    training.until_ready()
    training.process.kill()
    until(lambda: is_closed(training))
    assert rows(tracker) == [(step, {"loss": step / 10}) for step in range(500)]
    assert [call["status"] for call in calls(tracker, "finalize")] == ["crashed"]
    until(lambda: not training.couriers())


def test_a_courier_survives_the_kill_of_the_process_group(training, tracker):
    training.start("run = begin()\nrun.log_metrics({'loss': 1.0})\nready()\ntime.sleep(60)", start_new_session=True)
    training.until_ready()
    only_courier(training)
    os.killpg(training.process.pid, signal.SIGKILL)
    until(lambda: is_closed(training))
    assert steps(tracker) == [0]


def test_a_killed_training_process_whose_workers_live_on_is_closed_too(training, tracker):
    training.start("""
        run = begin()
        run.log_metrics({"loss": 1.0})
        if os.fork() == 0:
            ready()
            time.sleep(60)
        time.sleep(60)
    """)
    training.until_ready()
    training.process.kill()
    until(lambda: is_closed(training))
    assert [call["status"] for call in calls(tracker, "finalize")] == ["crashed"]


@pytest.mark.parametrize("both", [False, True], ids=["courier", "both"])
def test_a_killed_courier_loses_nothing(training, tracker, both):
    fail(tracker, "log_metrics", "slow", seconds=0.02)
    training.start("""
        run = begin()
        for step in range(20):
            run.log_metrics({"loss": 1.0}, step)
        ready()
        time.sleep(60)
    """)
    training.until_ready()
    until(lambda: len(rows(tracker)) > 3)
    only_courier(training).kill()
    if both:
        training.process.kill()
    heal(tracker)
    training.wait() if both else None
    deliver(training)
    assert sorted(set(steps(tracker))) == list(range(20))
    assert is_closed(training) == both
    assert [call["status"] for call in calls(tracker, "finalize")] == (["crashed"] if both else [])


# Processes


def test_twenty_runs_at_once_leave_nothing_behind(training, begin):
    others = psutil.Process().children(recursive=True)
    runs = [begin([FileLogger(training.directory / str(number))], run_id=f"r{number}") for number in range(20)]
    for run in runs:
        log(run, 0, 1)
    for run in runs:
        run.finish()
    assert all(steps(training.directory / str(number)) == [0, 1] for number in range(20))
    assert not training.couriers()
    children = psutil.Process().children(recursive=True)
    assert [each for each in children if each not in others and each.status() == psutil.STATUS_ZOMBIE] == []


def test_two_threads_may_ask_for_the_same_exit_status(monkeypatch):
    def waitpid(pid, options):  # the other thread is faster
        _detached.remove(pid)
        return pid, 0

    monkeypatch.setattr("rankzero.processes._detached", _detached := [4711])
    monkeypatch.setattr(os, "waitpid", waitpid)
    reap()
    assert _detached == []


def test_a_detached_courier_is_reaped(training, tracker, begin):
    fail(tracker, "log_metrics", "unavailable")
    log(first := begin(), 0)
    courier = only_courier(training)
    first.finish(timeout=0)
    heal(tracker)
    until(lambda: courier.status() == psutil.STATUS_ZOMBIE)
    numbers = iter(range(2, 9))  # its last thread may still be on its way out when the next run begins
    until(lambda: begin(run_id=f"r{next(numbers)}") and not courier.is_running())


def test_a_secret_is_in_no_file_and_no_output(training, tracker, begin):
    fail(tracker, "log_metrics", "unavailable", times=1, text=f"(token {SECRET})")
    fail(tracker, "log_metrics", "print", times=1, text=f"https://user:{SECRET}@host")
    fail(tracker, "log_metrics", "rejected", text=SECRET, key='"step": 1')
    run = begin([FileLogger(tracker, password=SECRET)])
    log(run, 0, 1)
    assert run.flush(A_WHILE)
    courier = only_courier(training)
    shown = [*courier.cmdline(), *courier.environ().values()]
    shown += [file.path for file in courier.open_files()]
    run.finish(timeout=A_WHILE)
    shown += [path.read_text(errors="replace") for path in run.dir.rglob("*") if path.is_file()]
    assert not [text for text in shown if SECRET in text]
    assert training.log().count("user:***@host") == 2
    assert calls(tracker, "attach")


def test_a_thread_delivers_to_a_logger_that_no_other_process_can_create(training, tracker, begin, caplog):
    caplog.set_level("INFO", "rankzero")
    run = begin([FileLogger(tracker, nested=lambda: None)])
    log(run, 0)
    run.finish(timeout=A_WHILE)
    assert steps(tracker) == [0]
    assert "cannot be made in another process" in caplog.text
    assert not training.couriers()


def test_a_thread_delivers_to_a_logger_with_arguments_defined_in_the_script(training, tracker):
    _, _, stderr = training.run("""
        def reduce(values):
            return values[0]

        with rankzero.start([FileLogger(tracker, nested=reduce)], dir=directory / "runs", run_id="r1") as run:
            run.log_metrics({"loss": 1.0})
    """)
    assert "cannot be made in another process" in stderr
    assert steps(tracker) == [0]


def test_a_courier_that_cannot_be_started_causes_a_warning_and_keeps_the_run(
    training, tracker, begin, monkeypatch, caplog
):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    log(run := begin(), 0)
    assert "no courier could be started for file" in caplog.text
    run.finish(timeout=1)
    deliver(training)
    assert steps(tracker) == [0]


def test_an_unreadable_worker_config_ends_a_courier_with_a_message(tmp_path):
    told = pickle.dumps([*sys.path, str(TESTS)]) + b"no pickle"
    courier = [sys.executable, "-m", "rankzero.delivery.worker"]
    ended = subprocess.run(courier, input=told, capture_output=True, cwd=tmp_path, timeout=A_WHILE)
    assert ended.returncode == 1
    assert b"UnpicklingError" in ended.stderr

"""The courier, in this process: delivered events, saved positions, and each kind of failure."""

import json
import os
import random
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from kept_files import snapshot
from recorded import write
from servers.file_logger import BatchFileLogger, FileLogger, calls, fail, heal, rows, set_watermark
from waiting import A_WHILE, SOON, until

from rankzero.delivery.courier import Courier, GaveUpError
from rankzero.delivery.writer_watch import WriterWatch
from rankzero.errors import PossiblyRejectedError, RejectedError, RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import (
    Checkpoint,
    Console,
    DefineMetric,
    Finish,
    Image,
    Metrics,
    Params,
    Start,
    Table,
    Text,
    encode,
)
from rankzero.loggers.base import Logger
from rankzero.media.store import MediaFile, MediaStore
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import ask_to_stop, load_position, positions, reject_list, save_position, wake
from rankzero.rundir.writer_lock import WriterLock
from rankzero.testing.samples import png

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("rankzero.delivery.courier.pause", lambda _: 0.0)
    monkeypatch.setattr("rankzero.delivery.courier.POLL", 0.01)


@pytest.fixture
def tracker(tmp_path):
    return tmp_path / "tracker"


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    write(path, start())
    return path


def start(status=None, **loggers):
    return Start(1.0, RunInfo("id1", "calm-reef-1", "digits", "/elsewhere"), loggers or {"file": {}})


def metrics(*steps):
    return [Metrics(100.0 + step, step, {"loss": step / 10}) for step in steps]


def courier(run_dir, tracker, kind=FileLogger, key="file", **options):
    return Courier(run_dir, key, lambda: kind(tracker, password=SECRET), **{"follow": False, **options})


def deliver(run_dir, tracker, kind=FileLogger, **options):
    courier(run_dir, tracker, kind, **options).run()
    return load_position(run_dir, "file")


def verbs(tracker):
    return [call["verb"] for call in calls(tracker) if call["verb"] not in ("make", "attach")]


def steps(tracker):
    return [step for step, _ in rows(tracker)]


def rejected(run_dir):
    return [json.loads(line) for line in reject_list(run_dir, "file").read_text().splitlines()]


@contextmanager
def running(courier):
    """Run a courier in a thread."""
    thread = threading.Thread(target=courier.run)
    thread.start()
    try:
        yield thread
    finally:
        courier.stop()
        thread.join(A_WHILE)
        assert not thread.is_alive()


@contextmanager
def alive(run_dir):
    """Act as the process that writes the journal."""
    lock = WriterLock(run_dir)
    try:
        yield
    finally:
        lock.release()


# Order, batches, positions


def test_events_arrive_in_order_with_their_own_time(run_dir, tracker):
    write(run_dir, Params(99.0, {"lr": 1}), *metrics(0, 1), Text(102.0, "t", ["c"], [["x"]], 1), *metrics(2))
    write(run_dir, Finish(103.0, "success"))
    position = deliver(run_dir, tracker)
    assert verbs(tracker)[:5] == ["log_hyperparams", "log_metrics", "log_metrics", "log_text", "log_metrics"]
    assert verbs(tracker)[5:] == ["flush", "finalize", "flush", "close"]
    moments = [(call["context"]["time"], call["context"]["line"]) for call in calls(tracker, "log_metrics", "log_text")]
    assert moments == [(100.0, 2), (101.0, 3), (102.0, 4), (102.0, 5)]
    assert (position.closed, position.status, position.line) == (True, "success", 7)
    assert position.offset == (run_dir / JOURNAL).stat().st_size


def test_neighbouring_metrics_go_in_one_batch_with_their_own_times(run_dir, tracker):
    write(run_dir, *metrics(0, 1, 2), Params(103.0, {"lr": 1}), *metrics(3), Text(1.0, "t", ["c"], []), *metrics(4, 5))
    write(run_dir, Metrics(106.0, 6, {"loss": "NaN"}, 2, "train"))
    deliver(run_dir, tracker, BatchFileLogger)
    assert verbs(tracker)[:5] == [
        "log_metrics_batch",
        "log_hyperparams",
        "log_metrics",
        "log_text",
        "log_metrics_batch",
    ]
    first, last = calls(tracker, "log_metrics_batch")
    assert [(row["step"], row["context"]["time"]) for row in first["rows"]] == [(0, 100.0), (1, 101.0), (2, 102.0)]
    assert last["rows"][-1]["context"] == {"time": 106.0, "line": 9, "epoch": 2, "stage": "train"}
    assert str(last["rows"][-1]["values"]["loss"]) == "nan"


class Listening(BatchFileLogger):
    captures = frozenset({"console"})


@pytest.mark.parametrize(
    ("kind", "parts"), [(BatchFileLogger, [[0, 1, 2]]), (Listening, [[0], "text", [1, 2], "last"])]
)
def test_console_events_split_batches_only_of_loggers_that_capture_the_console(run_dir, tracker, kind, parts):
    first, *others = metrics(0, 1, 2)
    write(run_dir, first, Console(100.5, "text"), *others, Console(103.0, "last", "stderr"))
    position = deliver(run_dir, tracker, kind)
    told = calls(tracker, "log_metrics", "log_metrics_batch", "log_console")
    found = [
        [row["step"] for row in call["rows"]] if "rows" in call else call.get("text") or [call["step"]] for call in told
    ]
    assert found == parts
    assert position.line == 6
    assert [call["stream"] for call in told if "text" in call] == ["stdout", "stderr"][: parts.count("text") * 2]


def test_rejected_metrics_between_console_events_are_found(run_dir, tracker):
    fail(tracker, "log_metrics_batch", "rejected", key='"step": 2')
    fail(tracker, "log_metrics", "rejected", key='"step": 2')
    write(run_dir, *(each for row in metrics(0, 1, 2, 3, 4) for each in (Console(1.0, "x"), row, Console(1.0, "y"))))
    assert deliver(run_dir, tracker, BatchFileLogger).line == 16
    assert steps(tracker) == [0, 1, 3, 4]
    assert [entry["event"]["step"] for entry in rejected(run_dir)] == [2]


def test_the_logger_is_attached_to_the_run_and_its_current_directory(run_dir, tracker):
    deliver(run_dir, tracker)
    (attached,) = calls(tracker, "attach")
    assert attached["run"]["id"] == "id1"
    assert attached["run"]["dir"] == str(run_dir)


def test_files_have_absolute_paths_however_the_run_was_named(run_dir, tracker, monkeypatch):
    (run_dir / "media").mkdir()
    (run_dir / "media" / "a.png").write_bytes(b"picture")
    write(run_dir, Image(1.0, "digit", [MediaFile("media/a.png")]))
    monkeypatch.chdir(run_dir.parent)
    deliver(Path(run_dir.name), tracker)
    (call,) = calls(tracker, "log_image")
    assert str(run_dir / "media" / "a.png") in json.dumps(call)


class Choosy(FileLogger):
    log_model = True


def saved(run_dir, path, *aliases, automatic=True):
    path.write_bytes(b"weights")
    kept = snapshot(path, run_dir)
    write(run_dir, Checkpoint(time.time(), kept, str(path), aliases=list(aliases), automatic=automatic))


def uploaded(tracker):
    logged = calls(tracker, "log_checkpoint")
    return [(os.path.basename(call["path"]), call["aliases"]) for call in logged]


@pytest.mark.parametrize(("log_model", "logged"), [(None, ["a", "b"]), ("all", ["a", "b"]), (False, ["b"])])
def test_checkpoints_of_a_model_checkpoint_are_skipped_without_log_model(
    run_dir, tracker, tmp_path, log_model, logged, monkeypatch
):
    monkeypatch.setattr(Choosy, "log_model", log_model)
    saved(run_dir, tmp_path / "a")
    saved(run_dir, tmp_path / "b", automatic=False)
    write(run_dir, Finish(1.0, "success"))
    assert deliver(run_dir, tracker, Choosy).closed
    assert [name for name, _ in uploaded(tracker)] == logged


def test_final_checkpoints_of_a_model_checkpoint_are_uploaded_at_the_end(run_dir, tracker, tmp_path):
    saved(run_dir, tmp_path / "1", "best", "latest")
    saved(run_dir, tmp_path / "2", "latest")
    saved(run_dir, tmp_path / "3", "latest")
    saved(run_dir, tmp_path / "4", "latest")
    (tmp_path / "2").unlink()
    (tmp_path / "4").unlink()  # the latest, all the same
    write(run_dir, *metrics(0), Finish(1.0, "success"))
    deliver(run_dir, tracker, Choosy)
    assert uploaded(tracker) == [("1", ["best"]), ("3", []), ("4", ["latest"])]
    assert verbs(tracker).index("log_checkpoint") > verbs(tracker).index("log_metrics")


@pytest.mark.parametrize("deed", ["rejected", "permission"])
def test_a_run_is_closed_even_if_its_final_checkpoint_is_rejected(run_dir, tracker, tmp_path, deed):
    saved(run_dir, tmp_path / "1", "best", "latest")
    write(run_dir, Finish(1.0, "success"))
    fail(tracker, "log_checkpoint", deed)
    position = deliver(run_dir, tracker, Choosy)
    assert (position.closed, position.rejected) == (True, 1)
    (entry,) = rejected(run_dir)
    assert (entry["line"], entry["event"]["type"]) == (1, "checkpoint")


def test_the_position_is_saved_only_after_flush(run_dir, tracker):
    write(run_dir, *metrics(0, 1))
    fail(tracker, "flush", "unavailable")
    with running(courier(run_dir, tracker, follow=True, grace_period=60)):
        until(lambda: len(calls(tracker, "log_metrics")) >= 4)
        assert load_position(run_dir, "file").offset == 0
        heal(tracker)
        until(lambda: load_position(run_dir, "file").line == 3)


def test_a_later_courier_continues_where_the_first_one_stopped(run_dir, tracker):
    with alive(run_dir):
        write(run_dir, *metrics(0, 1))
        deliver(run_dir, tracker)
        write(run_dir, *metrics(2))
        deliver(run_dir, tracker)
    assert steps(tracker) == [0, 1, 2]


def test_a_run_in_a_directory_whose_name_is_not_utf8_is_delivered(run_dir, tracker, tmp_path):
    write(run_dir, *metrics(0), Finish(2.0, "success"))
    run_dir = run_dir.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    assert deliver(run_dir, tracker).closed


def test_damaged_lines_are_skipped_and_a_torn_one_is_waited_for(run_dir, tracker):
    first, second = (encode(event) for event in metrics(1, 2))
    with open(run_dir / JOURNAL, "ab") as file:
        file.write(b'{"type":"metr\xff\n' + first + second[:20])
    with alive(run_dir), running(courier(run_dir, tracker, follow=True)):
        until(lambda: steps(tracker) == [1])
        with open(run_dir / JOURNAL, "ab") as file:
            file.write(second[20:])
        until(lambda: steps(tracker) == [1, 2])


def test_a_missing_journal_raises(tmp_path, tracker):
    with pytest.raises(RunNotFoundError):
        deliver(tmp_path, tracker)


# Failures


@pytest.mark.parametrize("deed", ["unavailable", "connection"])
@pytest.mark.parametrize("verb", ["make", "attach", "log_metrics", "finalize", "close"])
def test_a_tracker_that_is_down_for_a_while_loses_and_doubles_nothing(run_dir, tracker, verb, deed):
    write(run_dir, *metrics(0, 1, 2), Finish(104.0, "success"))
    fail(tracker, verb, deed, times=5)
    position = deliver(run_dir, tracker)
    assert steps(tracker) == [0, 1, 2]
    assert (position.closed, position.problem, position.rejected) == (True, None, 0)
    assert len(calls(tracker, "close")) >= 1


def test_while_the_tracker_is_down_the_position_has_the_reason(run_dir, tracker):
    write(run_dir, *metrics(0))
    fail(tracker, "log_metrics", "unavailable")
    with running(courier(run_dir, tracker, follow=True, grace_period=60)):
        until(lambda: load_position(run_dir, "file").problem)
        assert load_position(run_dir, "file").problem.startswith("TrackerUnavailableError: the tracker is down")
        heal(tracker)
        until(lambda: load_position(run_dir, "file").line == 2)
        assert load_position(run_dir, "file").problem is None


def test_retries_wait_longer_and_longer_with_jitter(run_dir, tracker, monkeypatch):
    monkeypatch.undo()
    write(run_dir, *metrics(0))
    fail(tracker, "log_metrics", "unavailable", times=12)
    waits = []
    monkeypatch.setattr(Courier, "_sleep", lambda self, seconds: waits.append(seconds))
    seeded = random.getstate()
    deliver(run_dir, tracker)
    assert random.getstate() == seeded, "with delivery='thread' the user's random numbers would be others"
    assert len(waits) == 12
    assert all(0 <= wait <= 60 for wait in waits)
    assert max(waits[:3]) <= 2 < max(waits[6:])
    assert len(set(waits)) > 6


def test_pauses_are_shorter_once_the_run_is_over(run_dir, tracker, monkeypatch):
    monkeypatch.setattr("rankzero.delivery.courier.pause", lambda _: 3600.0)
    monkeypatch.setattr("rankzero.delivery.retry._LONGEST_PAUSE_AT_END", 0.01)
    write(run_dir, *metrics(0))
    fail(tracker, "log_metrics", "unavailable", times=1)
    lock = WriterLock(run_dir)
    with running(courier(run_dir, tracker, follow=True)):
        until(lambda: load_position(run_dir, "file").problem)
        write(run_dir, Finish(2.0, "success"))
        lock.release()
        until(lambda: load_position(run_dir, "file").closed)
    assert steps(tracker) == [0]


def test_after_three_failures_the_logger_is_made_again(run_dir, tracker):
    write(run_dir, *metrics(0))
    fail(tracker, "log_metrics", "unavailable", times=4)
    deliver(run_dir, tracker)
    assert len(calls(tracker, "make")) == 3  # at first, after the third failure and after the fourth


@pytest.mark.parametrize("kind", [FileLogger, BatchFileLogger])
@pytest.mark.parametrize("deed", ["rejected", "type", "possibly", "permission"])
@pytest.mark.parametrize("poison", [{0}, {7}, {3, 4}, {0, 6, 12, 13}])
def test_a_rejected_event_goes_to_the_reject_list_and_the_others_are_delivered(run_dir, tracker, kind, deed, poison):
    good = [step for step in range(14) if step not in poison]
    for step in range(14):
        write(run_dir, Metrics(1.0, step, {"bad" if step in poison else "good": 1.0}))
    write(run_dir, Finish(2.0, "success"))
    for verb in ("log_metrics", "log_metrics_batch"):
        fail(tracker, verb, deed, key='"bad"')
    position = deliver(run_dir, tracker, kind)
    assert steps(tracker) == good
    assert (position.rejected, position.closed) == (len(poison), True)
    refused = rejected(run_dir)
    assert [entry["event"]["step"] for entry in refused] == sorted(poison)
    assert [entry["line"] for entry in refused] == [step + 1 for step in sorted(poison)]
    assert all("400 Bad Request" in each["reason"] or "cannot take this" in each["reason"] for each in refused)


@pytest.mark.parametrize("kind", [FileLogger, BatchFileLogger])
def test_an_event_that_flush_refuses_is_found_and_set_aside(run_dir, tracker, kind):
    """An SDK that accepts everything: the tracker's refusal is known only at a flush."""

    class Lazy(kind):
        def flush(self):
            taken, self.seen = steps(tracker)[getattr(self, "seen", 0) :], len(steps(tracker))
            if 5 in taken:
                raise RejectedError("422")

    write(run_dir, *metrics(*range(9)), Finish(2.0, "success"))
    position = deliver(run_dir, tracker, Lazy)
    assert [entry["event"]["step"] for entry in rejected(run_dir)] == [5]
    assert set(steps(tracker)) == set(range(9))
    assert (position.rejected, position.closed) == (1, True)


@pytest.mark.parametrize("tries", [1, 4, 9, 60])
@pytest.mark.parametrize("where", ["log_metrics", "flush"])
@pytest.mark.parametrize("deed", ["type", "possibly", "permission"])
def test_nothing_is_rejected_when_the_tracker_refused_everything_for_a_while(run_dir, tracker, deed, where, tries):
    """All later events fail, too, so no event is the cause."""
    write(run_dir, *metrics(0, 1, 2), Console(1.0, "no proof"), DefineMetric(1.0, "loss"), Finish(2.0, "success"))
    for verb in (where, "define_metric", "finalize"):
        fail(tracker, verb, deed)
    failures = []

    def on_failure(run_info, key, error, retrying):
        assert load_position(run_dir, "file").line <= 1
        failures.append(error)
        if len(failures) == tries:
            heal(tracker)

    position = deliver(run_dir, tracker, on_failure=on_failure)
    assert (position.rejected, position.closed) == (0, True)
    assert list(dict.fromkeys(steps(tracker))) == [0, 1, 2]
    assert where == "flush" or steps(tracker) == [0, 1, 2]


@pytest.mark.parametrize("end", range(6, 28, 3))
def test_an_outage_that_ends_while_suspected_events_are_retried_rejects_none(run_dir, tracker, end):
    tries = []

    class Recovering(FileLogger):
        def _act(self, verb, *args):
            if verb in ("log_metrics", "finalize"):
                tries.append(verb)
                if len(tries) < end:
                    raise PossiblyRejectedError("400")
            super()._act(verb, *args)

    write(run_dir, *metrics(0, 1, 2, 3), Finish(2.0, "success"))
    position = deliver(run_dir, tracker, Recovering)
    assert (position.rejected, position.closed, position.line) == (0, True, 6)
    assert set(steps(tracker)) == {0, 1, 2, 3}


@pytest.mark.parametrize(("counts_lines", "line"), [(True, None), (False, 1)])
def test_an_event_that_is_retried_after_a_later_one_has_no_line_for_a_logger_that_counts_them(
    run_dir, tracker, counts_lines, line
):
    write(run_dir, *metrics(0, 1), Finish(2.0, "success"))
    fail(tracker, "log_metrics", "possibly", key='"step": 0', times=4)  # three times alone, once before the later one
    assert deliver(run_dir, tracker, type("Counting", (FileLogger,), {"counts_lines": counts_lines})).rejected == 0
    logged = [(call["step"], call["context"]["line"]) for call in calls(tracker, "log_metrics")]
    assert logged == [(1, 2), (0, line)]


@pytest.mark.parametrize("finish", [[], [Finish(2.0, "success")]], ids=["crashed", "finished"])
def test_a_finish_that_sends_nothing_rejects_no_event(run_dir, tracker, finish):
    class Untold(Logger):
        name = version = "untold"

        def __init__(self, directory, password):
            self.tracker = FileLogger(directory)

        def log_hyperparams(self, params):
            raise NotImplementedError

        def log_metrics(self, metrics, step=None):
            self.tracker.log_metrics(metrics, step)

    write(run_dir, *metrics(0, 1), *finish)
    fail(tracker, "log_metrics", "possibly")
    with pytest.raises(GaveUpError, match="rankzero sync"):
        deliver(run_dir, tracker, Untold, grace_period=0.1)
    position = load_position(run_dir, "file")
    assert (position.rejected, position.closed, "422" in position.problem) == (0, False, True)
    heal(tracker)
    assert deliver(run_dir, tracker, Untold).closed
    assert steps(tracker) == [0, 1]


@pytest.mark.parametrize("deed", ["full", "mount"])
def test_a_full_disk_rejects_no_event(run_dir, tracker, deed):
    write(run_dir, *metrics(0, 1), Finish(2.0, "success"))
    fail(tracker, "log_metrics", deed, key='"step": 0', times=9)
    assert deliver(run_dir, tracker).rejected == 0
    assert steps(tracker) == [0, 1]


def test_the_last_event_of_a_run_that_died_may_be_rejected(run_dir, tracker):
    write(run_dir, *metrics(0, 1))
    fail(tracker, "log_metrics", "possibly", key='"step": 1')
    position = deliver(run_dir, tracker)
    assert (position.rejected, position.status, position.closed) == (1, "crashed", True)


def test_an_outage_does_not_count_as_a_data_error(run_dir, tracker):
    write(run_dir, *metrics(0))
    fail(tracker, "log_metrics", "unavailable", times=5)
    fail(tracker, "log_metrics", "type", times=2)
    assert deliver(run_dir, tracker).rejected == 0
    assert steps(tracker) == [0]


@pytest.mark.parametrize(
    "error",
    [
        json.JSONDecodeError("Expecting value", "<html>", 0),
        type("SdkError", (OSError, ValueError), {})("502"),
        TimeoutError("no answer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_senseless_answer_rejects_no_event(run_dir, tracker, error):
    tries = []

    class Confused(FileLogger):
        def log_metrics(self, metrics, step=None):
            tries.append(step)
            if len(tries) < 6:
                raise error
            super().log_metrics(metrics, step)

    write(run_dir, *metrics(0))
    assert deliver(run_dir, tracker, Confused).rejected == 0
    assert steps(tracker) == [0]


def test_an_unavailable_tracker_never_makes_an_event_rejected(run_dir, tracker):
    write(run_dir, *metrics(0), Finish(2.0, "success"))
    fail(tracker, "log_metrics", "unavailable")
    with pytest.raises(GaveUpError, match="rankzero sync"):
        deliver(run_dir, tracker, grace_period=0.1)
    position = load_position(run_dir, "file")
    assert (position.rejected, position.line, position.closed) == (0, 1, False)  # the start is delivered
    assert "the tracker is down" in position.problem
    assert not reject_list(run_dir, "file").exists()
    heal(tracker)
    assert deliver(run_dir, tracker).closed
    assert steps(tracker) == [0]


def test_a_hook_is_called_for_each_failure(run_dir, tracker):
    told = []
    write(run_dir, *metrics(0), Finish(2.0, "success"))
    fail(tracker, "log_metrics", "unavailable", times=1)
    fail(tracker, "log_metrics", "rejected")
    deliver(run_dir, tracker, on_failure=lambda run, key, error, retrying: told.append((run.id, key, retrying)))
    assert told == [("id1", "file", True), ("id1", "file", False)]


def test_a_secret_is_never_shown(run_dir, tracker, caplog):
    write(run_dir, *metrics(0, 1), Finish(2.0, "success"))
    fail(tracker, "log_metrics", "unavailable", times=1, text=SECRET)
    fail(tracker, "log_metrics", "rejected", key='"step": 1', text=f"https://user:{SECRET}@tracker")
    fail(tracker, "close", "connection", text=SECRET)
    with pytest.raises(GaveUpError) as error:
        deliver(run_dir, tracker, secrets=[SECRET], grace_period=0.1)
    written = [path.read_text() for path in run_dir.glob("file.*")]
    assert any("***@tracker" in text for text in written)
    assert not any(SECRET in text for text in [*written, caplog.text, str(error.value)])


def test_a_full_disk_does_not_end_the_courier(run_dir, tracker, monkeypatch):
    write(run_dir, *metrics(0), Finish(2.0, "success"))
    attempts = []

    def full(*args):
        attempts.append(args)
        if len(attempts) < 5:
            raise OSError(28, "No space left on device")
        save_position(*args)

    monkeypatch.setattr("rankzero.delivery.courier.save_position", full)
    position = deliver(run_dir, tracker)
    assert (position.closed, position.problem) == (True, None)
    assert steps(tracker) == [0]


# Endings


@pytest.mark.parametrize("status", ["success", "failed", "aborted"])
def test_a_finish_closes_the_run_once(run_dir, tracker, status):
    write(run_dir, *metrics(0), Finish(2.0, status))
    for _ in range(2):
        deliver(run_dir, tracker)
    assert [call["status"] for call in calls(tracker, "finalize")] == [status]
    assert verbs(tracker)[-3:] == ["finalize", "flush", "close"]
    assert verbs(tracker).count("close") == 1


def test_acknowledged_events_are_not_written_again_when_closing_fails(run_dir, tracker):
    write(run_dir, *metrics(0, 1), Finish(2.0, "success"))
    fail(tracker, "close", "connection", times=2)
    assert deliver(run_dir, tracker).closed
    assert steps(tracker) == [0, 1]


def test_a_run_whose_process_died_is_closed_as_crashed(run_dir, tracker):
    write(run_dir, *metrics(0))
    lock = WriterLock(run_dir)
    position = deliver(run_dir, tracker)
    assert (position.closed, verbs(tracker)) == (
        False,
        ["log_metrics", "flush", "close"],
    )  # not finalized: it may go on
    lock.release()
    position = deliver(run_dir, tracker)
    assert (position.closed, position.status) == (True, "crashed")
    assert [call["status"] for call in calls(tracker, "finalize")] == ["crashed"]


def test_a_crashed_run_that_is_resumed_continues_and_is_closed_again(run_dir, tracker):
    write(run_dir, *metrics(0))
    deliver(run_dir, tracker)
    write(run_dir, start(), *metrics(1), Finish(2.0, "success"))
    position = deliver(run_dir, tracker)
    assert (position.closed, position.status) == (True, "success")
    assert [call["status"] for call in calls(tracker, "finalize")] == ["crashed", "success"]
    assert steps(tracker) == [0, 1]


def test_a_resumed_run_that_is_still_running_is_not_closed(run_dir, tracker):
    write(run_dir, *metrics(0), Finish(2.0, "success"))
    deliver(run_dir, tracker)
    write(run_dir, start(), *metrics(1))  # one batch: what the run did before its courier was there
    with alive(run_dir), running(courier(run_dir, tracker, follow=True)) as thread:
        until(lambda: steps(tracker) == [0, 1])
        time.sleep(0.1)
        assert thread.is_alive()
        assert load_position(run_dir, "file").status is None
        write(run_dir, *metrics(2), Finish(5.0, "failed"))
        until(lambda: load_position(run_dir, "file").closed)
    assert steps(tracker) == [0, 1, 2]
    assert [call["status"] for call in calls(tracker, "finalize")] == ["success", "failed"]


def test_a_resumed_run_that_is_delivered_late_gets_a_new_logger_after_the_finish(run_dir, tracker):
    write(run_dir, *metrics(0), Finish(2.0, "failed"), start(), *metrics(1), Finish(3.0, "success"))
    deliver(run_dir, tracker)
    assert verbs(tracker) == 2 * ["log_metrics", "flush", "finalize", "flush", "close"]
    assert len(calls(tracker, "make")) == 2


def test_events_after_the_finish_are_delivered_and_the_run_closed_again_with_its_status(run_dir, tracker):
    write(run_dir, *metrics(0), Finish(2.0, "failed"), *metrics(1))
    position = deliver(run_dir, tracker)
    assert (position.closed, position.status, steps(tracker)) == (True, "failed", [0, 1])
    assert [call["status"] for call in calls(tracker, "finalize")] == ["failed", "failed"]


def test_events_written_just_before_the_writer_died_are_delivered(run_dir, tracker, monkeypatch):
    """A writer may append and die after the courier has read the journal, and before it checks the lock."""
    gone = WriterWatch.is_gone

    def write_and_die(self):
        monkeypatch.setattr(WriterWatch, "is_gone", gone)
        write(run_dir, *metrics(7))
        return True

    monkeypatch.setattr(WriterWatch, "is_gone", write_and_die)
    deliver(run_dir, tracker)
    assert verbs(tracker)[-5:] == ["log_metrics", "flush", "finalize", "flush", "close"]
    assert verbs(tracker).count("finalize") == 1


def test_a_writer_elsewhere_counts_as_dead_only_when_the_journal_rests(run_dir, tracker):
    elsewhere = {"host": "node7", "boot": "another", "pid": 1}
    (run_dir / "writer.lock").write_bytes(msgspec.json.encode(elsewhere))
    write(run_dir, *metrics(0))
    assert not deliver(run_dir, tracker, dead_after=60.0).closed
    os.utime(run_dir / JOURNAL, (time.time() - 61, time.time() - 61))
    assert deliver(run_dir, tracker, dead_after=60.0).status == "crashed"


@pytest.mark.parametrize("fault", [None, "unavailable"])
def test_stop_is_prompt(run_dir, tracker, fault, monkeypatch):
    monkeypatch.setattr("rankzero.delivery.courier.pause", lambda _: 60.0)
    write(run_dir, *metrics(0))
    if fault:
        fail(tracker, "log_metrics", fault)
    deliverer = courier(run_dir, tracker, follow=True)
    with alive(run_dir), running(deliverer) as thread:
        until(lambda: load_position(run_dir, "file").problem if fault else steps(tracker))
        began = time.monotonic()
        deliverer.stop()
        thread.join(A_WHILE)
        assert time.monotonic() - began < SOON
    assert not load_position(run_dir, "file").closed


def test_a_second_courier_waits_for_the_first_and_repeats_nothing(run_dir, tracker):
    write(run_dir, *metrics(0, 1))
    fail(tracker, "log_metrics", "slow", seconds=0.1)
    with alive(run_dir):
        first, second = courier(run_dir, tracker, follow=True), courier(run_dir, tracker, follow=True)
        with running(second), running(first):
            until(lambda: steps(tracker) == [0, 1])
            write(run_dir, *metrics(2), Finish(2.0, "success"))
            until(lambda: load_position(run_dir, "file").closed)
    assert steps(tracker) == [0, 1, 2]
    assert len(calls(tracker, "make")) == 1


# Watermarks


def test_a_lower_watermark_delivers_missing_events_again(run_dir, tracker):
    write(run_dir, *metrics(0, 1, 2))
    with alive(run_dir):
        deliver(run_dir, tracker)
        set_watermark(tracker, 2)  # start and step 0: it acknowledged the rest, but never stored it
        write(run_dir, *metrics(3))
        deliver(run_dir, tracker)
    assert steps(tracker) == [0, 1, 2, 1, 2, 3]


def test_a_higher_watermark_repeats_nothing(run_dir, tracker):
    write(run_dir, *metrics(0, 1, 2))
    set_watermark(tracker, 3)
    with alive(run_dir):
        deliver(run_dir, tracker)
    assert steps(tracker) == [2]


def test_a_watermark_behind_the_finish_closes_the_run_as_it_ended(run_dir, tracker):
    write(run_dir, *metrics(0, 1), Finish(2.0, "aborted"))
    set_watermark(tracker, 4)
    position = deliver(run_dir, tracker)
    assert (position.closed, position.status, steps(tracker)) == (True, "aborted", [])
    assert [call["status"] for call in calls(tracker, "finalize")] == ["aborted"]


def test_a_crashed_run_is_not_closed_before_missing_events_are_delivered(run_dir, tracker):
    write(run_dir, *metrics(0, 1, 2))
    with alive(run_dir):
        deliver(run_dir, tracker)
    set_watermark(tracker, 2)
    deliver(run_dir, tracker)
    assert verbs(tracker)[-5:] == ["log_metrics", "flush", "finalize", "flush", "close"]
    assert verbs(tracker).count("finalize") == 1
    assert steps(tracker) == [0, 1, 2, 1, 2]


@pytest.mark.parametrize("kind", [FileLogger, BatchFileLogger])
@pytest.mark.timeout(20)
def test_a_watermark_before_rejected_events_does_not_lead_back_to_them(run_dir, tracker, kind):
    for verb in ("log_metrics", "log_metrics_batch"):
        fail(tracker, verb, "type", key="poison")
    set_watermark(tracker, 2)  # it counts only lines of which it stored something
    poison = Metrics(1.0, 1, {"poison": 1})
    write(run_dir, *metrics(0), poison, poison, Text(1.0, "t", ["c"], []), *metrics(3, 4), Finish(2.0, "success"))
    position = deliver(run_dir, tracker, kind)
    assert (position.closed, position.rejected) == (True, 2)
    assert set(steps(tracker)) == {3, 4}
    write(run_dir, start(), *metrics(5), Finish(2.0, "success"))
    position = deliver(run_dir, tracker, kind)
    assert (position.closed, position.rejected) == (True, 2)
    assert [entry["line"] for entry in rejected(run_dir)] == [2, 3]


# Snapshots of checkpoints


def test_a_snapshot_goes_when_every_logger_has_it_and_its_source_is_gone(tmp_path, tracker):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    write(run_dir, start(file={}, other={}))
    sources = [tmp_path / f"epoch={epoch}.ckpt" for epoch in range(2)]
    for index, source in enumerate(sources):
        source.write_text("weights")
        kept = run_dir / "checkpoints" / str(index) / source.name
        kept.parent.mkdir(parents=True)
        kept.write_text("weights")
        write(run_dir, Checkpoint(1.0, str(kept.relative_to(run_dir)), str(source), step=index))
    write(run_dir, Finish(2.0, "success"))
    sources[0].unlink()

    deliver(run_dir, tracker)
    assert len(list(run_dir.glob("checkpoints/*/*"))) == 2  # the other logger lacks both
    courier(run_dir, tmp_path / "other", key="other").run()
    assert [path.name for path in run_dir.glob("checkpoints/*/*")] == ["epoch=1.ckpt"]
    assert [call["path"] for call in calls(tmp_path / "other", "log_checkpoint")] == [
        str(run_dir / "checkpoints" / str(index) / source.name) for index, source in enumerate(sources)
    ]


def test_of_a_file_that_is_overwritten_only_the_newest_snapshot_and_the_best_stay(run_dir, tracker, tmp_path):
    source = tmp_path / "last.pt"
    for index, alias in enumerate(["best", "latest", "latest"]):
        source.write_text(f"weights {index}")
        kept = snapshot(source, run_dir)
        write(run_dir, Checkpoint(1.0, kept, str(source), step=index, aliases=[alias]))
    write(run_dir, Finish(2.0, "success"))
    deliver(run_dir, tracker)
    assert sorted(path.read_text() for path in run_dir.glob("checkpoints/*/*")) == ["weights 0", "weights 2"]


def test_a_resumed_run_sweeps_the_snapshots_of_its_former_processes(run_dir, tracker, tmp_path):
    source = tmp_path / "last.pt"
    for session in range(3):
        source.write_text(f"weights {session}")
        write(
            run_dir, Checkpoint(1.0, snapshot(source, run_dir), str(source), aliases=["latest"]), Finish(2.0, "success")
        )
        deliver(run_dir, tracker)
        write(run_dir, start())
    assert [path.read_text() for path in run_dir.glob("checkpoints/*/*")] == ["weights 2"]


def test_an_overwritten_file_is_not_confused_with_an_earlier_checkpoint(run_dir, tracker, tmp_path):
    source = tmp_path / "last.pt"
    source.write_text("weights 1")
    write(run_dir, Checkpoint(1.0, "checkpoints/0/last.pt", str(source)), Finish(2.0, "success"))
    deliver(run_dir, tracker)
    assert "overwritten" in rejected(run_dir)[0]["reason"]
    assert calls(tracker, "log_checkpoint") == []


def test_a_checkpoint_that_is_gone_is_refused_and_nothing_else(run_dir, tracker):
    write(run_dir, Checkpoint(1.0, "checkpoints/0/a.ckpt", "/nowhere/a.ckpt"), *metrics(0), Finish(2.0, "success"))
    assert deliver(run_dir, tracker).closed
    assert steps(tracker) == [0]
    assert "was deleted" in rejected(run_dir)[0]["reason"]


@pytest.mark.parametrize("log_model", [True, False])
def test_a_superseded_checkpoint_is_not_an_error_of_a_logger_that_does_not_upload_it(
    run_dir, tracker, tmp_path, log_model
):
    class Choosy(FileLogger):
        pass

    Choosy.log_model = log_model
    (source := tmp_path / "1.ckpt").write_text("weights 1")
    gone = Checkpoint(1.0, "checkpoints/0/0.ckpt", "/nowhere/0.ckpt", aliases=["latest"], automatic=True)
    last = Checkpoint(1.0, snapshot(source, run_dir), str(source), aliases=["latest"], automatic=True)
    write(run_dir, gone, last, Finish(2.0, "success"))
    position = deliver(run_dir, tracker, Choosy)
    assert (position.closed, position.rejected) == (True, 0)
    assert len(calls(tracker, "log_checkpoint")) == log_model


def test_a_table_whose_image_was_deleted_is_rejected(run_dir, tracker, tmp_path):
    (picture := tmp_path / "image.png").write_bytes(png())
    table = MediaStore(run_dir).table(["image"], [[1], [MediaFile(str(picture))]])
    (image,) = run_dir.glob("media/*/*.png")
    image.unlink()
    write(run_dir, Table(1.0, "t", table), *metrics(0), Finish(2.0, "success"))
    deliver(run_dir, tracker)
    assert [entry["line"] for entry in rejected(run_dir)] == [1]
    assert f"{image} was deleted" in rejected(run_dir)[0]["reason"]
    assert steps(tracker) == [0]


def test_positions_of_all_loggers_can_be_read(run_dir, tracker, tmp_path):
    deliver(run_dir, tracker)
    courier(run_dir, tmp_path / "other", key="csv-2").run()
    assert {key: position.closed for key, position in positions(run_dir).items()} == {"file": True, "csv-2": True}


@pytest.mark.parametrize("watermark", [1000, -1, "3", 2.0, True])
def test_an_invalid_watermark_is_ignored(run_dir, tracker, caplog, watermark):
    write(run_dir, *metrics(0, 1, 2), Finish(3.0, "success"))

    class Liar(FileLogger):
        def watermark(self):
            return watermark

    deliver(run_dir, tracker, Liar)
    assert steps(tracker) == [0, 1, 2]
    assert "the journal has no such line" in caplog.text


def test_a_courier_that_waits_can_be_woken(run_dir, tracker, monkeypatch):
    monkeypatch.setattr("rankzero.delivery.courier.pause", lambda _: 60.0)
    write(run_dir, *metrics(0), Finish(3.0, "success"))
    fail(tracker, "log_metrics", "refuse")
    with running(courier(run_dir, tracker)):
        until(lambda: load_position(run_dir, "file").problem)
        heal(tracker)
        wake(run_dir, "file")
        until(lambda: load_position(run_dir, "file").closed)
    assert steps(tracker) == [0]


def test_a_courier_that_waits_can_be_relieved(run_dir, tracker, monkeypatch):
    monkeypatch.setattr("rankzero.delivery.courier.pause", lambda _: 60.0)
    write(run_dir, *metrics(0), Finish(3.0, "success"))
    fail(tracker, "log_metrics", "unavailable")
    with running(courier(run_dir, tracker)) as stuck:
        until(lambda: load_position(run_dir, "file").problem)
        heal(tracker)
        ask_to_stop(run_dir, "file")
        assert deliver(run_dir, tracker).closed
        assert not stuck.is_alive()
    assert steps(tracker) == [0]


def test_a_request_to_stop_from_before_the_courier_began_is_not_for_it(run_dir, tracker):
    """A file server's clock may be ahead of this machine's."""
    write(run_dir, *metrics(0), Finish(3.0, "success"))
    ask_to_stop(run_dir, "file")
    os.utime(run_dir / "file.stop", (time.time() + 1000,) * 2)
    assert deliver(run_dir, tracker).closed


def test_initial_metrics_reach_a_logger_that_takes_none_with_the_params(run_dir, tracker):
    class Simple(FileLogger):
        def log_hyperparams(self, params):
            super().log_hyperparams(params)

    write(run_dir, Params(1.0, {"lr": 0.1}, {"best": 0.5}), Finish(3.0, "success"))
    deliver(run_dir, tracker, Simple)
    assert rows(tracker) == [(0, {"best": 0.5})]
    assert not reject_list(run_dir, "file").exists()


def test_a_logger_that_was_given_wrong_arguments_is_not_tried_for_an_hour(run_dir, tracker):
    made = []

    def make():
        made.append(1)
        raise TypeError("save_dir must be text")

    with pytest.raises(GaveUpError, match="save_dir must be text"):
        Courier(run_dir, "file", make, follow=True).run()
    assert len(made) == 3
    assert "save_dir must be text" in load_position(run_dir, "file").problem


# How to view the run


class Viewed(FileLogger):
    view = f"https://tracker/runs/1?key={SECRET}"

    def how_to_view(self):
        self._act("how_to_view", {})
        return self.view


def answering(answer):
    return type("Answering", (FileLogger,), {"how_to_view": answer})


def test_an_open_logger_is_asked_once_how_to_view_the_run(run_dir, tracker):
    with alive(run_dir), running(courier(run_dir, tracker, Viewed, follow=True, secrets=[SECRET])):
        until(lambda: calls(tracker, "flush"))
        assert "how_to_view" not in verbs(tracker)  # nothing was logged
        write(run_dir, *metrics(0))
        until(lambda: load_position(run_dir, "file").view)
        write(run_dir, *metrics(1), Finish(103.0, "success"))
        until(lambda: load_position(run_dir, "file").closed)
    assert verbs(tracker)[:4] == ["flush", "log_metrics", "flush", "how_to_view"]
    assert verbs(tracker).count("how_to_view") == 1
    assert load_position(run_dir, "file").view == "https://tracker/runs/1?key=***"


def test_a_run_without_events_can_be_viewed_too(run_dir, tracker):
    write(run_dir, Finish(103.0, "success"))
    assert deliver(run_dir, tracker, Viewed).view
    assert verbs(tracker) == ["flush", "finalize", "flush", "how_to_view", "close"]


def test_how_to_view_is_asked_when_something_is_acknowledged(run_dir, tracker):
    fail(tracker, "flush", "unavailable", times=2)
    write(run_dir, *metrics(0))
    assert deliver(run_dir, tracker, Viewed).view
    assert verbs(tracker)[:5] == ["log_metrics", "log_metrics", "log_metrics", "flush", "how_to_view"]


def test_how_to_view_is_not_called_without_an_event_for_the_logger(run_dir, tracker):
    write(run_dir, Console(1.0, "text"))
    with alive(run_dir):
        assert deliver(run_dir, tracker, Viewed).view is None


def test_a_logger_that_is_opened_again_is_asked_again(run_dir, tracker):
    write(run_dir, *metrics(0))
    deliver(run_dir, tracker, answering(lambda self: "the old one"))
    write(run_dir, *metrics(1))
    assert deliver(run_dir, tracker, answering(lambda self: "the new one")).view == "the new one"


@pytest.mark.parametrize(
    ("answer", "view"),
    [
        (lambda self: None, None),
        (lambda self: "", None),
        (lambda self: "two\nlines ", "two lines"),
        (lambda self: 7, None),
        (lambda self: 1 / 0, None),
    ],
)
def test_a_failing_how_to_view_does_not_stop_delivery(run_dir, tracker, answer, view):
    write(run_dir, *metrics(0, 1), Finish(103.0, "success"))
    told = []
    position = deliver(run_dir, tracker, answering(answer), on_failure=lambda *failure: told.append(failure))
    assert (position.view, position.closed, position.problem, told) == (view, True, None, [])
    assert steps(tracker) == [0, 1]

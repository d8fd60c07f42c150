"""Console output while a run is open is recorded completely and at once, and never breaks a print()."""

import io
import logging
import os
import signal
import sys
import threading
import time
import warnings

import pytest
from recorded import events_in
from servers.file_logger import FileLogger, calls
from servers.training import Training
from waiting import A_WHILE, SOON

import rankzero
from rankzero.capture import console
from rankzero.capture.console import Capture
from rankzero.events.structs import Console, Finish, Metrics, Start
from rankzero.messages import uncaptured
from rankzero.testing import MemoryLogger


class Listening(FileLogger):
    """Wants what is printed."""

    captures = frozenset({"console"})


class Stream(io.StringIO):
    """In place of the one that pytest reads."""


@pytest.fixture
def streams(monkeypatch):
    """Return standard output and error, from when this is called: pytest puts its own there before each test."""
    pair = Stream(), Stream()
    is_set = False

    def streams():
        nonlocal is_set
        if not is_set:
            is_set = True
            monkeypatch.setattr(sys, "stdout", pair[0])
            monkeypatch.setattr(sys, "stderr", pair[1])
        return pair

    yield streams
    assert (console._streams, *map(vars, pair)) == ([], {}, {})


@pytest.fixture
def begin(tmp_path, streams):
    runs = []

    def begin(**options):
        streams()
        logger = Listening(tmp_path / "tracker", password=options.pop("password", None))
        with warnings.catch_warnings():
            runs.append(rankzero.start([logger], **{"dir": tmp_path / "runs", "delivery": "off", **options}))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=5)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """What rankzero itself says at the start is printed, and so recorded, too."""
    monkeypatch.setattr("rankzero.run.start._show_messages", lambda: None)
    monkeypatch.setattr(logging.getLogger("rankzero"), "handlers", [logging.NullHandler()])


@pytest.fixture
def heard(streams):
    """Listen; return a list that fills with (stream, lines), and the `Capture`."""
    captures = []

    def listen(record=None):
        streams()
        found = []
        captures.append(Capture(record or (lambda text, stream: found.append((stream, text)))))
        return found, captures[-1]

    yield listen
    for each in captures:
        each.close()


def printed(run):
    """(stream, text) of each event."""
    return [(event.stream, event.text) for event in events_in(run.dir, Console)]


# What is heard


def test_prints_are_events_in_order_and_reach_the_stream_too(begin, streams):
    run = begin()
    print("one", 2)
    print("three\n\nfour", file=sys.stderr)
    run.log_metrics({"loss": 1.0})
    sys.stdout.writelines(["five\n", "six\n"])
    assert printed(run) == [
        ("stdout", "one 2"),
        ("stderr", "three\n"),
        ("stderr", "four"),
        ("stdout", "five"),
        ("stdout", "six"),
    ]
    assert [type(event) for event in events_in(run.dir, object)] == [Start, *[Console] * 3, Metrics, *[Console] * 2]
    assert streams()[0].getvalue() == "one 2\nfive\nsix\n"
    assert streams()[1].getvalue() == "three\n\nfour\n"


def test_the_logger_gets_console_lines(begin, tmp_path):
    run = begin(delivery="thread")
    print("\x1b[31mred\x1b[0m")
    print("oh", file=sys.stderr)
    run.finish(timeout=A_WHILE)
    told = calls(tmp_path / "tracker", "log_console")
    assert [(call["text"], call["stream"]) for call in told] == [("\x1b[31mred\x1b[0m", "stdout"), ("oh", "stderr")]
    assert [each.text for each in rankzero.read_run(run.dir).console] == ["\x1b[31mred\x1b[0m", "oh"]


def test_a_handler_that_already_holds_the_stream_is_captured(begin, streams):
    streams()
    logger = logging.getLogger("test_console")
    logger.addHandler(handler := logging.StreamHandler())
    try:
        run = begin()
        logger.warning("careful")
    finally:
        logger.removeHandler(handler)
    assert printed(run) == [("stderr", "careful")]


@pytest.mark.parametrize(
    ("writes", "lines"),
    [
        (["a", "b", "\n"], ["ab"]),
        (["a\nb"], ["a", "b"]),
        (["\n", "  \n"], ["", "  "]),
        (["", "a\n"], ["a"]),
        (["a\r\n", "b\r\nc\r\n"], ["a", "b\nc"]),
        (["\r 10%", "\r 50%", "\r100%", "\n"], ["100%"]),
        ([" 10%\r", " 50%\r", "100%\r", "\n"], ["100%"]),
        (["\r 10%", "\r 50%"], [" 50%"]),
        (["\r 10%", "\r    \r", "done\n"], ["done"]),
        (["\r 10%", "\r     \r"], []),
        (["  "], []),
        (["a\rb\nc\rd\n"], ["b\nd"]),
        (["a\u2028b\x0bc\n"], ["a\u2028b\x0bc"]),
        (["\ud800\n"], ["\\ud800"]),
        (["null NaN\n"], ["null NaN"]),
    ],
)
def test_lines(begin, writes, lines):
    run = begin()
    for each in writes:
        sys.stdout.write(each)
    run.finish()
    assert [text for _, text in printed(run)] == lines
    assert isinstance(events_in(run.dir, object)[-1], Finish)


def test_a_progress_bar_becomes_its_last_state(begin):
    tqdm = pytest.importorskip("tqdm")
    run = begin()
    for _ in tqdm.tqdm(range(50), desc="epoch", mininterval=0, file=sys.stderr):
        pass
    ((stream, text),) = printed(run)
    assert stream == "stderr"
    assert text.startswith("epoch: 100%|")
    assert "\r" not in text


def test_a_line_that_never_ends_neither_grows_without_bound_nor_takes_ever_longer(heard):
    found, _ = heard()
    began = time.monotonic()
    for _ in range(300_000):
        sys.stdout.write("dots")
    assert time.monotonic() - began < SOON
    assert [len(text) // (1 << 20) for _, text in found] == [1]


def test_a_progress_bar_may_go_on_for_long(heard):
    found, _ = heard()
    for number in range(30_000):
        sys.stdout.write(f"\r{number:>100}")
    print()
    assert found == [("stdout", f"{29_999:>100}")]


def test_stdout_and_stderr_may_be_one_stream(begin, monkeypatch, streams):
    streams()
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    run = begin()
    print("once", file=sys.stderr)
    assert printed(run) == [("stdout", "once")]


def test_a_secret_of_a_logger_is_not_recorded(begin):
    run = begin(password="hunter2-hunter2", delivery="thread")
    print("password: hunter2-hunter2!")
    assert printed(run) == [("stdout", "password: ***!")]


def test_an_event_filter_sees_what_is_printed(begin):
    class Filter:
        @rankzero.hookimpl
        def rankzero_event_filter(self, run):
            return lambda event: None if isinstance(event, Console) and "private" in event.text else event

    manager = rankzero.run.run.get_plugins().manager
    manager.register(plugin := Filter())
    try:
        run = begin()
        print("private")
        print("public")
    finally:
        manager.unregister(plugin)
    assert printed(run) == [("stdout", "public")]


def test_the_traceback_of_an_error_that_ends_a_with_block_is_recorded(begin):
    with pytest.raises(ValueError, match="no data"), begin() as run:  # noqa: PT012
        print("begun", end="")
        raise ValueError("no data")
    (_, error), (_, begun) = printed(run)
    assert error.startswith("Traceback")
    assert error.endswith("ValueError: no data")
    assert begun == "begun"


# Who is heard, and when


def test_a_run_whose_loggers_do_not_want_it_patches_nothing(tmp_path, streams):
    out, err = streams()
    with rankzero.start([MemoryLogger()], dir=tmp_path, delivery="thread") as run:
        assert (vars(out), vars(err)) == ({}, {})
        print("unheard")
    assert printed(run) == []


def test_an_instance_may_want_less(tmp_path):
    logger = Listening(tmp_path)
    logger.captures = frozenset()
    with rankzero.start([logger], dir=tmp_path, delivery="thread") as run:
        print("unheard")
    assert printed(run) == []


def test_a_collection_captures_what_its_loggers_capture(tmp_path):
    deaf = MemoryLogger()
    both = rankzero.LoggerCollection([deaf, Listening(tmp_path / "tracker")])
    with rankzero.start([both], dir=tmp_path, delivery="thread"):
        print("heard")
    assert [call["text"] for call in calls(tmp_path / "tracker", "log_console")] == ["heard"]
    assert "log_console" not in [call.verb for call in deaf.calls]


def test_each_of_several_runs_records_while_it_is_open(begin, streams):
    first = begin()
    print("1")
    second = begin()
    print("2", end="")
    first.finish()
    print()
    print("3")
    second.finish()
    print("4")
    assert [text for _, text in printed(first)] == ["1", "2"]
    assert [text for _, text in printed(second)] == ["2", "3"]
    assert vars(streams()[0]) == {}


def test_no_other_rank_records(tmp_path, monkeypatch, streams):
    streams()
    monkeypatch.setenv("RANK", "1")
    rankzero.start([Listening(tmp_path / "nowhere")])
    assert vars(streams()[0]) == {}


def test_a_process_that_turns_out_to_be_another_rank_stops(begin, monkeypatch, streams):
    run = begin()
    journal = Run(run.dir)
    print("before")
    monkeypatch.setenv("RANK", "1")
    run._next_tick = 0.0
    with pytest.warns(match="not to be rank zero"):
        print("after")
    print("later")
    assert [text for _, text in printed(journal)] == ["before"]
    assert streams()[0].getvalue() == "before\nafter\nlater\n"
    assert vars(streams()[0]) == {}


def test_what_a_courier_thread_prints_is_not_delivered_to_it(begin, tmp_path, monkeypatch):
    def log_console(self, text, stream):
        print("logged", text)
        heard.append(text)

    heard = []
    monkeypatch.setattr(Listening, "log_console", log_console)
    run = begin(delivery="thread")
    print("hello")
    assert run.flush(timeout=A_WHILE)
    run.finish(timeout=A_WHILE)
    assert heard == ["hello"]
    assert printed(run) == [("stdout", "hello")]


def test_uncaptured_ends_with_its_block(heard):
    found, _ = heard()
    with uncaptured():
        print("secretly")
    print("openly")
    assert found == [("stdout", "openly")]


def test_a_forked_child_is_captured_and_does_not_repeat_its_parent(tmp_path):
    training = Training(tmp_path)
    status, _, err = training.run(
        """
        FileLogger.captures = frozenset({"console"})
        run = begin(delivery="off")
        print("parent begins", end=" ", flush=True)
        if (child := os.fork()) == 0:
            print("child")
            os._exit(0)
        os.waitpid(child, 0)
        print("and ends")
        """
    )
    assert status == 0, err
    found = [text for _, text in printed(Run(training.run_dir)) if not text.startswith("rankzero: ")]
    assert found == ["child", "parent begins and ends"]


class Run:
    def __init__(self, directory):
        self.dir = directory


def test_what_was_printed_survives_a_kill_and_a_traceback_is_recorded(tmp_path):
    training = Training(tmp_path)
    status, _, _ = training.run(
        """
        FileLogger.captures = frozenset({"console"})
        run = begin(delivery="off")
        print("the last words")
        print("unfinished", end="")
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert status == -signal.SIGKILL
    assert printed(Run(training.run_dir))[-1] == ("stdout", "the last words")


def test_the_traceback_that_ends_a_script_is_recorded(tmp_path):
    training = Training(tmp_path)
    training.run(
        "FileLogger.captures = frozenset({'console'})\nrun = begin(delivery='off')\nraise ValueError('no data')"
    )
    texts = [text for stream, text in printed(Run(training.run_dir)) if stream == "stderr"]
    assert "ValueError: no data" in "\n".join(texts)
    assert training.statuses() == ["failed"]


# Streams


def test_a_stream_that_was_replaced_meanwhile_is_given_back_its_write(begin, streams, monkeypatch):
    run = begin()
    monkeypatch.setattr(sys, "stdout", other := Stream())
    print("elsewhere")
    print("still heard", file=streams()[0])
    run.finish()
    assert printed(run) == [("stdout", "still heard")]
    assert (vars(streams()[0]), vars(other), other.getvalue()) == ({}, {}, "elsewhere\n")


def test_the_original_write_of_a_stream_is_restored(streams, heard):
    def own(text):
        return Stream.write(streams()[0], text.upper())

    streams()[0].write = own
    found, capture = heard()
    print("loud")
    capture.close()
    assert streams()[0].write is own
    assert (found, streams()[0].getvalue()) == ([("stdout", "loud")], "LOUD\n")
    del streams()[0].write


def test_a_write_that_replaced_the_captured_one_is_kept(streams, heard):
    found, capture = heard()
    ours = streams()[0].write

    def front(text):
        return ours(text.upper())

    streams()[0].write = front
    print("one")
    capture.close()
    print("two")
    assert streams()[0].write is front
    assert (found, streams()[0].getvalue()) == ([("stdout", "ONE")], "ONE\nTWO\n")
    del streams()[0].write


class Slotted:
    __slots__ = ("text",)

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)


class Fixed(Slotted):
    @property
    def write(self):
        return lambda text: Slotted.write(self, text)


@pytest.mark.parametrize("make", [Slotted, Fixed, lambda: None, object])
def test_a_stream_that_cannot_be_patched_is_unchanged(begin, monkeypatch, streams, make):
    streams()
    monkeypatch.setattr(sys, "stdout", stream := make())
    run = begin()
    if hasattr(stream, "write"):
        print("unheard")
        assert stream.text == "unheard\n"
    print("heard", file=sys.stderr)
    assert printed(run) == [("stderr", "heard")]
    assert "write" not in getattr(stream, "__dict__", {})


def test_a_wrapper_that_forwards_attributes_does_not_recurse(begin, monkeypatch, streams):
    class Wrapper:
        def __init__(self, wrapped):
            vars(self)["wrapped"] = wrapped

        def __setattr__(self, name, value):
            setattr(self.wrapped, name, value)

        def write(self, text):
            return self.wrapped.write(f"> {text}")

    monkeypatch.setattr(sys, "stdout", Wrapper(streams()[0]))
    run = begin()
    print("hello", end="\n")
    assert printed(run) == [("stdout", "hello")]


# Trouble


def test_the_result_and_the_errors_of_write_are_those_of_the_stream(streams, heard):
    found, _ = heard()
    assert sys.stdout.write("four") == 4
    with pytest.raises(TypeError):
        sys.stdout.write(b"bytes")
    sys.stdout.close()
    with pytest.raises(ValueError, match="closed"):
        print("!")
    assert found == []


def test_a_stream_may_accept_other_types_than_text(begin, monkeypatch, streams):
    class Anything:
        def write(self, *args):
            return args

    streams()
    monkeypatch.setattr(sys, "stdout", Anything())
    run = begin()
    assert [sys.stdout.write(b"bytes\n"), sys.stdout.write(), sys.stdout.write("text\n")] == [
        (b"bytes\n",), (), ("text\n",),
    ]  # fmt: skip
    assert printed(run) == [("stdout", "text")]


def test_errors_while_recording_do_not_affect_print(heard, streams):
    def record(text, stream):
        raise OSError("the disk is on fire")

    heard(record)
    found, _ = heard()
    print("hello")
    print("again")
    assert streams()[0].getvalue() == "hello\nagain\n"
    assert found == [("stdout", "hello"), ("stdout", "again")]


def test_output_of_the_recording_itself_is_not_captured(heard, streams):
    def record(text, stream):
        print("recorded", text)
        print("told", file=sys.stderr)
        found.append(text)

    found = []
    heard(record)
    print("hello")
    print("again")
    assert found == ["hello", "again"]
    assert streams()[0].getvalue() == "hello\nrecorded hello\nagain\nrecorded again\n"


def test_a_journal_that_cannot_be_written_is_warned_of_once_and_print_works(begin, monkeypatch, streams):
    run = begin()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rankzero.journal.append.os.write", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            print("hello")
    monkeypatch.undo()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert streams()[0].getvalue() == "hello\n" * 3
    run.log_metrics({"loss": 1.0})
    read = rankzero.read_run(run.dir)
    assert [line.text for line in read.console] == ["hello"] * 3
    assert (len(read.metrics["loss"]), read.losses) == (1, [])


def test_recording_may_wait_for_a_lock_that_the_printing_thread_holds(heard):
    """As a handler of logging holds its own while it writes."""
    lock, recording = threading.Lock(), threading.Event()
    found = []

    def record(text, stream):
        recording.set()
        with lock:
            found.append(text)

    heard(record)
    with lock:
        thread = threading.Thread(target=print, args=["first"])
        thread.start()
        recording.wait(A_WHILE)
        print("second")
    thread.join(A_WHILE)
    assert not thread.is_alive()
    assert found == ["first", "second"]


def test_threads_lose_nothing(begin):
    run = begin()

    def work(number):
        for index in range(200):
            sys.stdout.write(f"{number} {index}\n")

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = "\n".join(text for _, text in printed(run)).split("\n")
    for number in range(8):
        assert [line for line in lines if line.startswith(f"{number} ")] == [f"{number} {i}" for i in range(200)]


def test_a_signal_handler_may_print_at_any_time(begin):
    run = begin()
    before = signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
    try:
        for index in range(3000):
            if index % 100 == 0:  # the signal arrives during one of the next writes
                signal.setitimer(signal.ITIMER_REAL, 1e-6)
            sys.stdout.write(f"{index}\n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    lines = "\n".join(text for _, text in printed(run)).split("\n")
    assert [line for line in lines if line.isdecimal()] == [str(index) for index in range(3000)]
    assert "alarm" in lines


def test_a_write_costs_microseconds(monkeypatch):
    with open(os.devnull, "w") as null:
        monkeypatch.setattr(sys, "stdout", null)
        capture = Capture(lambda text, stream: None)
        began = time.thread_time()
        for _ in range(20_000):
            null.write("loss 0.123\n")
        taken = (time.thread_time() - began) / 20_000
        capture.close()
    assert taken < 20e-6

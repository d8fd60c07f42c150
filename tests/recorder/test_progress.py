"""The progress bar, on real terminals: what users see, what is recorded, and that it cannot hurt training.

A script runs with standard output and error on a pseudo-terminal, or one of them elsewhere. `screen` gives the lines
that are visible at the end, `frames` everything that was ever drawn.
"""

import codecs
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from recorded import events_in
from waiting import A_WHILE

from rankzero.capture.console import Capture
from rankzero.errors import PluginNotInstalledError, RecorderError
from rankzero.events.structs import Console
from rankzero.recorder.progress import Progress, make_progress
from rankzero.recorder.progress_metrics import ShownMetrics

TESTS = Path(__file__).parents[1]
PREAMBLE = """
import logging, os, sys, threading, time
from rankzero.recorder.progress import make_progress

def loop(progress, name, batches, total=None, seconds=0.0, body=lambda number: None):
    progress.begin(name, total)
    for number in range(batches):
        body(number)
        time.sleep(seconds)
        progress.advance({"loss": 1 / (number + 3), "hits": number})
    progress.end()

progress = make_progress(os.environ.get("KIND", "auto"), "20251121-070000-4f2a")
"""
KINDS = pytest.mark.parametrize("kind", ["rich", "tqdm"])
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
QUIET = {"CI", "RANK", "TERM", "NO_COLOR", "COLUMNS", *(f"{name}RANK" for name in ("LOCAL_", "NODE_"))}


class Terminal:
    """A pseudo-terminal, and the script that runs in it."""

    def __init__(self, columns=120):
        self.primary, self.secondary = pty.openpty()
        fcntl.ioctl(self.secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.process = None

    def start(self, body, env=(), **streams):
        variables = {key: value for key, value in os.environ.items() if key not in QUIET}
        variables |= {"TERM": "xterm-256color", "PYTHONPATH": str(TESTS), **dict(env)}
        if "PYTHONPATH" in os.environ:
            variables["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
        command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(body)]
        streams = {"stdout": self.secondary, "stderr": self.secondary, **streams}
        self.process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, **streams)
        os.close(self.secondary)
        self.secondary = None
        return self

    def read(self, until=None):
        """Read on until ``until`` is there, or to the end."""
        deadline = time.monotonic() + A_WHILE
        while until is None or until not in self.text:
            assert time.monotonic() < deadline, f"not in time: {self.text[-500:]!r}"
            if select.select([self.primary], [], [], 0.5)[0]:
                try:
                    self.text += self._decoder.decode(os.read(self.primary, 65536))
                except OSError:  # the other side is closed
                    break
        return self.text

    def wait(self):
        self.read()
        assert self.process.wait(A_WHILE) == 0, self.text
        return self

    def frames(self):
        """Every text between two movements of the cursor, in order, without colours."""
        return [found.rstrip() for each in re.split(r"[\r\n]", self.text) if (found := _CODES.sub("", each)).strip()]

    def screen(self):
        """The lines that are visible at the end."""
        lines, row, column = [""], 0, 0
        for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", self.text):
            if piece == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif piece == "\r":
                column = 0
            elif piece in ("\x1b[A", "\x1b[1A"):
                row -= 1
            elif piece == "\x1b[2K":
                lines[row] = ""
            elif not piece.startswith("\x1b"):
                lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
                column += len(piece)
            else:
                assert piece[-1] in "mhl", f"an unknown control sequence: {piece!r}"
        lines = [line.rstrip() for line in lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for each in (self.primary, self.secondary):
            if each is not None:
                os.close(each)


@pytest.fixture
def terminal():
    made = []

    def make(**options):
        made.append(Terminal(**options))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def run(terminal):
    """Run a script to its end."""

    def run(body, kind="auto", env=(), columns=120, **streams):
        return terminal(columns=columns).start(body, {"KIND": kind, **dict(env)}, **streams).wait()

    return run


# What users see


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("rich", "epoch 3 ━+ 0/5 0:00:00 -:--:--  v_num=4f2a",
         r"epoch 3 ━+ 5/5 0:00:0\d 0:00:00 \d\.\d\dit/s loss=0.1429, hits=4, v_num=4f2a"),
        ("tqdm", r"epoch 3:   0%\| +\| 0/5 \[00:00<\?, \?it/s, v_num=4f2a\]",
         r"epoch 3: 100%\|█+\| 5/5 \[00:0\d<00:00, +\d\.\d\dit/s, loss=0.1429, hits=4, v_num=4f2a\]"),
    ],
)  # fmt: skip
def test_a_loop(run, kind, first, last):
    done = run('loop(progress, "epoch 3", 5, 5, 0.15)\nprogress.close()', kind)
    (line,) = done.screen()
    assert re.fullmatch(last, line), line
    assert any(re.fullmatch(first, frame) for frame in done.frames())
    assert [n for n in range(6) if any(f" {n}/5 " in frame for frame in done.frames())] == [0, 1, 2, 3, 4, 5]
    assert done.text.count("\x1b[?25l") == done.text.count("\x1b[?25h", 0, done.text.index("epoch 3")), (
        "a hidden cursor"
    )


def test_rich_draws_in_a_terminal_unless_tqdm_is_asked_for(run):
    done = run('loop(progress, "epoch 0", 5, 5)\nprogress.close()\nprint("tqdm" in sys.modules)')
    line, is_tqdm_loaded = done.screen()
    assert re.match("epoch 0 ━+ 5/5 ", line)
    assert is_tqdm_loaded == "False"


@KINDS
def test_lengths_that_are_unknown_or_wrong(run, kind):
    body = """
        for number, total in enumerate([None, 3, 0]):
            loop(progress, f"epoch {number}", 5, total, 0.02)
            progress.pause()
    """
    lines = run(body, kind).screen()
    assert [re.match(r"epoch \d", line).group() for line in lines] == ["epoch 0", "epoch 1", "epoch 2"]
    assert all("loss=0.1429" in line for line in lines)


@KINDS
@pytest.mark.parametrize("columns", [20, 81])
def test_a_line_is_never_longer_than_the_terminal(run, kind, columns):
    done = run('loop(progress, "epoch 0", 5, 5)\nloop(progress, "epoch 1", 5)\nprogress.close()', kind, columns=columns)
    assert max(map(len, done.frames())) <= columns
    (line,) = done.screen()
    assert line.startswith("epoch 1")


@KINDS
def test_the_last_epoch_stays_and_validation_is_removed(run, kind):
    body = """
        for epoch in range(3):
            progress.begin(f"epoch {epoch}", 2)
            progress.advance({"loss": 1.0})
            loop(progress, "validate", 3, 3)
            progress.advance({"loss": 0.5})
            progress.end()
            loop(progress, "validate", 2)
        progress.begin("validate", 1)
        progress.advance({"loss": 0.5, "val_loss": 0.25})
        progress.end()
        progress.close()
        loop(progress, "test", 2, 2)
        print("done")
    """
    done = run(body, kind)
    line, last = done.screen()
    assert re.match(r"epoch 2.* 2/2 .*loss=0.5, val_loss=0.25, v_num", line)
    assert last == "done"
    assert any(frame.startswith("validate") for frame in done.frames())
    assert not any(frame.startswith("test") for frame in done.frames())


@KINDS
def test_no_bar_stays_after_a_run_that_only_validates(run, kind):
    assert run('loop(progress, "validate", 5, 5)\nprogress.close()\nprint("done")', kind).screen() == ["done"]


@KINDS
def test_a_run_that_ends_within_loops_leaves_the_bar_of_the_outer_one(run, kind):
    body = """
        progress.begin("epoch 0", 9)
        progress.advance({})
        progress.begin("validate", 9)
        progress.advance({})
        progress.close()
        progress.close()
        print("done")
    """
    line, last = run(body, kind).screen()
    assert re.match("epoch 0.* 1/9 ", line)
    assert last == "done"


@KINDS
def test_a_fast_loop_is_drawn_a_few_times_and_by_no_thread(run, kind):
    body = """
        counts = set()
        loop(progress, "epoch 0", 20_000, 20_000, body=lambda number: counts.add(threading.active_count()))
        progress.close()
        print(counts)
    """
    done = run(body, kind)
    assert len(done.frames()) < 100
    assert any(" 1/20000 " in frame for frame in done.frames()), "the first batch is shown at once"
    assert done.screen()[-1] == "{1}"


# Printing


@KINDS
def test_prints_appear_above_the_bar_and_are_recorded_without_it(run, tmp_path, kind):
    body = f"""
        import rankzero, warnings
        from pathlib import Path
        from servers.file_logger import FileLogger

        FileLogger.captures = frozenset({{"console"}})
        directory = Path({str(tmp_path)!r})
        handler = logging.StreamHandler()  # holds the stream of now
        logging.getLogger().addHandler(handler)
        run = rankzero.start([FileLogger(directory / "tracker")], dir=directory, run_id="r1", delivery="off")

        def body(number):
            print("out [/b] :smile:", number)
            print("err", number, file=sys.stderr)
            logging.warning("log %d", number)
            progress.advance({{}})
            time.sleep(0.11)

        before = sys.stdout, sys.stderr
        loop(progress, "epoch 0", 3, 9, body=body)
        print("x" * 200)
        print("begun", end=" ")
        progress.close()
        assert (sys.stdout, sys.stderr, handler.stream) == (*before, before[1])
        run.finish()
        print("done", [vars(each).get("write") for each in before])
    """
    done = run(body, kind)
    printed = [text for n in range(3) for text in (f"out [/b] :smile: {n}", f"err {n}", f"log {n}")] + ["x" * 200]
    assert "\r\n".join(["x" * 200, ""]) in done.text, "no line is wrapped"
    *lines, last = done.screen()
    assert [line for line in lines if line[:3] in ("out", "err", "log", "xxx", "beg")] == [*printed, "begun"]
    assert len([line for line in lines if re.match("epoch 0.* 6/9 ", line)]) == 1
    assert last == "done [None, None]"
    events = events_in(tmp_path / "default" / "r1", Console)
    found = [(event.stream, line.rstrip()) for event in events for line in event.text.split("\n") if line.strip()]
    streams = {"out": "stdout", "err": "stderr", "log": "stderr"}
    assert [each for each in found if each[1][:4] != "run "] == [
        (streams.get(text[:3], "stdout"), text) for text in [*printed, "begun"]
    ]


@KINDS
def test_prints_of_several_threads(run, kind):
    body = """
        def talk(name):
            for number in range(100):
                print(f"{name} {number}\\n", end="")

        threads = [threading.Thread(target=talk, args=(name,)) for name in "ab"]
        progress.begin("epoch 0", None)
        for each in threads:
            each.start()
        while any(each.is_alive() for each in threads):
            progress.advance({})
        progress.end()
        progress.close()
    """
    *lines, bar = run(body, kind).screen()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "ab" for number in range(100))
    assert bar.startswith("epoch 0")


@KINDS
def test_redirected_standard_output_gets_only_printed_text(run, tmp_path, kind):
    with open(tmp_path / "out", "w") as file:
        done = run('loop(progress, "epoch 0", 3, body=lambda n: print("out", n))\nprogress.close()', kind, stdout=file)
    assert (tmp_path / "out").read_text() == "".join(f"out {n}\n" for n in range(3))
    assert [line[:7] for line in done.screen()] == ["epoch 0"]


@KINDS
def test_a_replaced_stream_still_gets_printed_text(run, kind):
    body = """
        class Tee:
            def __init__(self, stream):
                self.stream, self.seen = stream, []

            def write(self, text):
                self.seen.append(text)
                return self.stream.write(text)

            def __getattr__(self, name):
                return getattr(self.stream, name)

        sys.stdout = tee = Tee(sys.stdout)
        loop(progress, "epoch 0", 3, body=lambda n: print("out", n))
        progress.close()
        assert sys.stdout is tee
        print("".join(tee.seen).split("\\n"))
    """
    assert run(body, kind).screen()[-1] == "['out 0', 'out 1', 'out 2', '']"


@KINDS
def test_a_forked_child_prints_and_draws_nothing(run, kind):
    done = run(
        """
        progress.begin("epoch 0", 9)
        if (child := os.fork()) == 0:
            print("\\nchild")
            progress.advance({})
            progress.end()
            progress.close()
            print("gone", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        progress.close()
        """,
        kind,
    )
    shown = [each for each in done.frames() if not each.startswith("epoch 0")]
    assert shown == ["child", "gone"]
    assert done.screen()[-1].startswith("epoch 0")


# Who sees one


def test_it_is_quiet_in_ci_on_other_ranks_and_on_a_dumb_terminal(run):
    body = """
        for name, value in [("CI", "1"), ("CI", "true"), ("RANK", "1"), ("LOCAL_RANK", "3"), ("TERM", "dumb")]:
            before = os.environ.get(name)
            os.environ[name] = value
            progress = make_progress("auto", "v")
            loop(progress, "epoch 0", 3, 3)
            progress.close()
            print(name)
            os.environ.pop(name)
            if before:
                os.environ[name] = before
        make_progress(None, "v").begin("epoch 0", 1)
    """
    assert run(body).text.split() == ["CI", "CI", "RANK", "LOCAL_RANK", "TERM"]


def test_values_of_ci_that_mean_no(run):
    body = """
        for number, value in enumerate(["", "0", "false", "False"]):
            os.environ["CI"] = value
            progress = make_progress("auto", "v")
            loop(progress, f"epoch {number}", 3)
            progress.close()
    """
    assert [line[:7] for line in run(body).screen()] == [f"epoch {number}" for number in range(4)]


def test_nothing_is_shown_if_standard_error_is_not_a_terminal(run, tmp_path):
    with open(tmp_path / "err", "w") as file:
        done = run('loop(progress, "epoch 0", 3)\nprogress.close()', stderr=file)
    assert (done.text, (tmp_path / "err").read_text()) == ("", "")


def test_a_process_that_becomes_another_rank_stops_drawing(run):
    done = run(
        """
        loop(progress, "epoch 0", 1)
        os.environ["RANK"] = "1"
        loop(progress, "epoch 1", 3)
        progress.close()
        """
    )
    assert not any("epoch 1" in frame for frame in done.frames())


@pytest.mark.parametrize(("kind", "hint"), [("tqmd", " Did you mean 'tqdm'?"), ("", ""), (True, "")])
def test_a_kind_that_does_not_exist(kind, hint):
    with pytest.raises(RecorderError, match="must be 'auto', 'rich', 'tqdm' or None") as caught:
        make_progress(kind, "v")
    assert str(caught.value).endswith(f"not {kind!r}.{hint}")


# Notebooks: there is none here, so bars are text


class ZMQInteractiveShell:
    """What IPython calls the shell of a notebook."""


@pytest.fixture
def notebook(monkeypatch):
    def notebook():  # pytest replaces standard error between a fixture and its test
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
        monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
        for name in QUIET:
            monkeypatch.delenv(name, raising=False)
        return stream

    return notebook


def test_false_means_no_bar(notebook):
    shown = []
    for kind in ("auto", False, None):
        stream = notebook()
        progress = make_progress(kind, "")
        progress.begin("epoch 0", 3)
        progress.close()
        shown.append(bool(stream.getvalue()))
    assert shown == [True, False, False]


def test_a_notebook_has_bars_of_tqdm_which_are_not_recorded(notebook):
    stream = notebook()
    found = []
    capture = Capture(lambda text, stream: found.append(text))
    threads = threading.active_count()
    progress = make_progress("auto", "20251121-070000-4f2a")
    for epoch in range(2):
        progress.begin(f"epoch {epoch}", 2)
        progress.advance({"loss": 0.5})
        progress.begin("validate", None)
        progress.end()
        print("heard", file=sys.stderr)
        progress.advance({"loss": 0.125})
        progress.end()
    progress.close()
    capture.close()
    assert threading.active_count() == threads
    assert found == ["heard", "heard"]
    lines = [line.rpartition("\r")[2] for line in stream.getvalue().split("\n")]
    kept = [line for line in lines if "epoch" in line]
    assert re.fullmatch(r"epoch 1: 100%\|[█#]+\| 2/2 \[.*, loss=0.125, v_num=4f2a\]", kept[-1]), kept


@pytest.mark.parametrize(("kind", "env", "has_tqdm"), [
    ("rich", {}, True), (None, {}, True), ("auto", {"CI": "1"}, True), ("auto", {}, False),
])  # fmt: skip
def test_a_notebook_without_a_bar(notebook, monkeypatch, kind, env, has_tqdm):
    stream = notebook()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if not has_tqdm:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(PluginNotInstalledError, match="pip install tqdm"):
            make_progress("tqdm", "v")
    make_progress(kind, "v").begin("epoch 0", 2)
    assert stream.getvalue() == ""


# Metrics


def test_numbers_as_they_are_shown():
    metrics = ShownMetrics({"v_num": "4f2a"})
    metrics.given = {
        "float": 0.123456, "small": 1e-7, "big": 123456.0, "whole": 3, "bool": True, "nan": float("nan"),
        "tensor": torch.tensor([0.25]), "count": torch.tensor(7), "text": "no number", "several": torch.ones(2),
    }  # fmt: skip
    metrics.read()
    assert metrics.text() == (
        "float=0.1235, small=1e-07, big=1.235e+05, whole=3, bool=1, nan=nan, tensor=0.25, count=7, v_num=4f2a"
    )


class OnDevice:
    """A tensor of an accelerator, whose value nobody may ask for."""

    device = torch.device("cuda")

    def __init__(self, value):
        self.value = value

    def numel(self):
        return 1

    def is_complex(self):
        return False


class Copy:
    """A copy that arrives when the test says so."""

    made: list

    def __init__(self, tensors):
        self.values = {name: tensor.value for name, tensor in tensors.items()}
        self.is_ready = False
        Copy.made.append(self)

    def ready(self):
        return self.is_ready

    def wait(self):
        assert self.is_ready, "this would wait for the accelerator"
        return self.values


def test_an_accelerators_values_are_shown_when_they_have_arrived(monkeypatch):
    monkeypatch.setattr("rankzero.recorder.progress_metrics.DeviceCopy", Copy)
    monkeypatch.setattr(Copy, "made", [], raising=False)
    metrics = ShownMetrics({})
    metrics.given = {"loss": OnDevice(1.0), "lr": 0.1}
    metrics.read()
    metrics.given = {"loss": OnDevice(2.0), "lr": 0.2}
    metrics.read()
    assert metrics.text() == "lr=0.2"
    assert len(Copy.made) == 1, "one at a time"
    Copy.made[0].is_ready = True
    metrics.read()
    assert metrics.text() == "loss=1, lr=0.2"
    Copy.made[1].is_ready = True
    metrics.given = {"lr": 0.3, "loss": OnDevice(3.0)}
    metrics.read()
    assert metrics.text() == "lr=0.3, loss=2"


class Bars:
    """Stands for those of rich and tqdm."""

    def __init__(self, error=None):
        self.error = error
        self.drawn = []
        self.closed = 0

    def add(self, description, total):
        return description

    def draw(self, bar, done, metrics):
        if self.error is not None:
            raise self.error
        self.drawn.append((bar, done, metrics))

    def close(self):
        self.closed += 1


class Metrics(dict):
    read = 0

    def items(self):
        self.read += 1
        return super().items()


def test_metrics_are_read_only_when_it_is_time_to_draw(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("rankzero.recorder.progress.monotonic", lambda: clock[0])
    bars, metrics = Bars(), Metrics(loss=0.5)
    progress = Progress(lambda: bars)
    progress.begin("epoch 0", 99)
    for _ in range(51):  # the first is shown
        progress.advance(metrics)
    assert metrics.read == 1
    clock[0] = 0.2
    progress.advance(metrics)
    progress.advance(metrics)
    assert metrics.read == 2
    assert bars.drawn[-1] == ("epoch 0", 52, "loss=0.5")


# Trouble


def test_a_bar_that_fails_is_turned_off_with_one_warning():
    bars = Bars(OSError("the terminal is gone"))
    progress = Progress(lambda: bars)
    with pytest.warns(UserWarning, match=r"progress bar is off: .*OSError: the terminal is gone"):
        progress.begin("epoch 0", 2)
    progress.advance({})  # any further warning would be an error
    progress.end()
    progress.begin("epoch 1", 2)
    progress.close()
    assert bars.closed == 1


def test_a_metric_that_fails_does_not_reach_training():
    class Broken(dict):
        def items(self):
            raise RuntimeError("no items")

    progress = Progress(Bars)
    progress.begin("epoch 0", 2)
    with pytest.warns(UserWarning, match="no items"):
        progress.advance(Broken())
    progress.advance({})


def test_a_warning_that_was_made_an_error_does_not_reach_training(recwarn):
    progress = Progress(lambda: Bars(ValueError("no")))
    progress.begin("epoch 0", 2)  # pytest makes warnings errors
    progress.end()


@KINDS
def test_a_closed_standard_error(run, kind):
    body = """
        progress.begin("epoch 0", 9)
        sys.stderr.close()
        time.sleep(0.11)
        loop(progress, "validate", 5)
        progress.end()
        progress.close()
        print("trained")
    """
    assert run(body, kind).screen()[-1].endswith("trained")


@KINDS
def test_a_terminal_that_hangs_up(terminal, tmp_path, kind):
    shell = terminal()
    body = """
        import signal
        from pathlib import Path
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        mark = Path(os.environ["MARK"])
        loop(progress, "epoch 0", 2, 2, 0.2)
        while not mark.with_name("gone").exists():
            time.sleep(0.01)
        loop(progress, "epoch 1", 3, 3, 0.2)
        progress.close()
        mark.touch()
    """
    shell.start(body, {"MARK": str(tmp_path / "mark"), "KIND": kind})
    shell.read("2/2")
    os.close(shell.primary)
    shell.primary = None
    (tmp_path / "gone").touch()
    assert shell.process.wait(A_WHILE) in (0, 120)  # 120: Python could not flush what it printed last
    assert (tmp_path / "mark").exists()


@KINDS
def test_ctrl_c_leaves_the_terminal_as_it_was(terminal, kind):
    shell = terminal().start('loop(progress, "epoch 0", 10_000, 10_000, 0.02)', {"KIND": kind})
    shell.read("hits=")
    shell.process.send_signal(signal.SIGINT)
    shell.read()
    assert shell.process.wait(A_WHILE) == -signal.SIGINT
    assert shell.text.rfind("\x1b[?25l") <= shell.text.rfind("\x1b[?25h")
    lines = shell.screen()
    assert lines[0].startswith("Traceback")
    assert "KeyboardInterrupt" in lines


@KINDS
def test_a_signal_handler_may_print(run, kind):
    body = """
        import signal
        signal.signal(signal.SIGALRM, lambda *_: print("signal"))
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        progress.begin("epoch 0", None)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            progress._due = 0.0
            progress.advance({"loss": 1.0})
        signal.setitimer(signal.ITIMER_REAL, 0)
        progress.close()
        print("done")
    """
    assert run(body, kind).text.endswith("done\r\n")

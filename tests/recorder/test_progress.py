"""The progress bar, on real terminals: what is to be seen, what is not, and that it hurts nothing.

A script runs with standard output and error on a pseudo-terminal, or one of them elsewhere. `screen` gives the lines
that are then to be seen, `frames` everything that the line of the bar has ever said.
"""

import codecs
import fcntl
import io
import itertools
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
from waiting import A_WHILE

from rankzero.capture.console import Capture
from rankzero.errors import PluginNotInstalledError, RecorderError
from rankzero.events.structs import Console
from rankzero.journal.tail import JOURNAL, read_events
from rankzero.recorder.progress import NoProgress, make_progress
from rankzero.recorder.progress_loops import LoopProgress, ShownLoop
from rankzero.recorder.progress_metrics import ShownMetrics
from rankzero.recorder.terminal_line import TerminalLine

TESTS = Path(__file__).parents[1]
PREAMBLE = """
import os, sys, threading, time
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
KINDS = ["rich", "tqdm"]
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
        """Read on until ``until`` is to be read, or to the end."""
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
        return [found for each in re.split(r"\r\x1b\[2K|\r\n|\r", self.text) if (found := _CODES.sub("", each))]

    def screen(self):
        """The lines to be seen: a carriage return goes to the beginning of the line, ESC[2K wipes it."""
        lines, column = [""], 0
        for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", self.text):
            if piece == "\n":
                lines.append("")
            elif piece == "\r":
                column = 0
            elif piece == "\x1b[2K":
                lines[-1] = ""
            elif not piece.startswith("\x1b"):
                lines[-1] = lines[-1][:column].ljust(column) + piece + lines[-1][column + len(piece) :]
                column += len(piece)
            else:
                assert piece.endswith("m"), f"an unknown control sequence: {piece!r}"
        return lines if lines[-1] else lines[:-1]

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


# What is to be seen


def test_a_loop_in_rich(run):
    done = run('loop(progress, "epoch 3", 5, 5, 0.15)\nprogress.close()', "rich")
    (line,) = done.screen()
    assert re.fullmatch(r"epoch 3 ━{40} 5/5 0:00:0\d<0:00:00 \d\.\d\dit/s loss=0.1429 hits=4 v_num=4f2a", line), line
    assert re.fullmatch(r"epoch 3 ━{40} 0/5 0:00:00<\? \?it/s v_num=4f2a", done.frames()[0])
    assert any(re.match(r"epoch 3 ━+[╸╺]━+ 2/5 .* loss=0.25 hits=1 ", frame) for frame in done.frames())


def test_a_loop_in_tqdm(run):
    done = run('loop(progress, "epoch 3", 5, 5, 0.15)\nprogress.close()', "tqdm")
    (line,) = done.screen()
    assert re.fullmatch(
        r"epoch 3: 100%\|█+\| 5/5 \[00:0\d<00:00, +\d\.\d\dit/s, loss=0.1429, hits=4, v_num=4f2a\]", line
    ), line
    assert len(line) == 119
    assert any(re.match(r"epoch 3: +40%\|.*\| 2/5 .* loss=0.25, hits=1", frame) for frame in done.frames())


@pytest.mark.parametrize(("kind", "count"), [("rich", "epoch 0 5 0:00:0"), ("tqdm", "epoch 0: 5it [00:0")])
def test_a_loop_whose_length_nobody_knows(run, kind, count):
    (line,) = run('loop(progress, "epoch 0", 5, None, 0.02)\nprogress.close()', kind).screen()
    assert line.startswith(count)
    assert line.rstrip("]").endswith("v_num=4f2a")


@pytest.mark.parametrize("kind", KINDS)
def test_more_batches_than_were_expected(run, kind):
    (line,) = run('loop(progress, "epoch 0", 5, 3)\nloop(progress, "epoch 1", 2, 0)\nprogress.close()', kind).screen()
    assert line.startswith("epoch 1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [0, 20, 39, 41, 81])
def test_a_line_is_never_longer_than_the_terminal(run, kind, columns):
    body = 'loop(progress, "epoch 0", 5, 5)\nloop(progress, "epoch 1", 5)\nprogress.close()'
    done = run(body, kind, columns=columns)
    assert max(map(len, done.frames())) < (columns or 80)
    assert done.screen()[-1].startswith("epoch 1"[: columns - 1 or None])


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_serves_all_epochs_and_validation_vanishes(run, kind):
    body = """
        for epoch in range(3):
            progress.begin(f"epoch {epoch}", 2)
            progress.advance({"loss": 1.0})
            loop(progress, "validate", 3, 3)
            progress.advance({"loss": 0.5})
            progress.end()
            loop(progress, "validate", 2)
        loop(progress, "test", 2, 2)
        progress.close()
        print("done")
    """
    done = run(body, kind)
    line, last = done.screen()
    assert re.match(r"epoch 2.* 2/2 ", line)
    assert last == "done"
    titles = [title for title, _ in itertools.groupby(map(_title, done.frames()))]
    epochs = [(f"epoch {number}", f"epoch {number}, validate") for number in range(3)]
    assert titles == [
        *(each for epoch, nested in epochs for each in (epoch, nested, epoch, "validate", epoch)),
        "test", "epoch 2", "done",
    ]  # fmt: skip


def _title(frame):
    return re.match(r"(epoch \d)?(, )?[a-z]*", frame).group()


def test_what_comes_to_be_known_after_an_epoch_is_on_its_line(run):
    body = """
        metrics = {"loss": 0.5}
        progress.begin("epoch 0", 1)
        progress.advance(metrics)
        progress.end()
        loop(progress, "validate", 1)
        progress.advance(metrics)
        progress.begin("validate", 1)
        progress.advance(metrics)
        progress.end()
        metrics["val_loss"] = 0.25
        progress.close()
    """
    (line,) = run(body).screen()
    assert re.match("epoch 0.*1/1.*loss=0.5 val_loss=0.25 v_num", line)


def test_nothing_stays_of_a_run_that_only_validates(run):
    assert run('loop(progress, "validate", 5, 5)\nprogress.close()\nprint("done")').screen() == ["done"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_ends_within_its_loops_leaves_the_outer_one(run, kind):
    body = """
        progress.begin("epoch 0", 9)
        progress.advance({})
        progress.begin("validate", 9)
        progress.advance({})
        progress.close()
        progress.close()
        loop(progress, "epoch 1", 3)
        print("done")
    """
    line, last = run(body, kind).screen()
    assert re.match("epoch 0.* 1/9 ", line)
    assert last == "done"


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_loop_shows_each_batch_and_a_fast_one_few(run, kind):
    slow = run('loop(progress, "epoch 0", 4, 4, 0.2)', kind).frames()
    assert [number for number in range(5) if any(f" {number}/4 " in frame for frame in slow)] == [0, 1, 2, 3, 4]
    fast = run('loop(progress, "epoch 0", 20_000, 20_000)', kind).frames()
    assert 2 <= len(fast) < 100
    assert any(" 1/20000 " in frame for frame in fast), "the first batch is shown at once"


def test_no_thread_and_no_change_of_the_cursor(run):
    done = run(
        """
        counts = set()
        loop(progress, "epoch 0", 5, 5, body=lambda number: counts.add(threading.active_count()))
        print(counts, "tqdm" in sys.modules)
        """
    )
    assert done.screen()[0] == "{1} False"
    assert "\x1b[?25l" not in done.text


# Printing


@pytest.mark.parametrize("kind", KINDS)
def test_prints_are_whole_lines_above_the_bar(run, kind):
    body = """
        import logging
        handler = logging.StreamHandler()  # holds the stream of now
        logging.getLogger().addHandler(handler)

        def body(number):
            print("out", number)
            print("err", number, file=sys.stderr)
            logging.warning("log %d", number)
            print("part", end=" ", flush=True)
            progress.advance({})
            time.sleep(0.11)
            progress.advance({})
            print("and rest", number)

        loop(progress, "epoch 0", 3, 9, body=body)
        progress.close()
        print("done")
    """
    *lines, bar, last = run(body, kind).screen()
    assert lines == [line for n in range(3) for line in (f"out {n}", f"err {n}", f"log {n}", f"part and rest {n}")]
    assert re.match("epoch 0.* 9/9 ", bar)
    assert last == "done"


def test_the_bar_is_back_after_each_print(run):
    done = run('loop(progress, "epoch 0", 1, 1, body=lambda number: [print("one"), print("two"), os._exit(0)])')
    *lines, bar = done.screen()
    assert lines == ["one", "two"]
    assert bar.startswith("epoch 0 ")


def test_prints_of_several_threads(run):
    body = """
        def talk(name):
            for number in range(200):
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
    *lines, bar = run(body).screen()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "ab" for number in range(200))
    assert bar.startswith("epoch 0 ")


def test_standard_output_elsewhere_gets_what_is_printed_and_nothing_else(run, tmp_path):
    with open(tmp_path / "out", "w") as file:
        body = 'loop(progress, "epoch 0", 3, body=lambda n: print("out", n, vars(sys.stdout)))\nprogress.close()'
        done = run(body, stdout=file)
    assert (tmp_path / "out").read_text() == "".join(f"out {n} {{'mode': 'w'}}\n" for n in range(3))
    assert [line[:7] for line in done.screen()] == ["epoch 0"]


def test_the_streams_are_given_back(run):
    done = run(
        """
        before = vars(sys.stdout).get("write"), vars(sys.stderr).get("write")
        loop(progress, "epoch 0", 3)
        print([vars(each).get("write") is None for each in (sys.stdout, sys.stderr)])
        progress.close()
        print([vars(each).get("write") is None for each in (sys.stdout, sys.stderr)], before)
        """
    )
    assert done.screen()[0] == "[False, False]"
    assert done.screen()[-1] == "[True, True] (None, None)"


def test_a_forked_child_prints_and_draws_nothing(run):
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
        """
    )
    assert done.screen()[0].startswith("epoch 0")
    assert done.screen()[1:3] == ["child", "gone"]
    assert len([frame for frame in done.frames() if frame.startswith("epoch 0")]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_records_what_is_printed_records_that_and_no_bar(run, tmp_path, kind):
    body = f"""
        import logging, rankzero
        from pathlib import Path
        from servers.file_logger import FileLogger

        FileLogger.captures = frozenset({{"console"}})
        directory = Path({str(tmp_path)!r})
        run = rankzero.start([FileLogger(directory / "tracker")], dir=directory, run_id="r1", delivery="off")

        def body(number):
            print("out", number)
            print("err", number, file=sys.stderr)
            print("part", end=" ")
            time.sleep(0.11)
            progress.advance({{}})
            print("and rest")

        loop(progress, "epoch 0", 3, 9, body=body)
        progress.close()
        run.finish()
        print([vars(each).get("write") is None for each in (sys.stdout, sys.stderr)])
    """
    done = run(body, kind)
    events = [event for _, event in read_events(tmp_path / "default" / "r1" / JOURNAL) if isinstance(event, Console)]
    found = [(event.stream, line) for event in events for line in event.text.split("\n")]
    expected = [
        each for n in range(3) for each in (("stdout", f"out {n}"), ("stderr", f"err {n}"), ("stdout", "part and rest"))
    ]
    assert [each for each in found if "rankzero" not in each[1]] == expected
    assert not any("epoch" in text or "\x1b" in text for _, text in found)
    assert done.screen()[-1] == "[True, True]"
    assert re.match("epoch 0.* 6/9 ", done.screen()[-2])


# Who sees one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "env", [{"CI": "1"}, {"CI": "true"}, {"RANK": "1"}, {"LOCAL_RANK": "3"}, {"TERM": "dumb"}], ids=str
)
def test_it_is_quiet(run, kind, env):
    body = 'loop(progress, "epoch 0", 3, 3)\nprogress.close()\nprint(type(progress).__name__)'
    assert run(body, kind, env).text == "NoProgress\r\n"


@pytest.mark.parametrize("value", ["", "0", "false", "False"])
def test_a_ci_that_is_none(run, value):
    assert run('loop(progress, "epoch 0", 3)\nprogress.close()', env={"CI": value}).screen()[0].startswith("epoch 0")


def test_it_is_quiet_when_standard_error_is_no_terminal(run, tmp_path):
    with open(tmp_path / "err", "w") as file:
        done = run('loop(progress, "epoch 0", 3)\nprogress.close()', stderr=file)
    assert (done.text, (tmp_path / "err").read_text()) == ("", "")


def test_a_process_that_turns_out_to_be_another_rank_draws_no_more(run):
    done = run(
        """
        loop(progress, "epoch 0", 1)
        os.environ["RANK"] = "1"
        loop(progress, "epoch 1", 3)
        progress.close()
        """
    )
    assert not any("epoch 1" in frame for frame in done.frames())


def test_none_is_none(run):
    assert run('make_progress(None, "v").begin("epoch 0", 1)').text == ""


@pytest.mark.parametrize(("kind", "hint"), [("tqmd", " Did you mean 'tqdm'?"), ("", ""), (True, "")])
def test_a_kind_that_does_not_exist(kind, hint):
    with pytest.raises(RecorderError, match="one of 'auto', 'rich', 'tqdm' and None") as caught:
        make_progress(kind, "v")
    assert str(caught.value).endswith(f"None.{hint}")


def test_tqdm_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PluginNotInstalledError, match="pip install tqdm"):
        make_progress("tqdm", "v")
    assert isinstance(make_progress("auto", "v"), NoProgress)


# Notebooks: there is none here, so bars are text


class ZMQInteractiveShell:
    """What IPython calls the shell of a notebook."""


@pytest.fixture
def notebook(monkeypatch):
    def notebook():
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
        monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
        for name in QUIET:
            monkeypatch.delenv(name, raising=False)
        return stream

    return notebook


def test_a_notebook_has_a_bar_for_each_loop(notebook):
    stream = notebook()
    threads = threading.active_count()
    progress = make_progress("auto", "20251121-070000-4f2a")
    for epoch in range(2):
        progress.begin(f"epoch {epoch}", 2)
        progress.advance({"loss": 0.5})
        progress.begin("validate", None)
        progress.advance({"loss": 0.25})
        progress.end()
        progress.advance({"loss": 0.125})
        progress.end()
    progress.close()
    assert threading.active_count() == threads
    text = stream.getvalue()
    assert re.search(r"validate: 1it \[00:00, .*loss=0.25, v_num=4f2a\]", text)
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    kept = [line for line in lines if "epoch" in line]
    assert re.fullmatch(r"epoch 1: 100%\|[█#]+\| 2/2 \[.*, loss=0.125, v_num=4f2a\]", kept[-1]), kept


def test_a_notebooks_bars_are_not_recorded(notebook):
    notebook()
    found = []
    capture = Capture(lambda text, stream: found.append(text))
    progress = make_progress("tqdm", "v")
    progress.begin("epoch 0", 2)
    progress.advance({})
    print("heard", file=sys.stderr)
    progress.end()
    progress.close()
    capture.close()
    assert found == ["heard"]


@pytest.mark.parametrize("kind", ["rich", None])
def test_a_notebook_has_no_bar_of_rich(notebook, kind):
    notebook()
    assert isinstance(make_progress(kind, "v"), NoProgress)


def test_a_notebook_in_ci(notebook, monkeypatch):
    notebook()
    monkeypatch.setenv("CI", "1")
    assert isinstance(make_progress("auto", "v"), NoProgress)


# Metrics


def test_numbers_as_they_are_shown():
    metrics = ShownMetrics()
    metrics.given = {
        "float": 0.123456, "small": 1e-7, "big": 123456.0, "whole": 3, "bool": True, "nan": float("nan"),
        "tensor": torch.tensor([0.25]), "count": torch.tensor(7), "text": "no number", "several": torch.ones(2),
    }  # fmt: skip
    metrics.read()
    assert metrics.texts() == [
        "float=0.1235", "small=1e-07", "big=1.235e+05", "whole=3", "bool=1", "nan=nan", "tensor=0.25", "count=7",
    ]  # fmt: skip


class OnDevice:
    """A tensor of an accelerator, of which nobody may want the value."""

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
    metrics = ShownMetrics()
    metrics.given = {"loss": OnDevice(1.0), "lr": 0.1}
    metrics.read()
    metrics.given = {"loss": OnDevice(2.0), "lr": 0.2}
    metrics.read()
    assert metrics.texts() == ["lr=0.2"]
    assert len(Copy.made) == 1, "one at a time"
    Copy.made[0].is_ready = True
    metrics.read()
    assert metrics.texts() == ["loss=1", "lr=0.2"]
    Copy.made[1].is_ready = True
    metrics.given = {"lr": 0.3, "loss": OnDevice(3.0)}
    metrics.read()
    assert metrics.texts() == ["lr=0.3", "loss=2"]


class Screen:
    def __init__(self, error=None):
        self.error = error
        self.shown = []
        self.closed = 0

    def show(self, loops, metrics):
        if self.error is not None:
            raise self.error
        self.shown.append(([(loop.description, loop.done) for loop in loops], list(metrics)))

    def close(self):
        self.closed += 1


def test_metrics_are_looked_into_only_when_it_is_time(monkeypatch):
    class Metrics(dict):
        read = 0

        def items(self):
            self.read += 1
            return super().items()

    clock = [0.0]
    monkeypatch.setattr("rankzero.recorder.progress_loops.monotonic", lambda: clock[0])
    screen, metrics = Screen(), Metrics(loss=0.5)
    progress = LoopProgress(screen)
    progress.begin("epoch 0", 99)
    progress.advance(metrics)  # the first is shown
    for _ in range(50):
        progress.advance(metrics)
    assert metrics.read == 1
    clock[0] = 0.2
    progress.advance(metrics)
    progress.advance(metrics)
    assert metrics.read == 2
    assert screen.shown[-1] == ([("epoch 0", 52)], ["loss=0.5"])


def test_the_loops_that_are_shown():
    screen = Screen()
    progress = LoopProgress(screen)
    for epoch in range(2):
        progress.begin(f"epoch {epoch}", 1)
        progress.end()
        progress.begin("validate", 1)
        progress.end()
    assert [[name for name, _ in loops] for loops, _ in screen.shown] == [
        each for epoch in ("epoch 0", "epoch 1") for each in ([epoch], [epoch], [epoch, "validate"], [epoch])
    ]


# Trouble


def test_a_bar_that_fails_is_off_and_says_so_once():
    screen = Screen(OSError("the terminal is gone"))
    progress = LoopProgress(screen)
    with pytest.warns(UserWarning, match=r"progress bar is off: .*OSError: the terminal is gone"):
        progress.begin("epoch 0", 2)
    progress.advance({})  # any further warning would be an error
    progress.end()
    progress.begin("epoch 1", 2)
    progress.close()
    assert screen.closed == 1


def test_a_metric_that_fails_does_not_reach_training():
    class Broken(dict):
        def items(self):
            raise RuntimeError("no items")

    progress = LoopProgress(Screen())
    progress.begin("epoch 0", 2)
    with pytest.warns(UserWarning, match="no items"):
        progress.advance(Broken())
    progress.advance({})


def test_a_warning_that_was_made_an_error_does_not_reach_training(recwarn):
    progress = LoopProgress(Screen(ValueError("no")))
    progress.begin("epoch 0", 2)  # pytest makes warnings errors
    progress.end()


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_standard_error(run, kind, tmp_path):
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


def test_a_terminal_that_hangs_up(terminal, tmp_path):
    shell = terminal()
    body = """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        loop(progress, "epoch 0", 2, 2, 0.2)
        Path(os.environ["MARK"]).with_name("ready").touch()
        while not Path(os.environ["MARK"]).with_name("gone").exists():
            time.sleep(0.01)
        loop(progress, "epoch 1", 3, 3, 0.2)
        progress.close()
        Path(os.environ["MARK"]).touch()
    """
    shell.start("import signal\nfrom pathlib import Path\n" + textwrap.dedent(body), {"MARK": str(tmp_path / "mark")})
    shell.read("2/2")
    os.close(shell.primary)
    shell.primary = None
    (tmp_path / "gone").touch()
    assert shell.process.wait(A_WHILE) in (0, 120)  # 120: Python could not flush what it printed last
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_leaves_the_terminal_as_it_was(terminal, kind):
    shell = terminal().start('loop(progress, "epoch 0", 10_000, 10_000, 0.02)', {"KIND": kind})
    shell.read("hits=")
    shell.process.send_signal(signal.SIGINT)
    shell.read()
    assert shell.process.wait(A_WHILE) == -signal.SIGINT
    assert shell.text.count("\x1b[?25l") <= shell.text.count("\x1b[?25h")
    lines = shell.screen()
    assert lines[0].startswith("Traceback")
    assert "KeyboardInterrupt" in lines
    assert not any("━" in line or "█" in line for line in lines[:-1])


def test_a_signal_handler_may_print(run):
    body = """
        import signal
        signal.signal(signal.SIGALRM, lambda *_: print("signal"))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        progress.begin("epoch 0", None)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            progress._due = 0.0
            progress.advance({"loss": 1.0})
        signal.setitimer(signal.ITIMER_REAL, 0)
        progress.close()
        print("done")
    """
    assert run(body).screen()[-1] == "done"


def test_printing_in_the_middle_of_drawing_does_not_wait_for_itself(monkeypatch):
    """As a signal handler does."""

    class Stream(io.StringIO):
        is_interrupted = False

        def isatty(self):
            return True

        def write(self, text):
            if self.is_interrupted:
                self.is_interrupted = False
                print("signal", file=self)
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", stream := Stream())
    line = TerminalLine(lambda description, *_: description)
    line.show([ShownLoop("epoch 0", None)], [])
    stream.is_interrupted = True
    drawing = threading.Thread(target=line.show, args=([ShownLoop("epoch 1", None)], []), daemon=True)
    drawing.start()
    drawing.join(A_WHILE)
    assert not drawing.is_alive()
    line.close()
    assert "signal\n" in stream.getvalue()


def test_nothing_is_drawn_while_another_thread_prints(monkeypatch):
    class Stream(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", stream := Stream())
    line = TerminalLine(lambda description, *_: description)
    line.before_print()
    line.show([ShownLoop("epoch 0", None)], [])
    assert stream.getvalue() == ""
    line.after_print(stream, "printed\n")
    assert stream.getvalue() == "epoch 0"
    line.close()


def test_a_print_that_waits_keeps_nobody_from_printing():
    """A logging handler holds its lock while it prints, and what hears prints may want that lock."""
    line = TerminalLine(lambda *_: "")
    line.before_print()
    other = threading.Thread(target=line.before_print, daemon=True)
    other.start()
    other.join(A_WHILE)
    assert not other.is_alive()

"""`rankzero top`: what it shows of real runs, its keys, what it reads, and the terminal that it leaves."""

import asyncio
import html
import importlib.util
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from types import SimpleNamespace

import pytest
from servers.down_logger import DownLogger
from waiting import A_WHILE

import rankzero
from rankzero.cli import app as cli
from rankzero.delivery.active_couriers import at_work, stop
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import DefineMetric, Finish, Metrics, Start, encode
from rankzero.journal.opening import compress
from rankzero.reader import watching
from rankzero.reader.index import run_index
from rankzero.reader.watching import WatchedRuns
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import Position, save_position
from rankzero.rundir.writer_lock import WriterLock

pytest.importorskip("textual")

HOSTILE = "[red]:ok:[/]up\x1b[2J\x1b]0;title\x07\u202e:joy:" + "x" * 10_000
TEXT, CELL = re.compile(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>'), 12.2  # in Textual's pictures


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A directory of runs; those that are running stop at the end of the test."""
    monkeypatch.setattr(watching, "_SEARCHED_EVERY", 0.5)
    locks = []

    def write(name, *events, running=True, run_id=None, loggers=None):
        run_dir = tmp_path / "digits" / (run_id or f"id-of-{len(locks)}")
        run_dir.mkdir(parents=True, exist_ok=True)
        began = time.time() - 100
        info = RunInfo(run_dir.name, name, "digits", str(run_dir), started=began)
        append(run_dir, Start(began, info, loggers or {}), *events)
        locks.append(WriterLock(run_dir) if running else None)
        return run_dir

    write.directory = tmp_path
    write.locks = locks
    yield write
    for lock in filter(None, locks):
        lock.release()


def append(run_dir, *events):
    with open(run_dir / JOURNAL, "ab") as file:
        file.writelines(encode(event) for event in events)


def steps(count, every=1.0, **metrics):
    """Return a row for each of so many steps; the last one is of now."""
    began = time.time() - (count - 1) * every
    return [Metrics(began + step * every, step, {"train/loss": 1 / (step + 1), **metrics}) for step in range(count)]


class Screen:
    """The program in a terminal of Textual's that only tests see."""

    def __init__(self, app, pilot):
        self.app, self.press = app, pilot.press
        self._pilot = pilot

    async def resize(self, width, height):
        await self._pilot.resize_terminal(width, height)

    @property
    def text(self):
        lines = {}
        for x, y, text in TEXT.findall(self.app.export_screenshot()):
            line = lines.get(y, "").ljust(round(float(x) / CELL))
            lines[y] = line + html.unescape(text).replace("\xa0", " ")
        return "\n".join(lines.values())  # the first one is the title of the picture

    async def shows(self, *parts, without=()):
        """Wait until the screen has all of these parts."""
        deadline = time.monotonic() + A_WHILE
        while not (all(part in self.text for part in parts) and not any(part in self.text for part in without)):
            assert time.monotonic() < deadline, f"{parts} did not appear, or {without} stayed:\n{self.text}"
            await self._pilot.pause(0.05)


def on_screen(directory, use, size=(160, 40)):
    """Run the program, and ``use`` with its screen."""
    from rankzero.cli.top_contents import contents
    from rankzero.cli.top_screen import Top

    async def main():
        app = Top(WatchedRuns(directory), contents)
        async with app.run_test(size=size) as pilot:
            await use(Screen(app, pilot))

    asyncio.run(main())


def test_what_is_read_while_the_program_ends_is_not_drawn(runs):
    runs("amber-otter", *steps(3))

    async def use(screen):
        await screen.shows("amber-otter")
        await screen.app.query("#title, #runs").remove()
        screen.app._draw()
        await screen.press("q")

    on_screen(runs.directory, use)


def test_a_run_as_it_trains(runs):
    system = {"process/cpu_percent": 250.0, "process/memory_gb": 3.25, "cpu_percent": 41.0}
    gpus = {"gpu0/utilization_percent": 90, "node1/gpu0/utilization_percent": 70, "gpu0/memory_percent": 55.0}
    measured = Metrics(time.time(), None, {f"system/{name}": value for name, value in (system | gpus).items()})
    rows = steps(41, 0.5, accuracy=0.75)
    run_dir = runs("amber-otter", DefineMetric(0.0, "accuracy", goal="maximize"), *rows, measured)

    async def use(screen):
        await screen.shows("amber-otter", "1 running", "80 %", "55 %", "250 %", "3.2 GB", "machine: cpu 41 %")
        assert re.search(r"amber-otter +40 +2 +\d min \d+ s", screen.text)
        assert re.search("accuracy 0.75 ▁{8} train/loss 0.02439 █▃▂▁", screen.text)
        append(run_dir, Metrics(time.time(), 1234, {"train/loss": 0.125, "val/loss": 2.5}))
        await screen.shows("train/loss    0.125    1,234", "val/loss        2.5")
        append(run_dir, Finish(time.time(), "failed"))
        await screen.shows("failed", "0 running", "1 ended")

    on_screen(runs.directory, use)


def test_a_narrow_screen_has_what_matters_most(runs):
    loggers = {"tensorboard": {"plugin": "tensorboard"}}
    run_dir = runs("a-very-long-name-of-a-run", *steps(41, 0.5, accuracy=0.123456), loggers=loggers)

    async def use(screen):
        await screen.shows("a-very-long-n… ", " tensorboard ", "train/loss 0.02439 █▃▂▁", "42 behind")
        assert "accuracy 0.1235" not in screen.text
        assert "gpu" not in screen.text
        await screen.resize(160, 40)
        await screen.shows("a-very-long-name-of… ", "train/loss 0.02439", "accuracy 0.1235")
        append(run_dir, Finish(time.time(), "failed", "RuntimeError: [no] memory"))
        await screen.shows("RuntimeError: [no] memory")
        await screen.resize(80, 24)
        await screen.shows("a-very-long-n… ", "failed")
        await screen.press("slash", *"failed")
        await screen.shows("runs with: failed", "a-very-long-n… ")

    on_screen(runs.directory, use, size=(80, 24))


def test_lines_of_facts_end_between_measurements(runs):
    gpus = [f"system/gpu0/{name}" for name in ("memory_gb", "memory_percent", "power_watts", "temperature_celsius")]
    runs("amber-otter", *steps(3), Metrics(time.time(), None, dict.fromkeys(gpus, 55.5)))

    async def use(screen):
        await screen.shows("gpu0: memory 55.5 GB")
        lines = [line.strip() for line in screen.text.splitlines()]
        parts = {part for line in lines for part in line.split(" · ")}
        assert {"memory 55.5 %", "temperature 55.5 °C"} <= parts
        assert [line for line in lines if line.endswith("·")] == []

    on_screen(runs.directory, use, size=(36, 40))


def test_the_states_of_trackers(runs, monkeypatch):
    monkeypatch.chdir(runs.directory)
    with rankzero.start(["csv", DownLogger()], project="digits", name="real", finish_timeout=0, down_timeout=0) as run:
        for step in range(20):
            run.log_metrics({"loss": step}, step)

        async def use(screen):
            await screen.shows("down retrying, 20 behind", "csv ✓", "connection refused")
            save_position(run.dir, "csv", Position(offset=1 << 30, rejected=3))
            await screen.shows("csv 3 rejected · down retrying, 20 behind")

        on_screen(runs.directory, use)
    for courier in at_work(run.dir):
        assert stop(courier, A_WHILE)


@pytest.mark.slow
def test_runs_appear_resume_crash_and_vanish(runs):
    ended = runs("ended", *steps(3), Finish(time.time(), "success"), running=False)
    old = runs("old", *steps(3), Finish(time.time(), "success"), running=False)
    os.utime(old / JOURNAL, (1e9, 1e9))

    async def use(screen):
        await screen.shows("0 running · 1 ended", "no run is running")
        await screen.press("a")
        await screen.shows("ended", "success", "train/loss")
        first = runs("first", *steps(5), run_id="first")
        runs("second", *steps(5))
        await screen.shows("first", "second", "2 running")
        runs.locks.pop().release()
        await screen.shows("crashed", "1 running")
        append(old, Start(time.time(), RunInfo(old.name, "old", "digits", str(old)), resumed=True), *steps(7))
        runs.locks.append(WriterLock(old))
        await screen.shows("old", "2 running")
        shutil.rmtree(first)
        shutil.rmtree(ended)
        await screen.shows("old", "second", without=["first", "success"])

    on_screen(runs.directory, use)


def test_what_hangs_and_what_other_machines_train(runs):
    long_ago = [Metrics(time.time() - 600 + step, step, {"loss": 1.0}) for step in range(20)]
    runs("hangs", *long_ago)
    runs("slow", *steps(4, every=120.0)[:-1])
    elsewhere = runs("elsewhere", *steps(50), running=False)
    (elsewhere / "writer.lock").write_text('{"host": "node7", "boot": "another", "pid": 1}')

    async def use(screen):
        await screen.shows("3 running", "idle 9 min", "elsewhere")
        assert re.search(r"slow +2 +0.008333", screen.text)

    on_screen(runs.directory, use)


def test_no_name_can_draw_on_the_screen(runs):
    runs(HOSTILE, *steps(3, **{HOSTILE: 1.0}))
    runs("harmless", *steps(3))

    async def use(screen):
        await screen.shows("harmless", r"[red]:ok:[/]up\x1b[…")
        await screen.press("down")
        shown = r"[red]:ok:[/]up\x1b[2J\x1b]0;title\x07\u"
        await screen.shows(f"{shown}202e:joy:xxx", f"{shown}…")
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", screen.text)

    on_screen(runs.directory, use)


@pytest.mark.slow
def test_damaged_compressed_and_unreadable_runs(runs):
    damaged = runs("damaged", *steps(3))
    with open(damaged / JOURNAL, "ab") as file:
        file.write(b'{"type":"metr\x00\n')
    compress(runs("small", *steps(3), Finish(time.time(), "success"), running=False) / JOURNAL)
    broken = runs("broken", run_id="broken-zst", running=False)
    (broken / JOURNAL).rename(broken / f"{JOURNAL}.zst")

    async def use(screen):
        await screen.press("a")
        await screen.shows("damaged", "small", "broken-zst", "unreadable")
        for name, says in (
            ("small", "train/loss"),
            ("damaged", "skipped 1 damaged line"),
            ("broken", ".zst is damaged"),
        ):
            await screen.press("slash", *name, "enter")
            await screen.shows(says)
            await screen.press("escape")

    on_screen(runs.directory, use)


@pytest.mark.slow
def test_keys(runs):
    runs("brisk-heron", *steps(3, **{"val/acc": 0.5}), run_id="a")
    runs("calm-owl", *steps(3), run_id="b")

    async def use(screen):
        await screen.shows("brisk-heron", "calm-owl · digits")
        await screen.press("down")
        await screen.shows("brisk-heron · digits", "val/acc")
        newest = runs("dapper-fox", *steps(3), run_id="c")
        await screen.shows("dapper-fox", "brisk-heron · digits")  # the same run is selected
        await screen.press("slash", *"DIG her")
        await screen.shows("brisk-heron", without=["calm-owl", "dapper-fox"])
        await screen.press("enter", "tab", "slash", *"acc")
        await screen.shows("val/acc", without=["\n train/loss"])
        await screen.press("escape")
        await screen.shows("calm-owl", "dapper-fox", "\n train/loss", "\n val/acc")
        await screen.press("slash", *"nothing has this")
        await screen.shows("no run has these words", "runs with: nothing has this", without=["\n calm-owl"])
        await screen.press("escape", "q")
        assert screen.app.return_code == 0
        assert newest.is_dir()

    on_screen(runs.directory, use)


@pytest.mark.slow
def test_a_hundred_runs_on_a_small_terminal(runs):
    for number in range(100):
        runs(f"run-{number:02}", *steps(3, **{f"metric-of-{number:02}": 1.0}))

    async def use(screen):
        await screen.shows("100 running", "run-99", "metric-of-99")
        await screen.press("end")
        await screen.press("pagedown", *["pagedown"] * 20)
        await screen.shows("run-00", "metric-of-00", without=["run-99"])
        assert {len(line) for line in screen.text.splitlines()[1:]} <= {*range(81)}
        assert len(screen.text.splitlines()) <= 25

    on_screen(runs.directory, use, size=(80, 24))


def test_only_what_is_new_is_read(runs, monkeypatch):
    read, opened = [], []
    lines_of, index = run_index.complete_lines, watching.RunIndex

    def counted(path, end=None, start=0):
        for chunk in lines_of(path, end, start):
            read.append(len(chunk))
            yield chunk

    monkeypatch.setattr(run_index, "complete_lines", counted)
    monkeypatch.setattr(watching, "RunIndex", lambda run_dir: opened.append(run_dir.name) or index(run_dir))
    dirs = [runs(f"run-{number}", *steps(50)) for number in range(5)]
    done = runs("done", *steps(50), Finish(time.time(), "success"), running=False)
    old = runs("old", *steps(50), Finish(time.time(), "success"), running=False)
    os.utime(old / JOURNAL, (1e9, 1e9))
    watched = WatchedRuns(runs.directory)
    list(watched.update())
    assert sum(read) == sum((each / JOURNAL).stat().st_size for each in (*dirs, done))
    assert {run.summary.info.name for run in watched.runs.values()} == {
        *(f"run-{number}" for number in range(5)),
        "done",
    }
    read.clear()
    opened.clear()
    new = steps(2)
    append(dirs[2], *new)
    for _ in range(3):
        watched._search_at = 0
        list(watched.update())
    assert (sum(read), opened) == (sum(len(encode(event)) for event in new), [])


def test_a_courier_has_time_until_the_next_update(runs):
    run_dir = runs("amber-otter", *steps(3))
    save_position(run_dir, "csv", Position(offset=(run_dir / JOURNAL).stat().st_size, line=4))
    watched = WatchedRuns(runs.directory)
    behind = []
    for new in ([], steps(2), []):
        append(run_dir, *new)
        list(watched.update())
        behind.append(watched.runs[run_dir].deliveries["csv"].behind)
    assert behind == [0, 0, 2]


def run_in_terminal(directory, end):
    """Run the command in a terminal until it shows a run, end it, and return its status and all that it wrote."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "rankzero.cli.app", "top", str(directory)]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(command, **streams, env={**os.environ, "TERM": "xterm-256color"}, start_new_session=True)
    written = b""
    while b"amber-otter" not in written:
        written += os.read(ours, 65536)
    end(process, ours)
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.1)[0]:
            written += os.read(ours, 65536)
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    return process.returncode, written


@pytest.mark.parametrize(
    "end",
    [
        lambda process, terminal: os.write(terminal, b"q"),
        lambda process, terminal: os.write(terminal, b"\x03"),
        lambda process, terminal: process.send_signal(signal.SIGTERM),
    ],
    ids=["q", "Ctrl-C", "SIGTERM"],
)
def test_the_terminal_is_left_as_it_was(runs, end):
    runs("amber-otter", *steps(3))
    status, written = run_in_terminal(runs.directory, end)
    assert status == 0
    assert written.rindex(b"\x1b[?1049l") > written.rindex(b"amber-otter")  # back from the alternate screen
    assert written.rindex(b"\x1b[?25h") > written.rindex(b"amber-otter")  # the cursor is shown
    assert b"\x1b[?1000l" in written  # the mouse is the terminal's


def test_it_ends_when_its_terminal_is_gone(runs):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rankzero.cli.app", "top", str(runs.directory)]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(command, **streams, env={**os.environ, "TERM": "xterm"}, start_new_session=True)
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    try:
        assert process.wait(A_WHILE) == 1
    finally:
        process.kill()


def test_a_mistake_in_the_program_ends_it(runs, monkeypatch):
    from rankzero.cli.top_screen import Top

    def broken(watched, asked):
        raise ZeroDivisionError("by mistake")

    async def main():
        app = Top(WatchedRuns(runs.directory), broken)
        async with app.run_test():
            while app.return_code is None:
                await asyncio.sleep(0.01)
        return app

    app = asyncio.run(asyncio.wait_for(main(), A_WHILE))
    assert (app.return_code, str(app.failure)) == (1, "by mistake")


def test_without_a_terminal_or_a_directory(monkeypatch, capsys, tmp_path):
    assert cli.main(["top"]) == 1
    assert capsys.readouterr().err == "rankzero: rankzero top needs a terminal; to print runs once, use: rankzero ls\n"
    for name in ("__stdin__", "__stdout__", "__stderr__"):
        monkeypatch.setattr(sys, name, SimpleNamespace(isatty=lambda: True))
    monkeypatch.setenv("TERM", "xterm")
    assert cli.main(["top", str(tmp_path / "none")]) == 2
    assert "there is no run" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["top"]) == 1
    assert 'rankzero top needs textual: pip install "rankzero[top]"' in capsys.readouterr().err

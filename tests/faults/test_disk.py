"""A full disk, a missing disk and a closed file: training continues, and earlier events are safe."""

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

import rankzero
from rankzero.errors import ConfigError
from rankzero.events.structs import Lost, Metrics, Params, encode
from rankzero.journal import append
from rankzero.journal.append import Journal
from rankzero.journal.tail import read_events
from rankzero.reader.run_data import read_run
from rankzero.rundir.layout import JOURNAL

HOG = """
import json, os, random, resource, signal, sys, warnings
import rankzero, rankzero.journal.backlog

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does by itself: a write fails with EFBIG instead
said = []
warnings.showwarning = lambda message, *rest: said.append(str(message))
warnings.simplefilter("always")

directory, room = sys.argv[1], int(sys.argv[2])
rankzero.journal.backlog.MOST_BYTES = int(sys.argv[3])
run = rankzero.start(dir=directory, run_id="r1", delivery="off")
journal = run.dir / "journal.jsonl"
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]


def steps(first, last):
    for step in range(first, last):
        run.log_metrics({"loss": step / 3, "nan": float("nan") if step % 2 else 1.0}, step)


steps(0, 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + room, hard))
steps(10, 40)
full = journal.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
steps(40, 50)
run.finish()
print(json.dumps({"said": said, "full": full.decode(), "step": run.step}))
"""


def metrics_and_losses(path):
    events = [event for _, event in read_events(path)]
    return (
        [event for event in events if isinstance(event, Metrics)],
        [event for event in events if isinstance(event, Lost)],
    )


def expected(step):
    return {"loss": step / 3, "nan": pytest.approx(float("nan"), nan_ok=True) if step % 2 else 1.0}


@pytest.mark.parametrize("room", [0, 1, 82, 83, 300])
@pytest.mark.parametrize("most_bytes", [1 << 20, 1000])
def test_full_disk(tmp_path, room, most_bytes):
    """``room`` bytes are left when the disk is full, so the last line is torn anywhere, or not at all."""
    command = [sys.executable, "-c", HOG, tmp_path, str(room), str(most_bytes)]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    is_all_kept = most_bytes > 1000
    assert len(told["said"]) == 1 + (not is_all_kept)
    assert "File too large" in told["said"][0] or "only a part" in told["said"][0]
    assert all("Training continues" in each for each in told["said"])
    assert told["step"] == 49
    journal = tmp_path / "default" / "r1" / JOURNAL
    assert journal.read_text().startswith(told["full"])
    rows, losses = metrics_and_losses(journal)
    kept = [row.step for row in rows]
    assert kept == sorted(kept)
    assert [*range(10), *range(40, 50)] == [step for step in kept if not 10 <= step < 40]
    for row in rows:
        assert row.numbers() == expected(row.step)
    assert 50 - len(kept) == sum(each.count for each in losses)
    assert bool(losses) is not is_all_kept
    for each in losses:
        assert "File too large" in each.reason
        assert each.since == pytest.approx(rows[9].time, abs=60)
    assert read_run(journal.parent).damaged == 0


@pytest.fixture
def limit(tmp_path):
    """Limit the size of files in this process: further writes are truncated, then refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (before[1] if size is None else size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def line(step):
    return encode(Params(1.0, {"step": step}))


def kept_and_lost(path):
    events = [event for _, event in read_events(path)]
    kept = [event.values["step"] for event in events if isinstance(event, Params)]
    return kept, [event.count for event in events if isinstance(event, Lost)]


@pytest.fixture
def small(monkeypatch):
    """Limit the bytes that wait in memory."""
    return lambda size: monkeypatch.setattr("rankzero.journal.backlog.MOST_BYTES", size)


@pytest.mark.parametrize("more", range(0, 250, 31))
@pytest.mark.parametrize("most_bytes", [0, 100, 1000])
def test_full_twice_counts_every_loss_once(tmp_path, limit, small, more, most_bytes):
    """Space comes back in small pieces, so that also the report of what was lost is torn, anywhere."""
    small(most_bytes)
    for room in range(0, 250, 3):
        path = tmp_path / f"{room}.jsonl"
        journal = Journal(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for round, size in enumerate((room, room + more, None)):
                limit(size)
                for step in range(4):
                    journal.append(line(4 * round + step))
            assert journal.flush(0.0)
        kept, lost = kept_and_lost(path)
        assert kept == sorted(set(kept))
        assert len(kept) + sum(lost) == 12, room
        assert bool(lost) <= len(caught) <= 4
        assert path.read_bytes().endswith(b"\n")
        if most_bytes == 1000:
            assert not lost
            assert [json.loads(each) for each in path.read_bytes().splitlines() if each]  # no fragments are left


def fill(journal):
    """Make writes to the journal's file fail; return a function that repairs it."""
    disk, full = os.dup(journal.fd), os.open("/dev/full", os.O_RDWR)
    os.dup2(full, journal.fd)
    os.close(full)

    def mend():
        os.dup2(disk, journal.fd)
        os.close(disk)

    return mend


def test_no_space_left_on_device(tmp_path, caplog, small):
    """While /dev/full refuses writes, events wait in memory; then they are written in order, and lost ones counted."""
    small(10 * len(line(1)))
    path = tmp_path / JOURNAL
    journal = Journal(path)
    journal.append(line(0))
    mend = fill(journal)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, 100):
            journal.append(line(step))
            assert not journal.flush(0.0)
    kept, lost = (str(each.message) for each in caught)
    assert "No space left on device. Training continues, and new events are kept in memory" in kept
    assert "new events are lost" in lost
    mend()
    with caplog.at_level(logging.WARNING, "rankzero.journal"):
        journal.append(line(100))
    kept, (lost,) = kept_and_lost(path)
    assert kept == [*range(100 - lost), 100]
    assert 88 <= lost <= 90
    assert f"{lost} log calls were lost" in caplog.text


def test_a_second_full_disk_is_warned_of_again(tmp_path, limit, caplog):
    journal = Journal(tmp_path / JOURNAL)
    for step in (0, 2):
        limit(0)
        with pytest.warns(UserWarning, match="cannot write"):
            journal.append(line(step))
        limit(None)
        journal.append(line(step + 1))
        assert "nothing was lost" in caplog.text
        caplog.clear()
    assert kept_and_lost(tmp_path / JOURNAL) == ([0, 1, 2, 3], [])


@pytest.mark.parametrize("has_newline", [False, True])
def test_another_process_that_writes_behind_a_fragment_loses_nothing(tmp_path, limit, has_newline):
    """One of two writers tears its line; the other never had a full disk."""
    path = tmp_path / JOURNAL
    torn, other = Journal(path), Journal(path)
    torn.append(line(0))
    limit(path.stat().st_size + (len(line(1)) - 1 if has_newline else 10))
    with pytest.warns(UserWarning, match="only a part"):
        torn.append(line(1))
    limit(None)
    (Journal(path) if has_newline else other).append(line(2))  # one that is opened now sees that a newline lacks
    other.append(line(3))
    torn.append(line(4))
    kept, lost = kept_and_lost(path)
    assert sorted(kept) == [0, 1, 2, 3, 4]
    assert (kept[1:], lost) == ([1, 2, 3, 4] if has_newline else [2, 3, 1, 4], [])


def test_a_forked_child_writes_and_reports_only_its_own(tmp_path, limit, small):
    small(len(line(1)))
    path = tmp_path / JOURNAL
    journal = Journal(path)
    limit(0)
    with pytest.warns(UserWarning, match="are kept in memory"):
        journal.append(line(0))
    with pytest.warns(UserWarning, match="are lost"):
        journal.append(line(9))
    for has_lost in (True, False):
        child = os.fork()
        if not child:
            if has_lost:
                journal.append(line(1))
                journal.append(line(9))
            limit(None)
            journal.append(line(2))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    limit(None)
    journal.append(line(3))
    assert kept_and_lost(path) == ([1, 2, 2, 0, 3], [1, 1])


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_run_that_ends_on_a_full_disk(tmp_path, limit, monkeypatch, comes_back):
    monkeypatch.setattr("rankzero.run.owner._FULL_DISK_TIMEOUT", 60.0 if comes_back else 0.1)
    run = rankzero.start(dir=tmp_path, delivery="off")
    run.log_metrics({"loss": 0.5}, 0)
    limit((run.dir / JOURNAL).stat().st_size)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in (1, 2):
            run.log_metrics({"loss": 0.5}, step)
        assert not run.flush(0.0)
        if comes_back:
            threading.Timer(0.2, limit, [None]).start()
        run.finish()
    said = [str(each.message) for each in caught]
    rows, _ = metrics_and_losses(run.dir / JOURNAL)
    assert [row.step for row in rows] == ([0, 1, 2] if comes_back else [0])
    assert ("3 events of the run could not be written" in " ".join(said)) is not comes_back


def test_where_the_console_is_recorded_a_loss_counts_once(tmp_path, limit, small, capsys):
    """The warnings are printed, and what is printed is recorded: that must not be one more loss."""
    small(0)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        with rankzero.start(dir=tmp_path, delivery="off") as run:
            run.record_console()
            limit((run.dir / JOURNAL).stat().st_size)
            for step in range(3):
                run.log_metrics({"loss": 0.5}, step)
            limit(None)
            run.log_metrics({"loss": 0.5}, 3)
    rows, losses = metrics_and_losses(run.dir / JOURNAL)
    assert ([row.step for row in rows], [each.count for each in losses]) == ([3], [3])


def test_a_file_that_does_not_fit_costs_a_warning_and_leaves_nothing(tmp_path, limit):
    with rankzero.start(dir=tmp_path, delivery="off") as run:
        source = tmp_path / "large.bin"
        source.write_bytes(b"x" * 200_000)
        limit(100_000)
        with pytest.warns(UserWarning, match=r"run\.log_artifact.*File too large"):
            run.log_artifact(source)
        limit(None)
        run.log_metrics({"loss": 0.5}, 1)
        assert not [path for path in (run.dir / "media").rglob("*") if path.is_file()]
        assert [row.step for row in metrics_and_losses(run.dir / JOURNAL)[0]] == [1]


# The directory goes away


def test_directory_removed_under_the_run(tmp_path):
    run = rankzero.start(dir=tmp_path, delivery="off")
    run.log_metrics({"loss": 0.5}, 1)
    shutil.rmtree(run.dir)
    run.log_metrics({"loss": 0.5}, 2)
    run.log_image("picture", np.zeros((2, 2)))
    run.log_hyperparams({"lr": 0.1})
    run.finish()
    assert run.step == 2


def test_a_disk_that_is_nearly_full_is_warned_of_once(tmp_path, monkeypatch):
    free = 1 << 40
    monkeypatch.setattr(os, "fstatvfs", lambda fd: SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=1 << 41))
    journal = Journal(tmp_path / JOURNAL)
    journal.check()
    free = 300 << 20
    journal.check()  # it checks only now and then
    monkeypatch.setattr(append, "_LOOK_EVERY", 0.0)
    journal = Journal(tmp_path / JOURNAL)
    with pytest.warns(UserWarning, match=r"nearly full: 300 MiB are free\..*rankzero clean"):
        journal.check()
    journal.check()


def test_deleted_journal_is_warned_of_once(tmp_path):
    journal = Journal(tmp_path / JOURNAL)
    journal.check()
    (tmp_path / JOURNAL).unlink()
    with pytest.warns(UserWarning, match="was deleted"):
        journal.check()
    journal.check()


# Unwritable directories


@pytest.mark.parametrize("place", ["file", "below a file", "/proc", "/dev/full"])
def test_directory_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").write_text("a regular file")
    directory = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "runs"}.get(place, place)
    with pytest.raises(ConfigError, match=r"cannot be written: .*dir= or RANKZERO_DIR"):
        rankzero.start(dir=directory, delivery="off")


def test_a_start_that_fails_leaves_the_run_free(tmp_path, limit):
    """Not even the lock's file can be written; then there is space, and the same process tries again."""
    limit(0)
    with pytest.raises(ConfigError, match="File too large"):
        rankzero.start(dir=tmp_path, run_id="r1", delivery="off")
    limit(None)
    assert [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))] == []
    rankzero.start(dir=tmp_path, run_id="r1", delivery="off").finish()

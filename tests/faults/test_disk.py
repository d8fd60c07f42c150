"""A disk that is full, gone or closed to us: training goes on, and what was written is intact."""

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import rankzero
from rankzero.errors import ConfigError
from rankzero.events import Lost, Metrics, Params, encode
from rankzero.journal import JOURNAL, Journal, read_events

HOG = """
import json, os, random, resource, signal, sys, warnings
import rankzero

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does by itself: a write fails with EFBIG instead
said = []
warnings.showwarning = lambda message, *rest: said.append(str(message))
warnings.simplefilter("always")

directory, room = sys.argv[1], int(sys.argv[2])
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


@pytest.mark.parametrize("room", [0, 1, 7, 50, 81, 82, 83, 84, 300])
def test_full_disk(tmp_path, room):
    """``room`` bytes are left when the disk is full, so the last line is torn anywhere, or not at all."""
    out = subprocess.run([sys.executable, "-c", HOG, tmp_path, str(room)], stdout=subprocess.PIPE, check=True).stdout
    told = json.loads(out)
    assert len(told["said"]) == 1
    assert "File too large" in told["said"][0] or "only a part" in told["said"][0]
    assert "Training goes on" in told["said"][0]
    assert told["step"] == 49
    journal = tmp_path / "default" / "r1" / JOURNAL
    assert journal.read_text().startswith(told["full"])
    rows, losses = metrics_and_losses(journal)
    kept = [row.step for row in rows]
    assert kept[:10] == list(range(10))
    assert kept[-10:] == list(range(40, 50))
    assert kept == sorted(kept)
    for row in rows:
        assert row.numbers() == expected(row.step)
    (lost,) = losses
    assert lost.count == 50 - len(kept) > 0
    assert "File too large" in lost.reason
    assert lost.since == pytest.approx(rows[9].time, abs=5)


@pytest.fixture
def limit(tmp_path):
    """Set how long a file may be in this process: further writes are cut, then refused."""
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


@pytest.mark.parametrize("more", range(0, 250, 17))
def test_full_twice_counts_every_loss_once(tmp_path, limit, more):
    """Space comes back in small pieces, so that also the report of what was lost is torn, anywhere."""
    for room in range(250):
        path = tmp_path / f"{room}.jsonl"
        journal = Journal(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for size in (room, room + more, None):
                limit(size)
                for _ in range(4):
                    journal.append(line(0))
        kept, lost = kept_and_lost(path)
        assert len(kept) + sum(lost) == 12, room
        assert bool(lost) <= len(caught) <= 2
        assert path.read_bytes().endswith(b"\n")


def test_no_space_left_on_device(tmp_path, caplog, monkeypatch):
    """/dev/full takes nothing; when it does, logging goes on."""
    path = tmp_path / JOURNAL
    journal = Journal(path)
    journal.append(line(0))
    disk, full = journal._fd, os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(journal, "_fd", full)
    with pytest.warns(UserWarning, match=r"No space left on device\. Training goes on") as caught:
        journal.append(line(1))
    for step in range(2, 100):
        journal.append(line(step))
    assert len(caught) == 1
    monkeypatch.setattr(journal, "_fd", disk)
    with caplog.at_level(logging.WARNING, "rankzero.journal"):
        journal.append(line(100))
    assert "99 log calls were lost" in caplog.text
    assert kept_and_lost(path) == ([0, 100], [99])
    os.close(full)


def test_a_second_full_disk_is_said_again(tmp_path, limit):
    journal = Journal(tmp_path / JOURNAL)
    for _ in range(2):
        limit(0)
        with pytest.warns(UserWarning, match="cannot write"):
            journal.append(line(0))
        limit(None)
        journal.append(line(1))
    assert kept_and_lost(tmp_path / JOURNAL) == ([1, 1], [1, 1])


def test_another_process_that_writes_behind_a_fragment_loses_nothing(tmp_path, limit):
    """Of two writers one tears its line; the other never met a full disk."""
    path = tmp_path / JOURNAL
    torn, other = Journal(path), Journal(path)
    torn.append(line(0))
    limit(path.stat().st_size + 10)
    with pytest.warns(UserWarning, match="only a part"):
        torn.append(line(1))
    limit(None)
    other.append(line(2))
    other.append(line(3))
    torn.append(line(4))
    assert kept_and_lost(path) == ([0, 2, 3, 4], [1])


def test_a_forked_child_reports_only_its_own_losses(tmp_path, limit):
    path = tmp_path / JOURNAL
    journal = Journal(path)
    limit(0)
    with pytest.warns(UserWarning, match="cannot write"):
        journal.append(line(0))
    for has_lost in (True, False):
        child = os.fork()
        if not child:
            if has_lost:
                journal.append(line(1))
            limit(None)
            journal.append(line(2))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    limit(None)
    journal.append(line(3))
    assert kept_and_lost(path) == ([2, 2, 3], [1, 1])


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


def test_deleted_journal_is_said_once(tmp_path):
    journal = Journal(tmp_path / JOURNAL)
    journal.check()
    (tmp_path / JOURNAL).unlink()
    with pytest.warns(UserWarning, match="was deleted"):
        journal.check()
    journal.check()


# Nowhere to write to


@pytest.mark.parametrize("place", ["file", "below a file", "/proc", "/dev/full"])
def test_directory_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").write_text("a regular file")
    directory = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "runs"}.get(place, place)
    with pytest.raises(ConfigError, match=r"cannot be written: .*dir= or RANKZERO_DIR"):
        rankzero.start(dir=directory, delivery="off")


def test_a_start_that_fails_leaves_the_run_free(tmp_path, limit):
    """Not even the lock's file can be written; then there is space, and the same process tries again."""
    open_files = len(os.listdir("/proc/self/fd"))
    limit(0)
    with pytest.raises(ConfigError, match="File too large"):
        rankzero.start(dir=tmp_path, run_id="r1", delivery="off")
    limit(None)
    assert len(os.listdir("/proc/self/fd")) == open_files
    rankzero.start(dir=tmp_path, run_id="r1", delivery="off").finish()

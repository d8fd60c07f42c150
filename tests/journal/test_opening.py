"""Compressed journals are read like others, also during compression."""

import os
import random
import sys
from contextlib import suppress

import pytest

from rankzero.errors import PluginNotInstalledError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish
from rankzero.journal import opening
from rankzero.journal.opening import compress, file_of, has_journal, open_journal, restore, stat_journal
from rankzero.journal.tail import Tail, last_step
from rankzero.reader.index.run_index import summarize
from rankzero.reader.run_data import read_run
from rankzero.rundir.finding import complete_size, find_run, find_runs
from rankzero.rundir.layout import COMPRESSED, JOURNAL
from rankzero.testing.journals import JournalOf

pytest.importorskip("pyzstd")


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """The journal of a run with more than one frame."""
    monkeypatch.setattr(opening, "_FRAME", 1 << 14)
    run_dir = tmp_path / "project" / "run"
    run_dir.mkdir(parents=True)
    journal = JournalOf(RunInfo("run", "run", "project", str(run_dir)))
    journal.log_all((step, {"loss": step / 7}) for step in range(2000))
    journal.add(Finish(2e9, "success"))
    return run_dir / JOURNAL


def seen(journal):
    """What readers find."""
    run_dir = journal.parent
    tail = Tail(journal)
    lines = [line for part in iter(lambda: tail.read(10_000), []) for line in part]
    tail.close()
    return (
        repr(read_run(run_dir)), read_run(run_dir).metrics["loss"].value.tolist(), lines,
        last_step(journal), complete_size(run_dir), stat_journal(journal), has_journal(run_dir),
        repr(summarize(run_dir)), find_runs(run_dir.parent), find_run(str(run_dir), run_dir.parent),
    )  # fmt: skip


def test_every_reader_finds_the_same_in_a_compressed_journal(journal):
    before, data = seen(journal), journal.read_bytes()
    compress(journal)
    assert not journal.exists()
    assert file_of(journal).stat().st_size < len(data) / 5
    assert seen(journal) == before
    chance = random.Random(1)
    with open_journal(journal) as file:
        for _ in range(100):
            start, size = chance.randrange(len(data)), chance.randrange(30_000)
            file.seek(start)
            assert file.read(size) == data[start : start + size]
    restore(journal)
    assert journal.read_bytes() == data
    assert not file_of(journal).name.endswith(COMPRESSED)


@pytest.mark.parametrize("change", [compress, restore])
@pytest.mark.parametrize("call", ["replace", "fsync", "unlink", "open"])
def test_a_kill_at_any_moment_leaves_a_readable_run(journal, change, call):
    before, data = seen(journal), journal.read_bytes()
    if change is restore:
        compress(journal)
    for number in range(6):
        child = os.fork()
        if not child:
            _kill_at(call, number)
            change(journal)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert seen(journal) == before
        if status == 0:
            break
    else:
        raise AssertionError("the change never ended")
    restore(journal)
    assert journal.read_bytes() == data


def _kill_at(call, number):
    """End this process before the call of a function of ``os`` with this number."""
    original, calls = getattr(os, call), []

    def killed(*arguments, **named):
        calls.append(arguments)
        if len(calls) > number:
            os._exit(9)
        return original(*arguments, **named)

    setattr(os, call, killed)


def test_damage_is_an_error_of_the_system_and_ends_soon(journal):
    compress(journal)
    path = file_of(journal)
    data = path.read_bytes()
    for seed in range(300):
        chance = random.Random(seed)
        damaged = bytearray(data[: chance.randrange(len(data))] if seed % 2 else data)
        for _ in range(4 if damaged else 0):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with suppress(OSError), open_journal(journal) as file:
            file.read()
            file.seek(chance.randrange(100_000))
            file.read(100)


def test_without_the_package_the_message_says_what_to_install(journal, monkeypatch):
    compress(journal)
    monkeypatch.setitem(sys.modules, "pyzstd", None)
    with pytest.raises(PluginNotInstalledError, match=r"pip install 'rankzero\[clean\]'"):
        read_run(journal.parent)

"""Ids and names of runs, and how other ranks get them; the stores are torch's own."""

import re
import sys
import threading
import time
from datetime import timedelta
from itertools import accumulate, pairwise

import pytest
from waiting import SOON

from rankzero.errors import ConfigError
from rankzero.run import identity
from rankzero.run.identity import Announcement, Identity, ask, check_id, name_of, new_id

torch_distributed = pytest.importorskip("torch.distributed")

RUN = Identity("r1", "calm-otter-1", "/runs/r1")
STEP = {"SLURM_PROCID": "1", "SLURM_JOB_ID": "47", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    monkeypatch.setattr(identity, "launch_key", lambda: None)
    monkeypatch.setattr(identity, "torchrun_store", lambda: None)
    monkeypatch.setattr(identity, "group_store", lambda: None)


@pytest.fixture
def launch(monkeypatch):
    """Let a launcher name the launch."""
    return lambda key="slurm-47-0-0": monkeypatch.setattr(identity, "launch_key", lambda: key)


@pytest.fixture
def store(monkeypatch):
    """A store that all ranks share, as that of a process group."""
    store = torch_distributed.TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=5))
    monkeypatch.setattr(identity, "group_store", lambda: store)
    return store


def never(run_id):
    return False


def run_dir_of(run_id):
    return f"/runs/{run_id}"


def test_ids_are_unique_and_sort_by_time(monkeypatch):
    distances = [0.001, 0.1, 1, 3600, 86_400 * 40] * 40
    clock = accumulate(distances, initial=1_600_000_000.0)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    ids = [new_id(number, never) for number in range(200)]
    assert all(re.fullmatch("[A-Za-z0-9]{32}", each) for each in ids)
    assert all(earlier < later for earlier, later in pairwise(ids))


def test_ids_of_the_same_moment_differ():
    assert len({new_id(0, never) for _ in range(10_000)}) == 10_000


def test_ids_from_the_name_of_a_launch_agree(launch):
    launch()
    run_id = new_id(3, never)
    assert re.fullmatch("[A-Za-z0-9]{32}", run_id)
    assert ask(3, 0, run_dir_of) == Identity(run_id, name_of(run_id), f"/runs/{run_id}")


def test_ids_from_the_name_of_a_launch_differ_by_run_and_launch(launch):
    ids = set()
    for key in ("slurm-47-0-0", "slurm-47-0-1"):
        launch(key)
        ids |= {new_id(number, never) for number in range(5)}
    assert len(ids) == 10


def test_used_ids_are_skipped(launch):
    launch()
    taken = set()
    for _ in range(3):
        taken.add(new_id(0, taken.__contains__))
    assert len(taken) == 3


def test_name_follows_from_the_id():
    assert name_of("r1") == name_of("r1")
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name_of(str(number))) for number in range(200))
    assert len({name_of(str(number)) for number in range(200)}) > 190


@pytest.mark.parametrize("run_id", ["a", "0", "run-1_b.c", "x" * 128])
def test_good_ids(run_id):
    assert check_id(run_id) == run_id


@pytest.mark.parametrize("run_id", ["", ".", "..", ".a", "-a", "_a", "a/b", "a\\b", "a b", "ä", "a\n", "x" * 129])
def test_bad_ids(run_id):
    with pytest.raises(ConfigError, match="cannot name a run"):
        check_id(run_id)


@pytest.mark.parametrize("found", ["group_store", "torchrun_store"])
def test_a_published_identity_is_received(monkeypatch, store, found):
    monkeypatch.setattr(identity, "group_store", lambda: None)
    monkeypatch.setattr(identity, found, lambda: store)
    Announcement(5, RUN).publish()
    assert ask(5, 0, run_dir_of) == RUN


def test_a_published_identity_takes_precedence_over_the_launch_key(store, launch):
    launch()
    Announcement(0, RUN).publish()
    assert ask(0, 0, run_dir_of) == RUN


def test_identities_of_several_runs_are_distinguished(store):
    Announcement(0, RUN).publish()
    assert ask(1, 0, run_dir_of) is None


def test_reading_the_identity_early_waits(store):
    threading.Timer(0.3, Announcement(0, RUN).publish).start()
    began = time.monotonic()
    assert ask(0, 10, run_dir_of) == RUN
    assert 0.2 < time.monotonic() - began < SOON


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_reading_the_identity_in_vain_waits_for_the_timeout(store, timeout):
    began = time.monotonic()
    assert ask(0, timeout, run_dir_of) is None
    assert timeout <= time.monotonic() - began < SOON


def test_without_a_store_reading_the_identity_does_not_wait():
    began = time.monotonic()
    assert ask(0, 30, run_dir_of) is None
    assert time.monotonic() - began < SOON


def test_store_that_breaks_is_not_waited_for(store, monkeypatch):
    monkeypatch.setattr(type(store), "check", lambda *_: 1 / 0)
    began = time.monotonic()
    assert ask(0, 30, run_dir_of) is None
    assert time.monotonic() - began < SOON


def test_the_identity_of_an_earlier_attempt_is_ignored(store, monkeypatch):
    Announcement(0, Identity("stale", "stale", "/stale")).publish()
    monkeypatch.setattr(identity, "_born", time.time() + 0.01)
    time.sleep(0.02)
    assert ask(0, 0, run_dir_of) is None
    threading.Timer(0.2, Announcement(0, RUN).publish).start()
    assert ask(0, 10, run_dir_of) == RUN


@pytest.mark.parametrize(("ahead", "heard"), [(0.5, True), (60, False)])
def test_clock_of_another_machine_may_differ_a_little(store, monkeypatch, ahead, heard):
    monkeypatch.setattr(identity, "_SKEW", 1.0)
    monkeypatch.setattr(identity, "_born", time.time() + ahead)
    monkeypatch.setattr(identity.platform, "node", lambda: "elsewhere")
    Announcement(0, RUN).publish()
    monkeypatch.setattr(identity.platform, "node", lambda: "here")
    assert (ask(0, 1.5, run_dir_of) == RUN) == heard


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the time of the import")
def test_this_process_was_born_before_it_was_imported():
    psutil = pytest.importorskip("psutil")
    assert identity._born == pytest.approx(psutil.Process().create_time(), abs=1.5)


def test_publishing_again_writes_only_to_new_stores(store, monkeypatch):
    writes = []
    monkeypatch.setattr(type(store), "set", lambda _, key, value: writes.append(key))
    announcement = Announcement(0, RUN)
    monkeypatch.setattr(identity, "group_store", lambda: None)
    announcement.publish()
    assert writes == []
    monkeypatch.setattr(identity, "group_store", lambda: store)
    for _ in range(3):
        announcement.publish()
    assert len(writes) == 1


def test_torchrun_that_is_gone_is_asked_once(monkeypatch):
    calls = []

    def torchrun_store():
        calls.append(1)
        raise ConnectionRefusedError

    monkeypatch.setattr(identity, "torchrun_store", torchrun_store)
    announcement = Announcement(0, RUN)
    for _ in range(3):
        announcement.publish()
    assert len(calls) == 1

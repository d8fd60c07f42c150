"""System metrics of other nodes: what rank zero takes from the store of the process group."""

import threading
import time

import psutil
import pytest
from torch.distributed import HashStore
from waiting import A_MOMENT, A_WHILE, until

import rankzero
from rankzero.capture.nodes import NodeCollector
from rankzero.events.structs import Metrics, Params, decode, encode

KEYS = [f"rankzero/0/node/{node}" for node in range(4)]
MEASURED = {"system/cpu_percent": 1.0, "system/gpu0/power_watts": 100.0}


@pytest.fixture
def store(monkeypatch):
    store = HashStore()
    monkeypatch.setattr("rankzero.rank.group_store", lambda: store)
    return store


@pytest.fixture
def appended():
    """Collect from three other nodes what is appended to the journal."""
    lines = []
    collector = NodeCollector(0, 4, 0.01, lines.append)
    yield lines
    collector.stop()


def measured(at, values=MEASURED, step=None):
    return encode(Metrics(at, step, values))


def test_measurements_have_the_number_of_the_node_and_their_time(store, appended):
    now = time.time()
    for node in (1, 2):
        store.set(KEYS[node], measured(now + node))
    until(lambda: len(appended) == 2)
    events = [decode(line) for line in appended]
    assert [(event.time, event.step) for event in events] == [(now + 1, None), (now + 2, None)]
    assert events[1].values == {"system/node2/cpu_percent": 1.0, "system/node2/gpu0/power_watts": 100.0}


def test_data_that_is_not_a_measurement_is_ignored(store, appended):
    now = time.time()
    for wrong in (b"\xff", b"[]", encode(Params(now, {})), measured(now, step=1), measured(now, {"loss": 1.0})):
        store.set(KEYS[1], wrong)
        store.set(KEYS[2], measured(time.time()))
        before = len(appended)
        until(lambda: len(appended) > before)  # noqa: B023
    assert not any(b"node1" in line for line in appended)
    store.set(KEYS[1], measured(now))
    until(lambda: any(b"node1" in line for line in appended))


def test_what_is_left_of_an_earlier_attempt_is_ignored(store, appended):
    long_ago = time.time() - 1000
    store.set(KEYS[1], measured(long_ago))
    store.set(KEYS[2], measured(time.time()))
    until(lambda: appended)
    assert b"node1" not in b"".join(appended)
    store.set(KEYS[1], measured(long_ago + 1))  # the clock of that node is wrong
    until(lambda: b"node1" in b"".join(appended))


def test_a_store_that_answers_late_adds_nothing_to_a_run_that_has_ended(monkeypatch):
    class LateStore:
        is_asked, may_answer = threading.Event(), threading.Event()

        def clone(self):
            return self

        def check(self, keys):
            self.is_asked.set()
            return self.may_answer.wait(A_WHILE)

        def get(self, key):
            return measured(time.time())

    late, lines = LateStore(), []
    monkeypatch.setattr("rankzero.rank.group_store", lambda: late)
    collector = NodeCollector(0, 2, 0.01, lines.append)
    late.is_asked.wait(A_WHILE)
    began = time.monotonic()
    collector.stop()
    assert time.monotonic() - began < A_MOMENT
    late.may_answer.set()
    collector._thread.join()
    assert lines == []


def test_a_store_that_fails_is_not_asked_again(monkeypatch, caplog):
    class BrokenStore:
        asked = 0

        def clone(self):
            return self

        def check(self, keys):
            self.asked += 1
            raise RuntimeError("the connection is closed")

    caplog.set_level("DEBUG", "rankzero")
    broken = BrokenStore()
    looks = []
    monkeypatch.setattr("rankzero.rank.group_store", lambda: looks.append(broken) or broken)
    collector = NodeCollector(0, 2, 0.01, pytest.fail)
    until(lambda: len(looks) > 5)
    collector.stop()
    assert broken.asked == 1
    assert [record.levelname for record in caplog.records if "closed" in record.getMessage()] == ["DEBUG"]


def test_another_node_sends_until_the_end(store, monkeypatch, tmp_path):
    for name, value in {"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("rankzero.capture.nodes._key", lambda start, node: f"node {node}")  # start is not 0 here
    before = {*psutil.Process().children()}
    run = rankzero.start([], dir=tmp_path, system_metrics=0.05)
    (process,) = {*psutil.Process().children()} - before
    until(lambda: store.check(["node 1"]))
    assert decode(store.get("node 1")).values.keys() >= {"system/cpu_percent", "system/process/memory_gb"}
    run.finish()
    assert not process.is_running()
    assert list(tmp_path.iterdir()) == []

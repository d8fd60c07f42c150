"""Values that an accelerator is still computing: no log call waits for them, and none is lost.

There is no accelerator here: `FakeTensor` looks like a tensor on one, and `FakeCopy` stands for the copy to the CPU,
which is ready when the test says so.
"""

import os
import queue
import threading
import time
import warnings
from types import SimpleNamespace

import pytest
import torch
from recorded import events_in
from waiting import A_WHILE, SOON, until

import rankzero
from rankzero.capture.device_values import DeviceCopy, DeviceRows
from rankzero.events.structs import Finish, Metrics, Text
from rankzero.values import split_metrics


class FakeTensor:
    """One value on an accelerator; asking for it the usual ways is a mistake that the test sees."""

    device = SimpleNamespace(type="fake")

    def __init__(self, value, is_ready=False):
        self.value = value
        self.ready = threading.Event()
        if is_ready:
            self.ready.set()

    def numel(self):
        return 1

    def is_complex(self):
        return False

    def __getattr__(self, name):
        if name in ("item", "tolist", "cpu", "numpy", "__float__", "__radd__"):
            raise AssertionError(f"{name} would wait for the accelerator")
        raise AttributeError(name)


class FakeCopy:
    def __init__(self, tensors):
        self.keys = list(tensors)
        self._tensors = tensors

    def wait(self):
        values = {}
        for key, tensor in self._tensors.items():
            assert tensor.ready.wait(A_WHILE)
            if isinstance(tensor.value, Exception):
                raise tensor.value
            values[key] = tensor.value
        return values


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("rankzero.run.metric_writer.DeviceCopy", FakeCopy)
    run = rankzero.start(dir=tmp_path, delivery="off")
    yield run
    run.finish()


def rows(run):
    return events_in(run.dir, Metrics)


def numbers(run):
    return [(row.step, row.numbers()) for row in rows(run)]


def test_log_call_does_not_wait_and_the_row_keeps_its_time_and_step(run):
    loss = FakeTensor(0.5)
    before = time.time()
    run.log_metrics({"loss": loss, "lr": 0.1}, 7, epoch=2, stage="train")
    after = time.time()
    assert after - before < SOON
    assert run.step == 7
    assert rows(run) == []
    time.sleep(0.05)
    loss.ready.set()
    assert run.flush()
    (row,) = rows(run)
    assert (row.step, row.epoch, row.stage, row.numbers()) == (7, 2, "train", {"loss": 0.5, "lr": 0.1})
    assert before <= row.time <= after


def test_rows_come_in_the_order_in_which_they_were_logged(run):
    tensors = [FakeTensor(float(step)) for step in range(5)]
    for step, tensor in enumerate(tensors):
        run.log_metrics({"loss": tensor}, step)
    for tensor in reversed(tensors):
        assert rows(run) == []
        tensor.ready.set()
    assert run.flush()
    assert numbers(run) == [(step, {"loss": float(step)}) for step in range(5)]


def test_rows_without_device_values_do_not_wait(run):
    loss = FakeTensor(0.5)
    run.log_metrics({"loss": loss}, 1)
    run.log_metrics({"lr": 0.1}, 2)
    assert numbers(run) == [(2, {"lr": 0.1})]
    loss.ready.set()


def test_each_row_is_written_as_soon_as_it_is_ready(run):
    first, second = FakeTensor(1.0, is_ready=True), FakeTensor(2.0)
    run.log_metrics({"loss": first}, 1)
    run.log_metrics({"loss": second}, 2)
    until(lambda: rows(run))
    assert numbers(run) == [(1, {"loss": 1.0})]
    second.ready.set()


def test_finish_waits_for_them(run):
    loss = FakeTensor(float("nan"))
    run.log_metrics({"loss": loss}, 1)
    threading.Timer(0.1, loss.ready.set).start()
    run.finish()
    found = events_in(run.dir)
    assert isinstance(found[-2], Metrics)
    assert str(found[-2].numbers()) == "{'loss': nan}"
    assert isinstance(found[-1], Finish)


def test_a_rewind_waits_for_the_rows_before_it(run):
    loss = FakeTensor(0.5)
    run.log_metrics({"loss": loss}, 5)
    threading.Timer(0.1, loss.ready.set).start()
    run.rewind(3)
    assert rankzero.read_run(run.dir).metrics == {}
    assert len(rankzero.read_run(run.dir, keep_rewound=True).metrics["loss"]) == 1


def test_finish_and_flush_respect_their_timeout(run, monkeypatch, swallowed_warnings):
    """An accelerator that hangs must not keep a job from ending."""
    monkeypatch.setattr("rankzero.run.metric_writer._DEVICE_TIMEOUT", 0.1)
    loss = FakeTensor(0.5)
    run.log_metrics({"loss": loss}, 1)
    start = time.monotonic()
    assert not run.flush(timeout=0.1)
    run.finish()
    assert time.monotonic() - start < SOON
    assert rows(run) == []
    loss.ready.set()
    run.flush()
    assert "is finished" in swallowed_warnings.pop()


def test_a_copy_that_fails_costs_only_itself(run):
    loss = FakeTensor(RuntimeError("device-side assert"))
    run.log_metrics({"loss": loss, "acc": FakeTensor(1), "lr": 0.1}, 1)
    with pytest.warns(UserWarning, match="the metrics loss, acc are lost: .*device-side assert"):
        assert loss.ready.set() or run.flush()
    run.log_metrics({"loss": FakeTensor(0.5, is_ready=True)}, 2)
    assert run.flush()
    assert numbers(run) == [(1, {"lr": 0.1}), (2, {"loss": 0.5})]


def test_the_thread_survives_warnings_that_are_errors(run, swallowed_warnings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(3):
            run.log_metrics({"loss": FakeTensor(RuntimeError("no"), is_ready=True), "step": step}, step)
        run.log_metrics({"loss": FakeTensor(0.5, is_ready=True)}, 3)
        assert run.flush()
    assert numbers(run)[-1] == (3, {"loss": 0.5})
    assert ["loss are lost" in swallowed_warnings.pop() for _ in range(3)] == [True] * 3


def test_the_thread_survives_a_write_that_fails():
    device_rows = DeviceRows()
    written = []
    device_rows.put(FakeCopy({}), lambda values: 1 / 0)
    device_rows.put(FakeCopy({"a": FakeTensor(1, is_ready=True)}), written.append)
    assert device_rows.drain(20)
    assert written == [{"a": 1}]


def test_forked_child_logs_its_own_values_and_not_the_parents(run):
    loss = FakeTensor(0.5)
    run.log_metrics({"loss": loss}, 1)  # the thread runs, and is not there in the child
    child = os.fork()
    if not child:
        run.log_metrics({"loss": FakeTensor(0.25, is_ready=True)}, 2)
        os._exit(0 if run.flush(timeout=A_WHILE) else 1)
    assert os.waitpid(child, 0)[1] == 0
    loss.ready.set()
    assert run.flush()
    assert numbers(run) == [(2, {"loss": 0.25}), (1, {"loss": 0.5})]


def threads():
    return {thread for thread in threading.enumerate() if thread.name == "rankzero-device"}


def test_the_thread_lives_while_there_are_device_values(run, monkeypatch):
    monkeypatch.setattr("rankzero.capture.device_values._IDLE", 0.05)
    before = threads()
    run.log_metrics({"loss": torch.tensor(0.5)}, 1)
    assert threads() <= before
    for step in (2, 3):
        loss = FakeTensor(0.5)
        run.log_metrics({"loss": loss}, step)
        (thread,) = threads() - before
        time.sleep(0.1)
        assert thread.is_alive(), "a row is waiting"
        loss.ready.set()
        thread.join(A_WHILE)
        assert not thread.is_alive()
    assert [row.step for row in rows(run)] == [1, 2, 3]


def test_no_row_is_lost_when_the_thread_is_about_to_end(monkeypatch):
    """A row comes when the thread has just found that there is none."""
    device_rows = DeviceRows()
    written = []

    def put(number):
        device_rows.put(FakeCopy({"a": FakeTensor(number, is_ready=True)}), written.append)

    class Late(queue.SimpleQueue):
        is_late = False

        def get(self, timeout):
            if written and not self.is_late:
                self.is_late = True
                put(1)
                raise queue.Empty
            return super().get(timeout=timeout)

    monkeypatch.setattr(device_rows, "_queue", Late())
    put(0)
    until(lambda: len(written) == 2)
    assert written == [{"a": 0}, {"a": 1}]


class FakeArray(FakeTensor):
    """Several values, or a complex one: no metric, and so kept as text, which has to wait."""

    def __init__(self, numel=1, is_complex=False):
        super().__init__(None)
        self._numel = numel
        self._is_complex = is_complex

    def numel(self):
        return self._numel

    def is_complex(self):
        return self._is_complex

    def tolist(self):
        return ["a", "b"]


@pytest.mark.parametrize("value", [FakeArray(numel=2), FakeArray(is_complex=True)], ids=["two", "complex"])
def test_device_values_that_are_not_numbers(run, value):
    with pytest.warns(UserWarning, match="kept as text"):
        run.log_metrics({"m": value, "lr": 0.1}, 1)
    assert numbers(run) == [(1, {"lr": 0.1})]
    (text,) = events_in(run.dir, Text)
    assert text.data == [[["a", "b"]]]


def test_only_tensors_on_an_accelerator_are_deferred():
    values = {"cpu": torch.tensor(1.0), "meta": torch.ones(1, device="meta"), "fake": FakeTensor(1.0)}
    split = split_metrics(values)
    assert (list(split.numbers), list(split.on_device), list(split.rest)) == (["cpu"], ["fake"], ["meta"])


# The copy itself, with tensors of the CPU, which has no events; and with events that only count


def tensors():
    return {
        "loss": torch.tensor(0.1, requires_grad=True),
        "count": torch.tensor([[2**53 + 1]]),
        "half": torch.tensor([0.1], dtype=torch.bfloat16),
        "hit": torch.tensor(True),
        "accuracy": torch.tensor(0.75),
    }


EXPECTED = {"loss": 0.10000000149011612, "count": 2**53 + 1, "half": 0.10009765625, "hit": 1, "accuracy": 0.75}


def test_copy_of_a_device_without_events():
    found = DeviceCopy(tensors()).wait()
    assert found == EXPECTED
    assert {type(value) for value in found.values()} == {int, float}


class CountingEvent:
    made = recorded = synchronized = 0

    def __init__(self, device):
        CountingEvent.made += 1

    def record(self):
        CountingEvent.recorded += 1

    def synchronize(self):
        CountingEvent.synchronized += 1


def test_copy_waits_for_one_event_a_kind_and_only_when_asked(monkeypatch):
    monkeypatch.setattr(torch, "Event", CountingEvent)
    copy = DeviceCopy(tensors())
    assert (CountingEvent.recorded, CountingEvent.synchronized) == (4, 0)
    assert copy.wait() == EXPECTED
    assert CountingEvent.synchronized == 4


def test_copy_is_ready_when_all_values_are(monkeypatch):
    class Event(CountingEvent):
        asked = 0

        def query(self):
            Event.asked += 1
            return Event.asked > 5

    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(CountingEvent, "synchronized", 0)
    copy = DeviceCopy(tensors())  # of four kinds
    assert [copy.ready() for _ in range(6)] == [False] * 5 + [True]
    assert CountingEvent.synchronized == 0


def test_copy_of_a_device_without_events_is_never_ready():
    assert DeviceCopy(tensors()).ready()
    assert not DeviceCopy({"loss": torch.ones(1, device="meta")}).ready()


def test_copy_that_could_not_begin_has_nothing_to_wait_for():
    assert DeviceCopy({"loss": SimpleNamespace(device=1, dtype=2)}).ready()


def test_copy_has_the_value_at_the_log_call():
    """The training goes on and overwrites its tensors."""
    total = torch.tensor(1.0)
    copy = DeviceCopy({"total": total})
    total.add_(5)
    assert copy.wait() == {"total": 1.0}


def test_copy_keeps_no_graph_alive():
    weight = torch.tensor(1.0, requires_grad=True)
    copy = DeviceCopy({"loss": weight * 2})
    assert not any(values.requires_grad for _, values, _ in copy._groups)


@pytest.mark.parametrize("broken", [torch.ones(1, device="meta"), SimpleNamespace(device=1, dtype=2)], ids=str)
def test_copy_that_cannot_begin_raises_only_when_it_is_awaited(broken):
    copy = DeviceCopy({"loss": broken})
    with pytest.raises((RuntimeError, AttributeError)):
        copy.wait()

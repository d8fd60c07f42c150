"""Loggers whose finalize() acknowledges, and loggers that postpone a flush."""

from itertools import pairwise

import pytest
from kept_files import snapshot
from recorded import write

import rankzero
from rankzero import Logger
from rankzero.delivery.courier import Courier
from rankzero.errors import FlushPostponedError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Checkpoint, Finish, Metrics, Start
from rankzero.rundir.positions import load_position
from rankzero.rundir.writer_lock import WriterLock


class Slow(Logger):
    """Records calls; a flush may be postponed."""

    finalize_acknowledges = True
    name = version = "slow"

    def __init__(self, postponed=0, on_postponed=lambda: None, failures=0):
        self.calls = []
        self.postponed, self.on_postponed, self.failures = postponed, on_postponed, failures

    def log_hyperparams(self, params):
        self.calls.append("params")

    def log_metrics(self, metrics, step=None):
        self.calls.append(step)

    def flush(self):
        self.calls.append("flush")
        if self.postponed:
            self.postponed -= 1
            self.on_postponed()
            raise FlushPostponedError("later")

    def finalize(self, status):
        self.calls.append(status)
        if self.failures:
            self.failures -= 1
            raise TrackerUnavailableError("down")


class Plain(Slow):
    finalize_acknowledges = False


@pytest.fixture
def run_dir(tmp_path):
    write(tmp_path, Start(1.0, RunInfo("id1", "calm-reef-1", "digits", "/elsewhere"), {"slow": {}}))
    return tmp_path


def metrics(*steps):
    return [Metrics(100.0 + step, step, {"loss": step / 10}) for step in steps]


def deliver(run_dir, logger):
    Courier(run_dir, "slow", lambda: logger, follow=False).run()
    return load_position(run_dir, "slow")


def test_no_flush_comes_before_a_finish_that_acknowledges(run_dir):
    write(run_dir, *metrics(0, 1), Finish(110.0, "success"))
    logger = Slow()
    assert deliver(run_dir, logger).closed
    assert logger.calls == [0, 1, "success", "flush"]


def test_a_flush_comes_before_any_other_finish(run_dir):
    write(run_dir, *metrics(0, 1), Finish(110.0, "success"))
    logger = Plain()
    assert deliver(run_dir, logger).closed
    assert logger.calls == [0, 1, "flush", "success", "flush"]


def test_nothing_is_acknowledged_when_such_a_finish_fails(run_dir):
    write(run_dir, *metrics(0, 1), Finish(110.0, "success"))
    logger = Slow(failures=1)
    lines = []
    finalize = logger.finalize
    logger.finalize = lambda status: lines.append(load_position(run_dir, "slow").line) or finalize(status)
    assert deliver(run_dir, logger).closed
    assert lines == [0, 0]
    assert logger.calls == [0, 1, "success", 0, 1, "success", "flush"]


def test_new_events_are_written_before_a_postponed_flush(run_dir):
    write(run_dir, *metrics(0, 1))
    logger = Slow(postponed=1, on_postponed=lambda: write(run_dir, *metrics(2), Finish(110.0, "success")))
    assert deliver(run_dir, logger).closed
    assert logger.calls == [0, 1, "flush", 2, "success", "flush"]


def test_a_postponed_flush_is_repeated(run_dir):
    write(run_dir, *metrics(0, 1))
    logger = Slow(postponed=1)
    with_lock = WriterLock(run_dir)
    try:
        Courier(run_dir, "slow", lambda: logger, follow=False).run()
    finally:
        with_lock.release()
    assert logger.calls == [0, 1, "flush", "flush"]
    assert load_position(run_dir, "slow").line == 3


def test_postponed_events_are_acknowledged_although_later_ones_fail(run_dir, monkeypatch):
    monkeypatch.setattr("rankzero.delivery.courier.TRIES_BEFORE_REOPENING", 1)
    write(run_dir, *metrics(0, 1))
    first, second = Slow(postponed=1), Slow()

    def fail():
        write(run_dir, *metrics(2))
        first.log_metrics = lambda metrics, step=None: (_ for _ in ()).throw(TrackerUnavailableError("down"))

    first.on_postponed = fail
    loggers = [first, second]
    with_lock = WriterLock(run_dir)
    try:
        Courier(run_dir, "slow", lambda: loggers.pop(0), follow=False).run()
    finally:
        with_lock.release()
    assert first.calls == [0, 1, "flush", "flush"]
    assert second.calls == [2, "flush"]
    assert load_position(run_dir, "slow").line == 4


def test_the_error_is_one_of_delivery():
    assert issubclass(FlushPostponedError, rankzero.errors.DeliveryError)


class Keeping(Slow):
    """Uploads the final checkpoints of a ModelCheckpoint."""

    log_model = True

    def log_checkpoint(self, path, **kwargs):
        self.calls.append(("checkpoint", kwargs["aliases"]))


def test_a_finish_that_acknowledges_knows_of_the_checkpoints_before_it(run_dir):
    for name, aliases in (("1.ckpt", ["best"]), ("2.ckpt", ["latest"])):
        (run_dir / name).write_text(name)
        kept = snapshot(run_dir / name, run_dir)
        write(run_dir, Checkpoint(1.0, kept, str(run_dir / name), aliases=aliases, automatic=True))
    write(run_dir, Finish(110.0, "success"))
    logger = Keeping()
    assert deliver(run_dir, logger).closed
    assert logger.calls == [("checkpoint", ["best"]), ("checkpoint", ["latest"]), "success", "flush"]


class Large(Slow):
    batch_bytes = 1 << 22


@pytest.mark.parametrize(("kind", "most"), [(Slow, 6000), (Large, 20_000)])
def test_a_logger_sets_the_size_of_a_batch_before_a_flush(run_dir, kind, most):
    write(run_dir, *metrics(*range(20_000)))
    logger = kind()
    deliver(run_dir, logger)
    flushes = [index for index, call in enumerate(logger.calls) if call == "flush"]
    sizes = [end - start for start, end in pairwise([0, *flushes])]
    assert [call for call in logger.calls if isinstance(call, int)] == list(range(20_000))
    assert max(sizes) <= most
    assert (len(sizes) > 5) is (kind is Slow)


class Meanwhile(Plain):
    """Events arrive while the first ones are written; at the end of a run, more of a resumed one."""

    def __init__(self, run_dir, *events):
        super().__init__()
        self.run_dir, self.events = run_dir, events

    def log_metrics(self, metrics, step=None):
        super().log_metrics(metrics, step)
        write(self.run_dir, *self.events)
        self.events = ()


def test_one_flush_acknowledges_what_arrives_while_events_are_written(run_dir):
    write(run_dir, *metrics(1))
    logger = Meanwhile(run_dir, *metrics(2, 3))
    deliver(run_dir, logger)
    assert logger.calls[:4] == [1, 2, 3, "flush"]


def test_an_end_that_arrives_while_events_are_written_waits_for_the_flush(run_dir):
    write(run_dir, *metrics(1))
    logger = Meanwhile(run_dir, *metrics(2), Finish(110.0, "success"))
    deliver(run_dir, logger)
    assert logger.calls == [1, 2, "flush", "success", "flush"]

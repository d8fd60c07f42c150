"""`DeliveryContract`: the tracker gets everything despite faults of its server and killed processes."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rankzero.events.structs import Finish, Metrics
from rankzero.journal.tail import read_start
from rankzero.loggers.base import Logger
from rankzero.run.run import Run
from rankzero.rundir.layout import CHECKPOINTS, JOURNAL, MEDIA
from rankzero.rundir.positions import load_position, wake
from rankzero.testing.base import TrackerContract, run_info_of
from rankzero.testing.compare import few, item_difference, keys_by_kind
from rankzero.testing.faults import FAULTS, status
from rankzero.testing.full_disk import full_disk
from rankzero.testing.journals import TIME, JournalOf
from rankzero.testing.loopback import Fault
from rankzero.testing.proxy import FaultyProxy
from rankzero.testing.runs import (
    KINDS,
    TIMEOUT,
    EagerCourier,
    deliver_in_process,
    in_process,
    log_and_be_killed,
    log_everything,
    log_rows,
    points_logged,
    rejected,
    start_run,
)
from rankzero.testing.samples import samples
from rankzero.testing.tracked import Point, Tracked
from rankzero.values import to_json_number
from rankzero.waiting import wait_until

_VERDICT_TIMEOUT = 0.5  # seconds, in which a courier would reject an event
_NO_WAIT = 50.0  # seconds; a call that waits takes sixty

_APPLIED = ("lost answer", "truncated answer")
_ONCE = [name for name in FAULTS if name not in ("refuse", "hang")]
_ACCESS = ("401", "403")
_WITH_FILES = [
    "image", "audio", "video", "figure", "pointcloud", "table", "graph", "artifact", "checkpoint"
]  # fmt: skip
_AT_THE_END = ["refuse", "503", "hang"]


class DeliveryContract(TrackerContract):
    """Subclass it with a name that begins with ``Test``; see `rankzero.testing`.

    A `FaultyProxy` is between the SDK and the tracker's server. A tracker without a server is tested only with full
    disks and killed processes.
    """

    faults: ClassVar[frozenset[str]] = frozenset(FAULTS)
    """The names in `rankzero.testing.faults.FAULTS` that the tracker's server may have for a while."""

    faults_of_each_request: ClassVar[frozenset[str]] = frozenset(_ONCE)
    """The names of faults that each kind of request may have once."""

    refusal: ClassVar[Fault] = staticmethod(status(400, "refused"))
    """The response with which the tracker's server rejects a row permanently."""

    file_refusal: ClassVar[Fault] = staticmethod(status(413, "<html>too large</html>"))
    """The response with which the server rejects a file permanently."""

    rows: ClassVar[str] = ""
    """A part of the method and path of only those requests that write metrics."""

    uploads: ClassVar[str] = ""
    """A part of the method and path of only those requests that upload files."""

    def server_url(self) -> str | None:
        """Return the URL of the tracker's server; None if there is none."""
        return None

    def connect(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make new loggers use a server at this URL, for example with environment variables.

        Processes that the test starts inherit the environment. Set short timeouts for the SDK to make the tests fast.
        """
        raise NotImplementedError

    # Helpers of the tests

    @pytest.fixture
    def proxy(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy | None]:
        """Start a proxy between the SDK and the server, if there is one."""
        target = self.server_url()
        if target is None:
            yield None
            return
        with FaultyProxy(target) as proxy:
            self.connect(proxy.url, monkeypatch)
            yield proxy

    @pytest.fixture
    def faulty_server(self, proxy: FaultyProxy | None) -> FaultyProxy:
        """Return the proxy; a tracker without a server skips the test."""
        if proxy is None:
            pytest.skip("the tracker has no server")
        return proxy

    @pytest.fixture
    def begin(self, proxy: FaultyProxy | None, tmp_path: Path) -> Iterator[Callable[..., Run]]:
        """Return a function that starts a run, which ends with the test."""
        runs: list[Run] = []

        def begin(delivery: str) -> Run:
            runs.append(start_run([self.make_logger(tmp_path)], tmp_path, uuid.uuid4().hex, delivery))
            return runs[-1]

        yield begin
        for run in runs:
            run.finish(timeout=0)

    @pytest.fixture
    def written(self, begin: Callable[..., Run], tmp_path: Path) -> Run:
        """Return a run with data of each kind that is not delivered yet."""
        run = begin("off")
        log_everything(run, tmp_path, self._kinds())
        run.finish()
        return run

    def deliver(self, run_dir: Path, key: str, tmp_path: Path) -> None:
        """Deliver a run, with short pauses and without a limit of time."""
        EagerCourier(run_dir, key, lambda: self.make_logger(tmp_path), follow=False, grace_period=TIMEOUT).run()

    def expect_metrics(
        self, tmp_path: Path, run_dir: Path, *, at_least_once: bool = False, without: tuple[int, ...] = ()
    ) -> Logger:
        """Compare the metrics in a run's journal with those in the tracker; return a logger of the run.

        Args:
            tmp_path: the test's directory.
            run_dir: the run's directory.
            at_least_once: allow duplicated values.
            without: the steps that the tracker has rejected.
        """
        __tracebackhide__ = True
        logger = self._reader(tmp_path, run_dir)
        logged = points_logged(run_dir)
        expected = {name: [point for point in points if point.step not in without] for name, points in logged.items()}
        self.expect(logger, expected, times=not at_least_once, at_least_once=at_least_once, delivered=True)
        return logger

    def expect_everything(self, tmp_path: Path, run_dir: Path, key: str, *, at_least_once: bool = False) -> None:
        """Compare everything that `log_everything` has logged with the data in the tracker."""
        __tracebackhide__ = True
        logger = self.expect_metrics(tmp_path, run_dir, at_least_once=at_least_once)
        self._expect_params(logger, {"lr": 0.1, "net": {"depth": 3}, "late": True})
        tracked = self._tracked(logger)
        for sample in samples(tmp_path / "samples"):
            if sample.kind not in self._kinds():
                continue
            if sample.kind == "tags":
                assert tracked.tags.count(sample.key) == 1, f"the tags came back as {tracked.tags}"
                continue
            found = [item for item in tracked.items.get(sample.kind, []) if item.key == sample.key]
            there = f"by kind, there came back {keys_by_kind(tracked)}"
            assert found, f"the {sample.kind} {sample.key!r} is missing; {there}"
            assert at_least_once or len(found) == 1, f"the {sample.kind} {sample.key!r} came more than once; {there}"
            problem = item_difference(found[-1], sample)
            assert problem is None, problem
        assert rejected(run_dir, key) == []

    def expect_status(self, tmp_path: Path, run_dir: Path, *, good: bool) -> None:
        """Check the status of the run in the tracker."""
        __tracebackhide__ = True
        if self.has("status"):
            found = self._tracked(self._reader(tmp_path, run_dir)).status
            assert (found in ("success", "finished")) is good, f"the status came back as {found!r}"

    def _tracked(self, logger: Logger) -> Tracked:
        """Read each run once: the tests compare it only after its delivery has ended."""
        __tracebackhide__ = True
        run_id = logger.run_info.id if logger.run_info is not None else ""
        if run_id not in self._read:
            self._read[run_id] = super()._tracked(logger)
        return self._read[run_id]

    @functools.cached_property
    def _read(self) -> dict[str, Tracked]:
        return {}

    def _kinds(self) -> list[str]:
        return [kind for kind in KINDS if self.has(kind)]

    def _reader(self, tmp_path: Path, run_dir: Path) -> Logger:
        start = read_start(run_dir / JOURNAL)
        assert start is not None
        logger = self.make_logger(tmp_path)
        logger.attach(start.run)
        return logger

    @contextmanager
    def failing(self, faulty_server: FaultyProxy, fault: str) -> Iterator[None]:
        """Make every request fail with a fault."""
        faulty_server.fail("", FAULTS[fault])
        yield
        faulty_server.heal()
        if not faulty_server.is_running:
            faulty_server.start()

    # Faults of the server

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_at_first_and_later_loses_nothing(
        self, faulty_server: FaultyProxy, begin: Callable[..., Run], tmp_path: Path, fault: str
    ) -> None:
        self._skip_unless_possible(fault, self.faults)
        run = begin("thread") if fault in _ACCESS else None  # start() raises if the login is rejected
        with self.failing(faulty_server, fault):
            run = run or begin("thread")
            self._log_while_failing(faulty_server, run, 0, fault)
        wake(run.dir, run.loggers[0])
        assert run.flush(TIMEOUT)
        with self.failing(faulty_server, fault):
            self._log_while_failing(faulty_server, run, 40, fault)
        wake(run.dir, run.loggers[0])
        run.finish(timeout=TIMEOUT)
        self.expect_metrics(tmp_path, run.dir, at_least_once=fault in _APPLIED and not self.has("lost_answers"))
        self.expect_status(tmp_path, run.dir, good=True)
        assert rejected(run.dir, run.loggers[0]) == []

    def _log_while_failing(self, faulty_server: FaultyProxy, run: Run, first: int, fault: str) -> None:
        (key,), before = run.loggers, len(faulty_server.requests)
        at = max(1, load_position(run.dir, key).line)  # the first line only starts the run
        log_rows(run, *range(first, first + 20))

        def has_verdict() -> bool:
            position = load_position(run.dir, key)
            return bool(position.problem) or position.line > at

        _until(lambda: has_verdict() or len(faulty_server.requests) > before + 3)
        wait_until(has_verdict, _VERDICT_TIMEOUT)  # an SDK that retries by itself has none yet
        log_rows(run, *range(first + 20, first + 40))
        if fault not in _APPLIED:
            assert load_position(run.dir, key).line <= at, "data that the tracker does not have counts as delivered"

    @pytest.mark.parametrize("fault", _AT_THE_END)
    def test_a_fault_at_the_end_does_not_delay_the_exit_and_loses_nothing(
        self, faulty_server: FaultyProxy, begin: Callable[..., Run], tmp_path: Path, fault: str
    ) -> None:
        self._skip_unless_possible(fault, self.faults)
        run = begin("process")
        log_rows(run, *range(10))
        assert run.flush(TIMEOUT)
        (key,) = run.loggers
        with self.failing(faulty_server, fault):
            log_rows(run, *range(10, 20))
            began = time.monotonic()
            run.finish(timeout=0.5)
            assert time.monotonic() - began < _NO_WAIT
            assert not load_position(run.dir, key).closed
        wake(run.dir, key)
        _until(lambda: load_position(run.dir, key).closed)
        self.expect_metrics(tmp_path, run.dir)
        self.expect_status(tmp_path, run.dir, good=True)

    @pytest.mark.parametrize("fault", _ONCE)
    def test_each_request_may_fail_once(
        self, faulty_server: FaultyProxy, written: Run, tmp_path: Path, fault: str
    ) -> None:
        self._skip_unless_possible(fault, self.faults_of_each_request)
        (key,) = written.loggers
        faulty_server.fail_each(FAULTS[fault])
        self.deliver(written.dir, key, tmp_path)
        faulty_server.heal()
        at_least_once = fault in _APPLIED and not self.has("lost_answers")
        self.expect_everything(tmp_path, written.dir, key, at_least_once=at_least_once)
        self.expect_status(tmp_path, written.dir, good=True)

    def _skip_unless_possible(self, fault: str, possible: frozenset[str]) -> None:
        if fault not in possible:
            pytest.skip(f"the tracker's server does not have this fault, or its client does not survive it: {fault}")

    # Permanent rejections

    def test_only_the_invalid_row_is_rejected(
        self, faulty_server: FaultyProxy, begin: Callable[..., Run], tmp_path: Path
    ) -> None:
        faulty_server.fail(self.rows, type(self).refusal, body="poison")
        run = begin("off")
        for step in range(40):
            run.log_metrics({"loss": step / 3, "poison": 1.0} if step == 13 else {"loss": step / 3}, step)
        run.finish()
        (key,) = run.loggers
        self.deliver(run.dir, key, tmp_path)
        points = [point for point in points_logged(run.dir)["loss"] if point.step != 13]
        self.expect(self._reader(tmp_path, run.dir), {"loss": points}, times=True, delivered=True)
        assert [entry["event"]["step"] for entry in rejected(run.dir, key)] == [13]

    def test_only_the_invalid_file_is_rejected(
        self, faulty_server: FaultyProxy, begin: Callable[..., Run], tmp_path: Path
    ) -> None:
        if not self.has("artifact"):
            pytest.skip("the tracker keeps no files")
        faulty_server.fail(self.uploads, type(self).file_refusal, body="poison")
        run = begin("off")
        log_rows(run, *range(10))
        for name in ("good", "poison"):
            (tmp_path / f"{name}.bin").write_bytes(name.encode())
            run.log_artifact(tmp_path / f"{name}.bin", name=name, type="dataset", aliases=["v1"])
        log_rows(run, *range(10, 20))
        run.finish()
        (key,) = run.loggers
        self.deliver(run.dir, key, tmp_path)
        logger = self.expect_metrics(tmp_path, run.dir)
        artifacts = {item.key: item.content for item in self._tracked(logger).items.get("artifact", [])}
        assert "poison" not in artifacts
        assert artifacts["good"] == b"good"
        assert [entry["event"]["type"] for entry in rejected(run.dir, key)] == ["artifact"]

    def test_files_that_were_deleted_are_rejected_once_and_nothing_else(
        self, begin: Callable[..., Run], tmp_path: Path
    ) -> None:
        run = begin("off")
        (key,), kinds = run.loggers, []
        log_rows(run, *range(10))
        for sample in samples(tmp_path / "samples"):
            if sample.kind in _WITH_FILES:
                sample.log(run)
                kinds.append(sample.kind)
        log_rows(run, *range(10, 20))
        run.finish()
        for directory in (run.dir / MEDIA, run.dir / CHECKPOINTS, tmp_path / "samples"):
            shutil.rmtree(directory)
        if not self.make_logger(tmp_path).keeps_files:
            kinds = [kind for kind in kinds if kind not in ("artifact", "checkpoint")]
        for _ in range(2):
            self.deliver(run.dir, key, tmp_path)
            assert [entry["event"]["type"] for entry in rejected(run.dir, key)] == kinds
        self.expect_metrics(tmp_path, run.dir)
        self.expect_status(tmp_path, run.dir, good=True)

    # The machine

    def test_a_full_disk_loses_nothing(self, written: Run, tmp_path: Path) -> None:
        (key,) = written.loggers
        with full_disk(), suppress(Exception):
            EagerCourier(written.dir, key, lambda: self.make_logger(tmp_path), follow=False, grace_period=0.0).run()
        assert rejected(written.dir, key) == []
        self.deliver(written.dir, key, tmp_path)
        self.expect_everything(tmp_path, written.dir, key, at_least_once=not self.has("exactly_once"))

    def test_a_clock_that_jumps_loses_nothing(self, proxy: FaultyProxy | None, tmp_path: Path) -> None:
        journal = JournalOf(run_info_of(tmp_path, "run"))
        times = [TIME + jump + step for step, jump in enumerate([0.0, 86_400.0, 86_400.0, -3_600.0, 0.0, 0.0])]
        for step, moment in enumerate(times):
            journal.add(Metrics(moment, step, {"loss": to_json_number(step / 3)}))
        journal.add(Finish(TIME, "success"))
        journal.deliver(lambda: self.make_logger(tmp_path))
        points = [Point(step, step / 3, moment) for step, moment in enumerate(times)]
        logger = journal.last or self.make_logger(tmp_path)
        if self.has("earlier_times"):
            self.expect(logger, {"loss": points}, times=True, delivered=True)
        else:  # the order in the tracker may differ
            self.expect(logger, {"loss": points}, at_least_once=True, delivered=True)

    # Killed processes

    def test_a_courier_that_is_killed_again_and_again(
        self, proxy: FaultyProxy | None, written: Run, tmp_path: Path
    ) -> None:
        (key,) = written.loggers
        kills = 0
        for requests, is_applied in ((1, True), (8, False), (16, True)):
            courier = in_process(deliver_in_process, self._constructor(tmp_path), written.dir, key)
            _kill_at(courier, proxy, requests, is_applied=is_applied)
            kills += courier.wait(TIMEOUT) == -signal.SIGKILL
        self.deliver(written.dir, key, tmp_path)
        self._expect_after_kills(tmp_path, written.dir, key, kills)

    def test_a_courier_that_is_killed_while_training_goes_on(self, begin: Callable[..., Run], tmp_path: Path) -> None:
        run = begin("process")
        (key,) = run.loggers
        log_rows(run, *range(20))
        assert run.flush(TIMEOUT)
        os.kill(load_position(run.dir, key).pid, signal.SIGKILL)
        log_rows(run, *range(20, 40))
        run.finish(timeout=TIMEOUT)
        self.expect_metrics(tmp_path, run.dir)
        self.expect_status(tmp_path, run.dir, good=True)

    def test_training_that_is_killed(self, proxy: FaultyProxy | None, tmp_path: Path) -> None:
        run_dir, key = self._train_and_kill(tmp_path)
        _until(lambda: load_position(run_dir, key).closed)
        self.expect_everything(tmp_path, run_dir, key)
        self.expect_status(tmp_path, run_dir, good=False)

    def test_training_and_couriers_that_are_killed_at_random_moments(
        self, proxy: FaultyProxy | None, tmp_path: Path
    ) -> None:
        run_dir, key = self._train_and_kill(tmp_path)
        moment, kills = random.uniform(0, 4), 1
        time.sleep(moment)
        with suppress(ProcessLookupError):
            os.kill(load_position(run_dir, key).pid or _NO_PROCESS, signal.SIGKILL)
        courier = in_process(deliver_in_process, self._constructor(tmp_path), run_dir, key)
        with suppress(subprocess.TimeoutExpired):
            courier.wait(moment)
        courier.kill()
        kills += courier.wait(TIMEOUT) == -signal.SIGKILL
        self.deliver(run_dir, key, tmp_path)
        self._expect_after_kills(tmp_path, run_dir, key, kills)
        self.expect_status(tmp_path, run_dir, good=False)

    def _train_and_kill(self, tmp_path: Path) -> tuple[Path, str]:
        run_id = uuid.uuid4().hex
        training = in_process(log_and_be_killed, self._constructor(tmp_path), tmp_path, run_id, self._kinds())
        assert training.wait(TIMEOUT) == -signal.SIGKILL
        run_dir = tmp_path / "runs" / "contract" / run_id
        start = read_start(run_dir / JOURNAL)
        assert start is not None
        (key,) = start.loggers
        return run_dir, key

    def _expect_after_kills(self, tmp_path: Path, run_dir: Path, key: str, kills: int) -> None:
        """Compare everything; unless the tracker delivers exactly once, each kill may have duplicated a value."""
        __tracebackhide__ = True
        is_exact = kills == 0 or self.has("exactly_once")
        self.expect_everything(tmp_path, run_dir, key, at_least_once=not is_exact)
        logged, found = points_logged(run_dir), self._tracked(self._reader(tmp_path, run_dir)).metrics
        if self.has("any_name"):
            often = [name for name, points in logged.items() if len(found[name]) > (1 + kills) * len(points)]
            assert not often, f"metrics came more than {1 + kills} times: {few(often)}"

    def _constructor(self, tmp_path: Path) -> tuple[type[Logger], Any, Any]:
        logger = self.make_logger(tmp_path)
        return (type(logger), *logger._constructor)


_NO_PROCESS = 1 << 30  # an unused process id


def _kill_at(process: Any, proxy: FaultyProxy | None, requests: int, *, is_applied: bool) -> None:
    """Kill a process at one of its requests, or some time after its start if it sends none."""
    if proxy is None:
        time.sleep(requests / 10)
        process.kill()
        return
    so_far = iter(range(requests))

    def kill(handler: Any) -> Any:
        if next(so_far, None) is not None:
            return handler.ask()
        if is_applied:
            handler.ask()
        process.kill()
        return None

    proxy.fail("", kill)
    process.wait(TIMEOUT)
    proxy.heal()


def _until(condition: Callable[[], object]) -> None:
    assert wait_until(condition, TIMEOUT, every=0.01), "the condition was not met in time"

"""`LoggerContract`: the tests that every logger must pass."""

from __future__ import annotations

import functools
import math
import pickle
import subprocess
import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from rankzero.delivery.courier import Courier
from rankzero.delivery.verification import compare
from rankzero.errors import RejectedError, is_data_error
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero.events.structs import Finish, Params, Rewind, Start
from rankzero.loggers.base import Logger
from rankzero.loggers.experiment import DummyExperiment
from rankzero.testing.base import Attach, TrackerContract, Values, check_watermark, points_of, run_info_of
from rankzero.testing.capabilities import ALL
from rankzero.testing.compare import difference, few, item_difference, keys_by_kind
from rankzero.testing.journals import TIME, DyingCourier, JournalOf, KilledError, die
from rankzero.testing.samples import ARRAYS, KINDS, Sample, array_sample, samples
from rankzero.testing.tracked import Item, Point, Tracked
from rankzero.values import Number

NAMES = [
    *("train/loss", "val/loss", "a b", "a:b", "a.b-c_d", "loss (mean)", "精度", "größe", "🦉", "x" * 100),
    *("[x]", "50%", "*", "'", '"', "=", "|", "a\\b", ","),
]
PARAMS: dict[str, Any] = {
    "lr": 0.1,
    "layers": 3,
    "bias": True,
    "name": "Größe",
    "optimizer": {"type": "adam", "decay": 1e-05},
}
ROWS: list[tuple[int, dict[str, Number]]] = [
    (0, {"loss": 2.5, "n": 1}),
    (1, {"loss": 1.25, "n": 2, "train/acc": 0.1}),
    (2, {"loss": 0.1, "n": 3}),
    (3, {"train/acc": 1 / 3}),
    (4, {"loss": -1e-300, "n": 0, "late": 7.0}),
]
REWOUND: list[tuple[int, dict[str, Number]]] = [(2, {"loss": 9.5}), (3, {"loss": 8.25}), (4, {"n": 6})]
_FALLBACKS = {"text": ("table", "artifact"), "checkpoint": ("artifact",)}


class LoggerContract(TrackerContract):
    """Subclass it with a name that begins with ``Test``; see `rankzero.testing`.

    Every test logs something, closes the logger and compares what `read_back` returns, value by value.
    """

    sdk_module: ClassVar[str | None] = None
    """The module of the SDK, which making the logger must not import; None if there is no SDK."""

    def break_tracker(self, logger: Logger) -> AbstractContextManager[Any] | None:
        """Return a context in which the logger's tracker fails: its server is down, or its disk is full.

        Override it to test that ``flush()`` does not hide errors of the tracker, so that lost values would count as
        delivered. The test is skipped if this returns None.
        """
        return None

    # The tests

    def test_capabilities_are_spelled_right(self) -> None:
        assert self.capabilities <= ALL, f"unknown: {sorted(self.capabilities - ALL)}"

    def test_metrics(self, attach: Attach) -> None:
        logger = attach()
        for step, metrics in ROWS:
            logger.log_metrics(metrics=dict(metrics), step=step)
        logger.close()
        self.expect(logger, points_of(ROWS))

    def test_floats(self, attach: Attach) -> None:
        values = [0.1, 1 / 3, -0.0, 1e-300, 5e-324, 1.7976931348623157e308, 123456.789, 2.0**-24, -1.5]
        if not self.has("float64"):
            values = [0.1, 1 / 3, 123456.789, 2.0**-24, -1.5]
        self._round_trip(attach(), values)

    def test_ints(self, attach: Attach) -> None:
        values = [0, 1, -1, 2**24 + 1, 2**53 - 1]
        if not self.has("float64"):
            values = [0, 1, -1, 2**24]
        self._round_trip(attach(), values + [2**53 + 1, 2**63 - 1, -(2**62) - 1] * self.has("big_ints"))

    def test_nan_and_infinity(self, attach: Attach) -> None:
        logger = attach()
        odd = {"nan": math.nan, "inf": math.inf, "minus inf": -math.inf}
        rows: list[tuple[int, dict[str, Number]]] = [(0, {"fine": 1.5, **odd}), (1, {"fine": 2.5})]
        for step, metrics in rows:
            self._warnings_of(functools.partial(logger.log_metrics, metrics=metrics, step=step))
        logger.close()
        if self.has("nan"):
            self.expect(logger, points_of(rows))
        else:
            self.expect(logger, {"fine": [Point(0, 1.5), Point(1, 2.5)]})
            found = self._tracked(logger).metrics
            wrong = {
                name: found[name] for name in odd if any(math.isfinite(point.value) for point in found.get(name, []))
            }
            assert not wrong, f"there are numbers at steps where none was logged: {wrong}"

    def test_names(self, attach: Attach) -> None:
        logger = attach()
        names = [name for name in NAMES if name != ","]
        values: dict[str, Number] = {name: index + 0.5 for index, name in enumerate(names)}
        self._warnings_of(lambda: logger.log_metrics(metrics=values, step=1))
        logger.close()
        self.expect(logger, points_of([(1, values)]))

    def test_steps_out_of_order_and_repeated(self, attach: Attach) -> None:
        logger = attach()
        rows: list[tuple[int, dict[str, Number]]] = [
            (step, {"loss": float(index)}) for index, step in enumerate([5, 6, 1, 0, 6, 6, 1000, 2])
        ]
        for step, metrics in rows:
            logger.log_metrics(metrics=metrics, step=step)
        logger.close()
        self.expect(logger, points_of(rows))

    def test_no_step_and_nothing_logged(self, attach: Attach) -> None:
        logger = attach()
        logger.log_metrics(metrics={"loss": 1.5})
        logger.log_metrics(metrics={}, step=1)
        logger.close()
        found = self._tracked(logger).metrics
        values = [
            point.value
            for name, points in found.items()
            if name == "loss" or not self.has("any_name")
            for point in points
        ]
        problem = difference("loss", [(None, "1.5")], [(None, self._written(value)) for value in values])
        assert problem is None, f"{problem}; there are the metrics {sorted(found)}"

    def test_original_times(self, attach: Attach) -> None:
        logger = attach()
        rows = _rows()
        for row in rows:
            with logger.at(row.context):
                logger.log_metrics(metrics=row.values, step=row.step)
        logger.close()
        self.expect(logger, points_of(ROWS), times=True)

    def test_batch_is_like_single_calls(self, attach: Attach) -> None:
        logger = attach()
        logger.log_metrics_batch(_rows())
        logger.flush()
        logger.close()
        self.expect(logger, points_of(ROWS), times=True)

    def test_large_batch(self, attach: Attach) -> None:
        logger = attach()
        rows: list[tuple[int, dict[str, Number]]] = [(step, {"loss": step / 8}) for step in range(2500)]
        logger.log_metrics_batch(_rows(rows))
        logger.flush()
        logger.close()
        self.expect(logger, points_of(rows))

    def test_metrics_can_be_read_back(self, attach: Attach) -> None:
        logger = attach()
        try:
            logger.read_metrics(())
        except NotImplementedError:
            pytest.skip("the logger does not read metrics back")
        names: dict[str, Number] = {name: index + 0.5 for index, name in enumerate(NAMES) if name != ","}
        rows = [*ROWS, (7, names)]
        if self.has("nan"):
            rows += [(8, {"loss": math.nan}), (9, {"loss": -math.inf})]
        self._warnings_of(lambda: logger.log_metrics_batch(_rows(rows)))
        logger.flush()
        logger.finalize("success")
        logger.close()
        self._expect_verified(attach(), points_of(rows))

    def test_hyperparameters(self, attach: Attach) -> None:
        logger = attach()
        logger.log_hyperparams(PARAMS)
        logger.close()
        self._expect_params(logger, PARAMS)

    def test_hyperparameters_of_several_calls_merge(self, attach: Attach) -> None:
        logger = attach()
        logger.log_hyperparams(Namespace(lr=0.1, layers=3))
        logger.log_hyperparams({"seed": 7})
        logger.log_hyperparams({})
        logger.close()
        self._expect_params(logger, {"lr": 0.1, "layers": 3, "seed": 7})

    def test_initial_values_beside_hyperparameters(self, attach: Attach, tmp_path: Path) -> None:
        journal = JournalOf(run_info_of(tmp_path, "run"))
        journal.add(Params(TIME, {"lr": 0.1}, metrics={"hp_loss": 0.5}))
        journal.deliver(lambda: self.make_logger(tmp_path))
        logger = self._reader(attach, journal)
        self._expect_params(logger, {"lr": 0.1})
        found = self._tracked(logger).metrics
        values = [
            point.value
            for name, points in found.items()
            if name == "hp_loss" or not self.has("any_name")
            for point in points
        ]
        assert values == [0.5], (
            f"the initial value 0.5 of 'hp_loss' came back as {values}: log_hyperparams(params, metrics=...) must keep "
            "metrics, or not accept them (then they go to log_metrics at step 0)"
        )

    @pytest.mark.parametrize("kind", KINDS)
    def test_verb_keeps_its_data_or_warns_once(self, attach: Attach, tmp_path: Path, kind: str) -> None:
        logger = attach()
        sample = _sample(tmp_path, kind)
        first = self._warnings_of(lambda: sample.log(logger))
        second = self._warnings_of(lambda: sample.log(logger))
        logger.close()
        self._expect_kept(logger, sample, first, second)

    @pytest.mark.parametrize("kind", ARRAYS)
    def test_arrays_can_be_logged_directly(self, attach: Attach, kind: str) -> None:
        pytest.importorskip("numpy")
        logger = attach()
        sample = array_sample(kind)
        first = self._warnings_of(lambda: sample.log(logger))
        second = self._warnings_of(lambda: sample.log(logger))
        logger.close()
        self._expect_kept(logger, sample, first, second)

    def _expect_kept(self, logger: Logger, sample: Sample, first: list[str], second: list[str]) -> None:
        """Check a sample that was logged twice, with the warnings of the first and the second call."""
        __tracebackhide__ = True
        kind, tracked = sample.kind, self._tracked(logger)
        if kind == "tags":
            found = [Item(tag) for tag in tracked.tags]
        else:
            others = () if self.has(kind) else _FALLBACKS.get(kind, ("artifact",))
            found = [item for each in (kind, *others) for item in tracked.items.get(each, [])]
        of_key = [item for item in found if item.key == sample.key]
        if self.has(kind):
            if not of_key:
                pytest.fail(f"the {kind} {sample.key!r} is missing; by kind, there came back {keys_by_kind(tracked)}")
            problem = item_difference(of_key[-1], sample)
            if problem is not None:
                pytest.fail(problem)
        elif not of_key:
            there = f"by kind, there came back {keys_by_kind(tracked)}"
            assert first, f"the {kind} {sample.key!r} is not kept, and there was no warning; {there}"
            assert not second, f"the warning that the {kind} {sample.key!r} is not kept was repeated: {second}"

    def test_other_verbs_can_be_called(self, attach: Attach, tmp_path: Path) -> None:
        logger = attach()
        checkpoint = tmp_path / "last.ckpt"
        checkpoint.write_bytes(b"weights")
        callback = SimpleNamespace(
            best_k_models={str(checkpoint): 0.5},
            best_model_path=str(checkpoint),
            best_model_score=0.5,
            current_score=0.5,
            last_model_path=str(checkpoint),
            monitor="loss",
            mode="min",
        )
        for _ in range(2):
            self._warnings_of(functools.partial(logger.after_save_checkpoint, callback))
            logger.save()
        logger.close()
        assert isinstance(logger.name, str | None)
        assert isinstance(logger.version, int | str | None)

    def test_aggregated_metrics_are_logged_at_the_end(self, attach: Attach) -> None:
        logger = attach()
        for value in (1.0, 3.0):
            logger.agg_and_log_metrics({"loss": value}, step=1)
        logger.agg_and_log_metrics({"loss": 8.0}, step=2)
        logger.close()
        self.expect(logger, {"loss": [Point(1, 2.0), Point(2, 8.0)]})

    @pytest.mark.parametrize("status", ["success", "finished", "failed", "aborted", "crashed"])
    def test_finalize(self, attach: Attach, status: str) -> None:
        logger = attach()
        logger.log_metrics(metrics={"loss": 1.5}, step=0)
        logger.finalize(status)
        logger.log_metrics(metrics={"test_loss": 2.5}, step=1)  # as frameworks do
        logger.finalize(status)
        logger.close()
        self.expect(logger, {"loss": [Point(0, 1.5)], "test_loss": [Point(1, 2.5)]})
        if self.has("status"):
            found = self._tracked(logger).status
            good = ("success", "finished")
            assert (found in good) == (status in good), (
                f"finalize({status!r}) came back as {found!r}: it must be one of {good} for a successful run, and "
                "another word for the others"
            )

    def test_flush_acknowledges(self, attach: Attach) -> None:
        logger = attach()
        for step, metrics in ROWS:
            logger.log_metrics(metrics=dict(metrics), step=step)
        logger.flush()
        logger.flush()
        if self.has("acknowledges"):
            self.expect(logger, points_of(ROWS))

    def test_how_to_view(self, attach: Attach) -> None:
        logger = attach()
        logger.log_metrics(metrics={"loss": 1.5}, step=0)
        logger.flush()
        view = logger.how_to_view()
        is_line = isinstance(view, str) and bool(view.strip()) and len(view.splitlines()) == 1
        assert view is None or is_line, f"how_to_view() returned {view!r}; it must return one line of text, or None"

    def test_flush_raises_the_trackers_errors(self, attach: Attach) -> None:
        logger = attach()
        logger.log_metrics(metrics={"loss": 2.5}, step=0)
        logger.flush()
        broken = self.break_tracker(logger)
        if broken is None:
            pytest.skip("break_tracker() is not provided, so it is unknown whether flush() hides errors")
        error, where = None, "log_metrics()"
        with broken:
            try:
                logger.log_metrics(metrics={"loss": 1.5}, step=1)
                where = "flush()"
                logger.flush()
            except Exception as raised:
                error = raised
        assert error is not None, (
            "flush() returned while the tracker failed: its values would count as delivered, and be lost. Do not catch "
            "the error, or raise TrackerUnavailableError"
        )
        is_blamed = isinstance(error, RejectedError) or (where == "log_metrics()" and is_data_error(error))
        assert not is_blamed, (
            f"{where} raised {error!r} while the tracker failed: this means that the event is invalid, and it would be "
            "rejected. Raise TrackerUnavailableError"
        )
        logger.log_metrics(metrics={"loss": 1.5}, step=1)  # as a courier does
        logger.flush()
        logger.close()
        self.expect(logger, {"loss": [Point(0, 2.5), Point(1, 1.5)]}, at_least_once=True)

    def test_close_is_idempotent_and_logging_goes_on_after_it(self, attach: Attach) -> None:
        logger = attach()
        logger.close()
        logger.log_metrics(metrics={"loss": 1.5}, step=0)
        logger.close()
        logger.close()
        if self.has("resume"):
            logger.log_metrics(metrics={"loss": 2.5}, step=1)
            logger.close()
            self.expect(logger, {"loss": [Point(0, 1.5), Point(1, 2.5)]})
        else:
            self.expect(logger, {"loss": [Point(0, 1.5)]})

    def test_second_logger_continues_the_run(self, attach: Attach) -> None:
        if not self.has("resume"):
            pytest.skip("the tracker cannot resume")
        logger = attach()
        for step, metrics in ROWS:
            logger = attach()
            logger.log_metrics(metrics=dict(metrics), step=step)
            logger.log_hyperparams({f"p{step}": step})
            logger.finalize("success")
            logger.close()
        self.expect(logger, points_of(ROWS))
        self._expect_params(logger, {f"p{step}": step for step, _ in ROWS})

    def test_several_runs_at_once(self, attach: Attach) -> None:
        if not self.has("several_runs"):
            pytest.skip("the tracker allows one open run in a process")
        loggers = [attach("first"), attach("second")]
        for step in range(3):
            for index, logger in enumerate(loggers):
                logger.log_metrics(metrics={"loss": float(10 * index + step)}, step=step)
        for logger in loggers:
            logger.close()
        for index, logger in enumerate(loggers):
            self.expect(logger, {"loss": [Point(step, float(10 * index + step)) for step in range(3)]})

    def test_other_ranks_do_nothing(self, attach: Attach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        to_log = samples(tmp_path / "samples")
        info = run_info_of(tmp_path, "run")
        before = _files(tmp_path)
        monkeypatch.setenv("RANK", "1")
        logger: Any = self.make_logger(tmp_path)
        verbs: dict[str, Callable[[], Any]] = {
            "attach": lambda: logger.attach(info),
            "log_metrics": lambda: logger.log_metrics(metrics={"leak": 1.0}, step=0),
            "log_metrics_batch": lambda: logger.log_metrics_batch(_rows([(0, {"leak": 1.0})])),
            "log_hyperparams": lambda: logger.log_hyperparams({"leak": 1}),
            **{f"the verb for {each.kind}": functools.partial(each.log, logger) for each in to_log},
            "agg_and_log_metrics": lambda: logger.agg_and_log_metrics({"leak": 1.0}, step=1),
            "save": logger.save,
            "flush": logger.flush,
            "finalize": lambda: logger.finalize("success"),
            "close": logger.close,
        }
        for verb, call in verbs.items():
            result = call()
            assert result is None, f"on rank 1 {verb} returned {result!r}"
            written = sorted((_files(tmp_path) - before).elements())
            assert not written, f"on rank 1 {verb} wrote {few(written)}"
        experiment = logger.experiment
        assert isinstance(experiment, DummyExperiment), f"on rank 1 the experiment is {experiment!r}"
        experiment.log({"leak": 1})
        monkeypatch.delenv("RANK")
        rank_zero = attach()
        rank_zero.log_metrics(metrics={"loss": 1.5}, step=0)
        rank_zero.close()
        self.expect(rank_zero, {"loss": [Point(0, 1.5)]})
        self._expect_no_leak("the run of rank zero", self._tracked(rank_zero))
        with suppress(Exception):  # the logger of the other rank should have no run
            self._expect_no_leak("a run of its own", self.read_back(logger))

    def _expect_no_leak(self, where: str, tracked: Tracked) -> None:
        __tracebackhide__ = True
        leaks = {
            "metrics": [f"{name!r} = {points}" for name, points in tracked.metrics.items() if "leak" in name],
            "hyperparameters": [f"{name!r} = {value!r}" for name, value in tracked.params.items() if "leak" in name],
            "items": [keys_by_kind(tracked)] * (any(tracked.items.values()) or bool(tracked.tags)),
        }
        for what, found in leaks.items():
            if found:
                pytest.fail(f"data of rank 1 is in {where}, as {what}: {few(found)}")

    def test_pickling_starts_nothing(self, attach: Attach, tmp_path: Path) -> None:
        before = _files(tmp_path)
        copy = pickle.loads(pickle.dumps(self.make_logger(tmp_path)))
        self._expect_no_files("pickling the logger", tmp_path, before)
        attach(logger=copy)
        copy.log_metrics(metrics={"loss": 1.5}, step=0)
        copy.close()
        self.expect(copy, {"loss": [Point(0, 1.5)]})

    def test_constructor_starts_nothing(self, tmp_path: Path) -> None:
        before = _files(tmp_path)
        logger = self.make_logger(tmp_path)
        self._expect_no_files("making the logger", tmp_path, before)
        if self.sdk_module is None:
            return
        args, options = logger._constructor
        program = (
            "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
            "cls, args, options, sdk = pickle.load(sys.stdin.buffer); cls(*args, **options); "
            "sys.exit(sdk in sys.modules)"
        )
        made = pickle.dumps(sys.path) + pickle.dumps((type(logger), args, options, self.sdk_module))
        result = subprocess.run([sys.executable, "-c", program], input=made, check=False)
        assert result.returncode == 0, f"making the logger imports {self.sdk_module}"

    def _expect_no_files(self, what: str, tmp_path: Path, before: Counter[str]) -> None:
        written = sorted((_files(tmp_path) - before).elements())
        assert not written, f"{what} wrote {few(written)}; write it with the first verb instead"

    # Delivery

    def test_delivery(self, attach: Attach, tmp_path: Path) -> None:
        journal = JournalOf(run_info_of(tmp_path, "run"))
        journal.log_all(ROWS)
        journal.add(Params(TIME, PARAMS), Finish(TIME + 9, "success"))
        journal.deliver(lambda: self.make_logger(tmp_path))
        logger = self._reader(attach, journal)
        self.expect(logger, points_of(ROWS), times=True, delivered=True)
        self._expect_params(logger, PARAMS)

    def test_watermark_counts_the_lines(self, attach: Attach, tmp_path: Path) -> None:
        if not self.has("resume"):
            pytest.skip("the tracker cannot resume")
        journal = JournalOf(run_info_of(tmp_path, "run"))
        journal.log_all(ROWS)
        journal.deliver(lambda: self.make_logger(tmp_path))
        watermark = attach().watermark()
        check_watermark(watermark)
        if watermark is None:
            return
        found = f"watermark() returned {watermark} when the last delivered context.line was {journal.lines - 1}"
        assert watermark <= journal.lines, f"{found}: lines that were never delivered would be skipped"
        if self.has("exactly_once"):
            assert watermark == journal.lines, f"{found}: it must return {journal.lines}, a number of lines"

    def test_delivery_of_a_resumed_run(self, attach: Attach, tmp_path: Path) -> None:
        if not self.has("resume"):
            pytest.skip("the tracker cannot resume")
        journal = JournalOf(run_info_of(tmp_path, "run"))
        journal.log_all(ROWS[:2])
        journal.add(Finish(TIME, "success"))
        journal.deliver(lambda: self.make_logger(tmp_path))
        journal.add(Start(TIME, journal.run, resumed=True))
        journal.log_all(ROWS[2:], first=2)
        journal.deliver(lambda: self.make_logger(tmp_path))
        journal.deliver(lambda: self.make_logger(tmp_path))
        self.expect(self._reader(attach, journal), points_of(ROWS), times=True, delivered=True)

    @pytest.mark.parametrize("courier", [Courier, DyingCourier], ids=["courier", "killed courier"])
    def test_a_rewind_takes_later_steps_back(self, attach: Attach, tmp_path: Path, courier: type[Courier]) -> None:
        if not self.has("resume"):
            pytest.skip("the tracker cannot resume")
        journal = JournalOf(run_info_of(tmp_path, "run"))
        journal.log_all(ROWS)
        journal.deliver(lambda: self.make_logger(tmp_path))
        journal.add(Rewind(TIME + len(ROWS), 1))
        journal.log_all(REWOUND, first=len(ROWS))

        def deliver() -> None:
            with suppress(KilledError):
                journal.deliver(lambda: self.make_logger(tmp_path), courier)

        said = [each for each in self._warnings_of(deliver) if "was rewound" in each]
        if courier is DyingCourier:
            self._warnings_of(lambda: journal.deliver(lambda: self.make_logger(tmp_path)))
        logger = self._reader(attach, journal)
        if self.has("rewind"):
            assert not said, f"the logger warned that it does not follow a rewind: {said}"
            late = self._tracked(logger).metrics.get("late")
            assert not late, f"values of later steps are still there: {late}"
            self.expect(logger, _rewound(), at_least_once=not self.has("exactly_once"), delivered=True)
        else:
            assert len(said) == 1, f"one warning must say that the tracker keeps what a rewind supersedes: {said}"
            expected = points_of([*ROWS, *REWOUND])
            self.expect(logger, expected, at_least_once=not self.has("exactly_once"), delivered=True)
        if self.has("exactly_once"):
            self._expect_verified(attach(), _rewound(), {} if self.has("rewind") else points_of([*ROWS, *REWOUND]))

    def test_a_rewound_run_is_delivered_without_superseded_steps(self, attach: Attach, tmp_path: Path) -> None:
        journal = JournalOf(run_info_of(tmp_path, "run"))
        journal.log_all(ROWS)
        journal.add(Rewind(TIME + len(ROWS), 1))
        journal.log_all(REWOUND, first=len(ROWS))
        said = self._warnings_of(lambda: journal.deliver(lambda: self.make_logger(tmp_path)))
        assert not [each for each in said if "was rewound" in each], f"nothing had to be taken back: {said}"
        self.expect(self._reader(attach, journal), _rewound(), delivered=True)

    @pytest.mark.parametrize("when", ["before flush", "after flush"])
    def test_nothing_is_lost_when_a_courier_is_killed(self, attach: Attach, tmp_path: Path, when: str) -> None:
        journal = JournalOf(run_info_of(tmp_path, "run"))
        journal.log_all(ROWS[:2])
        journal.deliver(lambda: self.make_logger(tmp_path))
        journal.log_all(ROWS[2:4], first=2)
        killed: list[Logger] = []

        # The killed logger stays alive until the end of the test, with everything that it has open.
        def make_logger() -> Logger:
            killed.append(self.make_logger(tmp_path))
            if when == "before flush":
                killed[0].flush = die  # type: ignore[method-assign]
            return killed[0]

        with pytest.raises(KilledError):
            journal.deliver(make_logger, courier=DyingCourier)
        journal.log_all(ROWS[4:], first=4)
        journal.deliver(lambda: self.make_logger(tmp_path))
        logger = self._reader(attach, journal)
        self.expect(logger, points_of(ROWS), at_least_once=not self.has("exactly_once"), delivered=True)
        with suppress(KilledError, Exception):
            killed[0].close()

    def _reader(self, attach: Attach, journal: JournalOf) -> Logger:
        """Return a logger of the delivered run, for `read_back`."""
        return journal.last or attach()

    def _expect_verified(self, logger: Logger, expected: Values, may_keep: Values | None = None) -> None:
        """Compare what ``read_metrics`` returns, if the logger has it, as ``rankzero sync --verify`` does."""

        def pairs(points: Iterable[Point]) -> list[tuple[int | None, Number]]:
            return [(point.step, point.value) for point in points]

        with suppress(NotImplementedError):
            found = logger.read_metrics(list(expected))
            compared = [
                compare(name, pairs(points), found.get(name) or (), pairs((may_keep or {}).get(name, ())))
                for name, points in expected.items()
            ]
            different = [each.describe() for each in compared if not each.is_equal]
            assert not different, f"read_metrics() does not return what was logged: {'; '.join(different)}"

    def _round_trip(self, logger: Logger, values: list[Any]) -> None:
        rows = [(step, {"value": value}) for step, value in enumerate(values)]
        for step, metrics in rows:
            logger.log_metrics(metrics=metrics, step=step)
        logger.close()
        self.expect(logger, points_of(rows))

    def _warnings_of(self, call: Callable[[], Any]) -> list[str]:
        """Return the warnings of a call, which are a result here and not an error."""
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            call()
        return [str(each.message) for each in warned if issubclass(each.category, UserWarning)]


def _rows(rows: Iterable[tuple[int, Mapping[str, Number]]] = ROWS) -> list[MetricsRow]:
    return [MetricsRow(dict(values), step, LogContext(TIME + i, i)) for i, (step, values) in enumerate(rows)]


def _rewound() -> dict[str, list[Point]]:
    """Return the points that are left of `ROWS` after a rewind to step 1, and those of `REWOUND`."""
    kept = [(step, values if step <= 1 else {}) for step, values in ROWS]
    return points_of([*kept, *REWOUND])


def _sample(tmp_path: Path, kind: str) -> Sample:
    return next(sample for sample in samples(tmp_path / "samples") if sample.kind == kind)


def _files(directory: Path) -> Counter[str]:
    return Counter(str(path) for path in directory.rglob("*"))

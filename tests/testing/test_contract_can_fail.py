"""`LoggerContract` fails for each kind of broken logger."""

import re

import pytest
from testing.broken_loggers import failures

BROKEN_LOGGERS = """
import contextlib, math, os, struct, pytest
from rankzero.errors import RejectedError
from rankzero.testing import ALL, LoggerContract, MemoryLogger


class MemoryContract(LoggerContract):
    capabilities = ALL - {"exactly_once"}
    logger = MemoryLogger

    @pytest.fixture(autouse=True)
    def _tracker(self, tmp_path):
        self.calls = []
        os.chdir(tmp_path)

    def make_logger(self, tmp_path):
        return self.logger(self.calls)

    def read_back(self, logger):
        return logger.tracked()


def broken(change):
    class Broken(MemoryLogger):
        def log_metrics(self, metrics, step=None):
            metrics = change(metrics)
            super().log_metrics(metrics, step)
    return Broken


class TestIntact(MemoryContract):
    logger = broken(dict)


class TestDropsNaN(MemoryContract):
    logger = broken(lambda metrics: {k: v for k, v in metrics.items() if math.isfinite(v)})


class TestMakesNaNZero(MemoryContract):
    capabilities = MemoryContract.capabilities - {"nan"}
    logger = broken(lambda metrics: {k: v if math.isfinite(v) else 0.0 for k, v in metrics.items()})


class TestLosesIntPrecision(MemoryContract):
    logger = broken(lambda metrics: {k: float(v) for k, v in metrics.items()})


class TestLosesFloatPrecision(MemoryContract):
    logger = broken(lambda metrics: {k: float(f"{v:.6g}") if type(v) is float else v for k, v in metrics.items()})


class TestMergesNames(MemoryContract):
    capabilities = MemoryContract.capabilities - {"any_name"}
    logger = broken(lambda metrics: {"".join(c for c in k if c.isascii() and c.isalnum()): metrics[k] for k in metrics})


class TestDoublesRows(MemoryContract):
    class logger(MemoryLogger):
        def log_metrics(self, metrics, step=None):
            super().log_metrics(metrics, step)
            super().log_metrics(metrics, step)


class TestClaimsExactlyOnce(MemoryContract):
    capabilities = ALL


class TestIgnoresRank(MemoryContract):
    class logger(MemoryLogger):
        def __init__(self, calls):
            super().__init__(calls)
            self.log_metrics = self.really_log_metrics

        def really_log_metrics(self, metrics, step=None):
            self._record("log_metrics", metrics=dict(metrics), step=step)


class TestLosesTimes(MemoryContract):
    class logger(MemoryLogger):
        context = property(lambda self: __import__("rankzero.loggers.base").logger.LogContext(0.0))


class TestLosesTheLastRowOfABatch(MemoryContract):
    class logger(MemoryLogger):
        def log_metrics_batch(self, rows):
            super().log_metrics_batch(rows[:1000])


class TestDropsTablesInSilence(MemoryContract):
    class logger(MemoryLogger):
        def log_table(self, *args, **kwargs):
            pass


class TestNagsAboutTags(MemoryContract):
    capabilities = MemoryContract.capabilities - {"tags"}
    class logger(MemoryLogger):
        def log_tags(self, tags):
            __import__("warnings").warn("no tags")


class TestReplacesParams(MemoryContract):
    class logger(MemoryLogger):
        def log_hyperparams(self, params, *args, **kwargs):
            self.calls[:] = [call for call in self.calls if call.verb != "log_hyperparams"]
            super().log_hyperparams(params)


class TestBuffersUntilItIsTooLate(MemoryContract):
    class logger(MemoryLogger):
        rows = ()
        def log_metrics(self, metrics, step=None):
            self.rows = [*self.rows, (metrics, step)]

        def close(self):
            for metrics, step in self.rows:
                super().log_metrics(metrics, step)
            self.rows = ()


class TestStartsWhenMade(MemoryContract):
    class logger(MemoryLogger):
        def __init__(self, calls):
            super().__init__(calls)
            open("started", "w").close()


class TestClosesOnceForever(MemoryContract):
    class logger(MemoryLogger):
        done = False
        def log_metrics(self, metrics, step=None):
            if not self.done:
                super().log_metrics(metrics, step)

        def close(self):
            self.done = True


class Fragile(MemoryContract):
    # The tracker's errors come up when the logger writes to it, which is in flush().

    @contextlib.contextmanager
    def break_tracker(self, logger):
        logger.is_down = True
        yield
        logger.is_down = False

    class logger(MemoryLogger):
        is_down = False
        rows = ()

        def log_metrics(self, metrics, step=None):
            self.rows = [*self.rows, (metrics, step, self.context)]

        def flush(self):
            if self.is_down:
                raise ConnectionError("no route")
            for metrics, step, context in self.rows:
                with self.at(context):
                    super().log_metrics(metrics, step)
            self.rows = ()

        def close(self):
            self.flush()


class TestIntactAndFragile(Fragile):
    pass


class TestSwallowsErrors(Fragile):
    class logger(Fragile.logger):
        def flush(self):
            with contextlib.suppress(ConnectionError):
                super().flush()


class TestBlamesTheEvent(Fragile):
    class logger(Fragile.logger):
        def flush(self):
            try:
                super().flush()
            except ConnectionError as error:
                raise RejectedError("no") from error


class TestDropsInitialValues(MemoryContract):
    class logger(MemoryLogger):
        def log_hyperparams(self, params, metrics=None):
            super().log_hyperparams(params)


class TestTakesPathsOnly(MemoryContract):
    class logger(MemoryLogger):
        def log_audio(self, key, audios, step=None, **kwargs):
            super().log_audio(key, [os.fspath(audio) for audio in audios], step)


class Ledger(MemoryContract):
    # A tracker that knows how many lines it has, and takes each value in at once.

    capabilities = ALL
    off_by = 0

    def make_logger(self, tmp_path):
        logger = self.logger(self.calls)
        logger.off_by = self.off_by
        return logger

    class logger(MemoryLogger):
        def watermark(self):
            mine = [call.context.line for call in self.calls if call.run_id == self.run_info.id]
            lines = [line + 1 for line in mine if line is not None]
            return max(lines) + self.off_by if lines else 0


class TestIntactAndExact(Ledger):
    pass


class TestWatermarkIsALine(Ledger):
    off_by = -1


class TestWatermarkIsAhead(Ledger):
    off_by = 1


class TestWatermarkIsAText(Ledger):
    class logger(Ledger.logger):
        def watermark(self):
            return str(super().watermark())


class TestViewedInTwoLines(MemoryContract):
    class logger(MemoryLogger):
        def how_to_view(self):
            return "one\\ntwo"


class TestViewedBySilence(MemoryContract):
    class logger(MemoryLogger):
        def how_to_view(self):
            return ""


class TestFinishesAsDone(MemoryContract):
    class logger(MemoryLogger):
        def finalize(self, status):
            super().finalize("done")


class TestKeepsImagesAsFigures(MemoryContract):
    class logger(MemoryLogger):
        def log_image(self, key, images, step=None, **kwargs):
            super().log_figure(key, images[0], step)


class TestForgetsItsBufferWhenClosed(MemoryContract):
    class logger(MemoryLogger):
        def __init__(self, calls):
            super().__init__(calls)
            self.rows = []

        def log_metrics(self, metrics, step=None):
            self.rows.append((metrics, step))

        def flush(self):
            while self.rows:
                super().log_metrics(*self.rows.pop(0))


class TestReadsNothingBack(MemoryContract):
    def read_back(self, logger):
        pass


class TestIgnoresRewinds(MemoryContract):
    class logger(MemoryLogger):
        def rewind(self, step):
            pass


class TestIgnoresRewindsInSilence(TestIgnoresRewinds):
    capabilities = MemoryContract.capabilities - {"rewind"}


class TestMisspeltCapability(MemoryContract):
    capabilities = ALL | {"NaN"}
"""

FAILURES = {
    "TestDropsNaN": "test_nan_and_infinity",
    "TestMakesNaNZero": "test_nan_and_infinity",
    "TestLosesIntPrecision": "test_ints",
    "TestLosesFloatPrecision": "test_floats",
    "TestMergesNames": "test_names",
    "TestDoublesRows": "test_metrics",
    "TestClaimsExactlyOnce": "test_nothing_is_lost_when_a_courier_is_killed[after flush]",
    "TestIgnoresRank": "test_other_ranks_do_nothing",
    "TestLosesTimes": "test_original_times",
    "TestLosesTheLastRowOfABatch": "test_large_batch",
    "TestDropsTablesInSilence": "test_verb_keeps_its_data_or_warns_once[table]",
    "TestNagsAboutTags": "test_verb_keeps_its_data_or_warns_once[tags]",
    "TestReplacesParams": "test_hyperparameters_of_several_calls_merge",
    "TestBuffersUntilItIsTooLate": "test_flush_acknowledges",
    "TestStartsWhenMade": "test_constructor_starts_nothing",
    "TestClosesOnceForever": "test_close_is_idempotent_and_logging_goes_on_after_it",
    "TestMisspeltCapability": "test_capabilities_are_spelled_right",
    "TestSwallowsErrors": "test_flush_raises_the_trackers_errors",
    "TestBlamesTheEvent": "test_flush_raises_the_trackers_errors",
    "TestDropsInitialValues": "test_initial_values_beside_hyperparameters",
    "TestTakesPathsOnly": "test_arrays_can_be_logged_directly[audio]",
    "TestWatermarkIsALine": "test_watermark_counts_the_lines",
    "TestWatermarkIsAhead": "test_watermark_counts_the_lines",
    "TestWatermarkIsAText": "test_metrics",
    "TestViewedInTwoLines": "test_how_to_view",
    "TestViewedBySilence": "test_how_to_view",
    "TestFinishesAsDone": "test_finalize[success]",
    "TestKeepsImagesAsFigures": "test_verb_keeps_its_data_or_warns_once[image]",
    "TestReadsNothingBack": "test_metrics",
    "TestIgnoresRewinds": "test_a_rewind_takes_later_steps_back[courier]",
    "TestIgnoresRewindsInSilence": "test_a_rewind_takes_later_steps_back[courier]",
}

INTACT = re.findall(r"^class (TestIntact\w*)", BROKEN_LOGGERS, flags=re.MULTILINE)

KILLED = "test_nothing_is_lost_when_a_courier_is_killed[after flush]"
MESSAGES = {
    "TestLosesFloatPrecision::test_floats": "values of 'value', as (step, value), are missing: [(1, '0.33333",
    "TestDoublesRows::test_metrics": "values of 'loss', as (step, value), are twice: [(0, '2.5')",
    "TestDoublesRows::test_no_step_and_nothing_logged": "values of 'loss', as (step, value), are twice: [(None, ",
    f"TestClaimsExactlyOnce::{KILLED}": "They were delivered again, so watermark() is smaller",
    f"TestWatermarkIsALine::{KILLED}": "They were delivered again, so watermark() is smaller",
    f"TestWatermarkIsAhead::{KILLED}": "watermark() counts lines whose values the tracker does not have",
    "TestWatermarkIsALine::test_watermark_counts_the_lines": "returned 5 when the last delivered context.line was 5",
    "TestWatermarkIsAText::test_metrics": "watermark() returned '0'; it must return the number of lines",
    "TestIgnoresRank::test_other_ranks_do_nothing": "data of rank 1 is in a run of its own, as metrics: [",
    "TestViewedInTwoLines::test_how_to_view": "how_to_view() returned 'one\\ntwo'; it must return one line",
    "TestFinishesAsDone::test_finalize[success]": "finalize('success') came back as 'done'",
    "TestKeepsImagesAsFigures::test_verb_keeps_its_data_or_warns_once[image]": (
        "the image 'val/image' is missing; by kind, there came back figure: ['val/image', 'val/image']"
    ),
    "TestReplacesParams::test_hyperparameters_of_several_calls_merge": "hyperparameters are missing: ['layers', 'lr'",
    "TestDropsInitialValues::test_initial_values_beside_hyperparameters": "'hp_loss' came back as []",
    "TestSwallowsErrors::test_flush_raises_the_trackers_errors": "flush() returned while the tracker failed",
    "TestBlamesTheEvent::test_flush_raises_the_trackers_errors": "flush() raised RejectedError('no')",
    "TestForgetsItsBufferWhenClosed::test_metrics": "close() must write it: call self.flush() there",
    "TestReadsNothingBack::test_metrics": "read_back() returned None",
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    chosen = {*(f"{logger}::{test}" for logger, test in FAILURES.items()), *MESSAGES, *INTACT}
    # Classes made in a function cannot be pickled, whatever the logger.
    return failures(tmp_path_factory.mktemp("broken"), BROKEN_LOGGERS, chosen, "-k", "not pickling")


@pytest.mark.parametrize("logger", FAILURES)
def test_contract_fails_for(failed, logger):
    assert f"{logger}::{FAILURES[logger]}" in failed


@pytest.mark.parametrize("test", MESSAGES)
def test_message_names_the_problem(failed, test):
    assert MESSAGES[test] in failed[test]


def test_contract_passes_for_the_logger_that_the_broken_ones_derive_from(failed):
    assert not [name for name in failed if name.startswith("TestIntact")]

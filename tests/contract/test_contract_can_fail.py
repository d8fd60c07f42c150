"""`LoggerContract` fails for loggers that break it, each in one way: else it would prove nothing."""

import subprocess
import sys

import pytest

BROKEN_LOGGERS = """
import math, os, struct, pytest
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
        moment = property(lambda self: __import__("rankzero.logger").logger.Moment(0.0))


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
    "TestDropsTablesInSilence": "test_verb_keeps_its_data_or_says_so_once[table]",
    "TestNagsAboutTags": "test_verb_keeps_its_data_or_says_so_once[tags]",
    "TestReplacesParams": "test_hyperparameters_of_several_calls_merge",
    "TestBuffersUntilItIsTooLate": "test_flush_acknowledges",
    "TestStartsWhenMade": "test_constructor_starts_nothing",
    "TestClosesOnceForever": "test_close_is_idempotent_and_logging_goes_on_after_it",
    "TestMisspeltCapability": "test_capabilities_are_spelled_right",
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("broken")
    (directory / "test_broken.py").write_text(BROKEN_LOGGERS)
    # Classes made in a function cannot be pickled, whatever the logger.
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "-k", "not pickling"]
    result = subprocess.run([*command, str(directory)], cwd=directory, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    lines = (line.split(" - ")[0] for line in result.stdout.splitlines() if line.startswith("FAILED"))
    return {line.partition("::")[2] for line in lines}


@pytest.mark.parametrize("logger", FAILURES)
def test_contract_fails_for(failed, logger):
    assert f"{logger}::{FAILURES[logger]}" in failed


def test_contract_passes_for_the_logger_that_the_broken_ones_derive_from(failed):
    assert not [name for name in failed if name.startswith("TestIntact")]

"""System metrics: measured on request, while there is something to measure."""

import importlib.util
import threading
import time

import pytest
from plugins.mlflow.tracked import Held
from waiting import until

from rankzero.events.run_info import LogContext, MetricsRow

INTERVAL = 0.2


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", str(INTERVAL))
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")


def measured(logger):
    return {key for key in Held(logger).metrics if key.startswith("system/")}


def test_on_request(make_logger):
    threads = threading.active_count()
    logger = make_logger(log_system_metrics=True)
    logger.log_metrics({"a": 1}, 0)
    until(lambda: "system/cpu_utilization_percentage" in measured(logger))
    logger.finalize("success")
    assert "system/system_memory_usage_megabytes" in measured(logger)
    assert threading.active_count() == threads


def test_it_continues_after_a_fit(make_logger):
    logger = make_logger(log_system_metrics=True)
    for step in range(2):
        logger.log_metrics({"a": 1}, step)
        samples = len(Held(logger).points("system/cpu_utilization_percentage"))
        until(lambda: len(Held(logger).points("system/cpu_utilization_percentage")) > samples)  # noqa: B023
        logger.finalize("success")
    steps = [point[0] for point in Held(logger).points("system/cpu_utilization_percentage")]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(
    ("option", "variable", "wanted"), [(None, "true", True), (None, "", False), (False, "true", False)]
)
def test_option_and_environment(make_logger, monkeypatch, option, variable, wanted):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", variable)
    logger = make_logger(log_system_metrics=option)
    logger.log_metrics({"a": 1}, 0)
    assert is_measuring() == wanted
    logger.close()
    assert not is_measuring()


def is_measuring():
    return any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())


def test_not_while_an_old_run_is_delivered(make_logger, run_info):
    logger = make_logger(log_system_metrics=True)
    logger.attach(run_info)
    threads = threading.active_count()
    with logger.at(LogContext(time.time() - 3600, 1)):
        logger.log_metrics_batch([MetricsRow({"a": 1.0}, 0, LogContext(time.time() - 3600, 1))])
    assert threading.active_count() == threads


def test_psutil_is_missing(make_logger, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "psutil" else find_spec(name))
    with pytest.raises(ModuleNotFoundError, match=r'pip install "rankzero-mlflow\[system\]"'):
        make_logger(log_system_metrics=True)
    make_logger(log_system_metrics=False)

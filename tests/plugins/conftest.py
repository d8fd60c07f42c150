"""Fixtures for the tests of all plugins: a run to attach loggers to, an environment, and closed loggers."""

import os
import uuid

import pytest
from plugins.verifying import Verifying
from waiting import A_WHILE

from rankzero.events.run_info import RunInfo
from rankzero.testing import DeliveryContract

QUICK_FAULTS = ("503", "lost answer")  # the slow session has the others
SLOW = (  # they start many processes, and each imports an SDK for seconds
    "test_a_courier_that_is_killed_again_and_again",
    "test_a_courier_that_is_killed_while_training_goes_on",
    "test_a_fault_at_the_end_does_not_delay_the_exit_and_loses_nothing",
    "test_training_and_couriers_that_are_killed_at_random_moments",
    "test_training_that_is_killed",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put most tests of `DeliveryContract` into the slow session; core's own logger has them in the quick one."""
    for item in items:
        if "plugins" in item.path.parts and item.cls is not None and issubclass(item.cls, DeliveryContract):
            fault = item.callspec.params.get("fault") if hasattr(item, "callspec") else None
            if item.originalname in SLOW or fault not in (None, *QUICK_FAULTS):
                item.add_marker(pytest.mark.slow)


@pytest.fixture
def capture_environment(monkeypatch):
    """Record the environment of runs, as by default."""
    monkeypatch.delenv("RANKZERO_CAPTURE_ENVIRONMENT")


@pytest.fixture
def use_environment(monkeypatch, tmp_path):
    """Set only these variables of a tracker in this process, which writes to ``tmp_path``."""

    def use(prefix, variables):
        monkeypatch.chdir(tmp_path)
        for name in [name for name in os.environ if name.startswith(prefix)]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RANKZERO_DOWN_TIMEOUT", str(A_WHILE))  # wait for a tracker that recovers

    return use


@pytest.fixture
def closing():
    """Close the passed loggers when the test ends."""
    loggers = []

    def keep(logger):
        loggers.append(logger)
        return logger

    yield keep
    for logger in loggers:
        logger.close()


@pytest.fixture
def run_info(tmp_path):
    """A run of rankzero, to attach loggers to."""
    run_id = uuid.uuid4().hex
    directory = tmp_path / "runs" / "p" / run_id
    directory.mkdir(parents=True)
    return RunInfo(run_id, "brave-owl", "p", str(directory), started=1_700_000_000.0)


@pytest.fixture
def attached(make_logger, run_info):
    """A logger of the run, as a courier has it."""
    logger = make_logger()
    logger.attach(run_info)
    return logger


@pytest.fixture
def verifying(monkeypatch, tmp_path, capsys):
    """A run in an empty directory, to be delivered and verified."""
    monkeypatch.chdir(tmp_path)
    return Verifying(capsys)

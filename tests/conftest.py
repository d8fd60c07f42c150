"""Settings and fixtures for all tests."""

import gc
import logging
import os
import signal

import hypothesis
import pytest

logging.raiseExceptions = False  # SDKs leave handlers behind whose streams pytest has closed

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a background job and on many CI runners. Whatever the tests start would inherit it and could not be
    # interrupted either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one takes more than 200 ms for anything
hypothesis.settings.load_profile("any machine")

# Each takes a process for each run of a test; their own tests turn them on.
os.environ["RANKZERO_CAPTURE_ENVIRONMENT"] = "0"
os.environ["RANKZERO_SYSTEM_METRICS"] = "0"

os.environ["KERAS_BACKEND"] = "torch"  # the default, TensorFlow, is not installed

gc.disable()  # while tests import frameworks and SDKs: its rounds were a fifth of the time


def pytest_collection_finish():
    """Keep the garbage collector from what tests import, which it would search in each of its rounds."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory):
    """Keep the key that identifies own runs out of the home directory."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def undelivered(tmp_path, monkeypatch):
    """Work in an empty directory, where runs are kept without couriers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANKZERO_DELIVERY", "off")


@pytest.fixture(autouse=True)
def swallowed_warnings():
    """Fail a test that met a warning without expecting it; where warnings are errors, rankzero only logs them."""
    swallowed = []
    handler = logging.Handler()
    handler.emit = lambda record: swallowed.append(record.getMessage())
    log = logging.getLogger("rankzero.warnings")
    log.addHandler(handler)
    yield swallowed
    log.removeHandler(handler)
    assert swallowed == []

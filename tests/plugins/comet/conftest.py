"""A server on loopback, an environment that leads to it, and loggers to test."""

import pytest
from plugins.comet.direct import QUIET
from servers.comet_server import CometServer

from rankzero_comet import CometLogger
from rankzero_comet.options import load_sdk

load_sdk()  # before a test imports it and lets it change torch


@pytest.fixture
def server():
    with CometServer() as server:
        yield server
        assert server.problems == []


@pytest.fixture
def environment(server, tmp_path):
    """What a process needs to log to the server."""
    return server.environment(tmp_path)


@pytest.fixture
def here(environment, use_environment, monkeypatch, tmp_path):
    """Have this process log to the server, and keep what it writes to itself."""
    use_environment("COMET_", environment)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def make_logger(here, closing):
    """Make loggers whose experiments end with the test."""
    return lambda **options: closing(CometLogger(**{"project": "p", "display_summary_level": 0, **options}))


@pytest.fixture
def make(make_logger):
    """Make loggers for direct use, of which Comet's client says nothing of this process."""
    import comet_ml

    comet_ml.api.get_instance.cache_clear()  # which knows the servers of other tests
    return lambda **options: make_logger(**{**QUIET, **options})


@pytest.fixture
def stored(server, run_info):
    """Return what the server has of the run."""
    return lambda: server.experiment(run_info.id)

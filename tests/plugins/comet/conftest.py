"""A mock server, an environment for it, and loggers."""

import pytest
from plugins.comet.direct import QUIET
from servers.comet_server import CometServer

from rankzero_comet import CometLogger
from rankzero_comet.options import load_sdk


@pytest.fixture(scope="session", autouse=True)
def sdk():
    """Import Comet's client before a test does, and it patches torch."""
    load_sdk()


@pytest.fixture
def server():
    with CometServer() as server:
        yield server
        assert server.problems == []


@pytest.fixture
def environment(server, tmp_path):
    """Environment variables for a process that logs to the server."""
    return server.environment(tmp_path)


@pytest.fixture
def here(environment, use_environment, monkeypatch, tmp_path):
    """Let this process log to the server, and keep its files in the test's directory."""
    use_environment("COMET_", environment)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def make_logger(here, closing):
    """Make loggers whose experiments end with the test."""
    return lambda **options: closing(CometLogger(**{"project": "p", "display_summary_level": 0, **options}))


@pytest.fixture
def make(make_logger):
    """Make loggers for direct use without automatic logging of this process."""
    import comet_ml

    comet_ml.api.get_instance.cache_clear()  # it caches the servers of other tests
    return lambda **options: make_logger(**{**QUIET, **options})


@pytest.fixture
def stored(server, run_info):
    """Return the stored run."""
    return lambda: server.experiment(run_info.id)

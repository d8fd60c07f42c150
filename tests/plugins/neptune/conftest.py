"""A server on loopback, an environment that leads to it, and loggers to test."""

import uuid
import warnings

import pytest
from servers.neptune_server import NeptuneServer

from rankzero_neptune import NeptuneLogger

with warnings.catch_warnings():  # of its dependencies, about each other
    warnings.simplefilter("ignore")
    import neptune  # noqa: F401

QUIET = {
    **dict.fromkeys(["capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback"], False),
    "source_files": [],
    "git_ref": False,
}


@pytest.fixture
def server():
    with NeptuneServer(increasing_steps=True, api_key=uuid.uuid4().hex) as server:  # the client caches by key
        yield server
        assert server.problems == []


@pytest.fixture
def here(server, use_environment, tmp_path):
    """Have this process log to the server, and keep what it writes to itself."""
    use_environment("NEPTUNE_", server.environment(tmp_path / ".neptune"))


@pytest.fixture
def quiet():
    """Arguments with which Neptune's client looks at nothing around it."""
    return QUIET


@pytest.fixture
def make_logger(here, closing):
    """Make loggers whose clients look at nothing around them, and that are closed at the end."""
    return lambda **options: closing(NeptuneLogger(**({} if "run" in options else QUIET), **options))

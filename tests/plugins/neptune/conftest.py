"""A mock server, an environment for it, and loggers."""

import os
import resource
import uuid
import warnings

import pytest
from plugins.neptune import rescue_samples as samples
from servers.neptune_server import NeptuneServer

from rankzero_neptune import NeptuneLogger

with warnings.catch_warnings():  # from its dependencies
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
    """Let this process log to the server, and keep its files in the test's directory."""
    use_environment("NEPTUNE_", server.environment(tmp_path / ".neptune"))


@pytest.fixture
def few_files():
    """Limit the number of open files of this process to few more than now."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 40, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture(scope="session")
def left_offline(tmp_path_factory):
    """Offline files of Neptune's 1.x client; must not be changed."""
    return samples.all_left(tmp_path_factory.mktemp("left"), "offline", "what_cannot_be_taken")


@pytest.fixture(scope="session")
def left_by_scale(tmp_path_factory):
    """Offline files of neptune-scale; must not be changed."""
    return samples.all_left(
        tmp_path_factory.mktemp("left"), "scale", "scale_resumed", "scale_conflicts", "scale_forked"
    )


@pytest.fixture
def quiet():
    """Arguments with which Neptune's client captures nothing."""
    return QUIET


@pytest.fixture
def make_logger(here, closing):
    """Make loggers whose clients capture nothing, and which are closed at the end."""
    return lambda **options: closing(NeptuneLogger(**({} if "run" in options else QUIET), **options))

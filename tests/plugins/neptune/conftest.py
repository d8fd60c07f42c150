"""A server on loopback, an environment that leads to it, and loggers to test."""

import os
import uuid
import warnings

import pytest
from servers.neptune_server import NeptuneServer
from waiting import A_WHILE

from rankzero.events.run_info import RunInfo
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
def here(server, monkeypatch, tmp_path):
    """Have this process log to the server, and keep what it writes to itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANKZERO_DOWN_TIMEOUT", str(A_WHILE))  # a tracker that is back is waited for
    for name in [name for name in os.environ if name.startswith("NEPTUNE_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment(tmp_path / ".neptune").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def quiet():
    """Arguments with which Neptune's client looks at nothing around it."""
    return QUIET


@pytest.fixture
def make_logger(here):
    """Make loggers whose clients look at nothing around them, and that are closed at the end."""
    made = []

    def make(**options):
        made.append(NeptuneLogger(**({} if "run" in options else QUIET), **options))
        return made[-1]

    yield make
    for logger in made:
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

"""A run and a recorder that logs each step, for the tests of the recorder."""

import pytest

import rankzero


@pytest.fixture
def run(tmp_path):
    run = rankzero.start(dir=tmp_path, delivery="off")
    yield run
    run.finish()


@pytest.fixture
def rec(run):
    return run.recorder(log_every_n_steps=1)

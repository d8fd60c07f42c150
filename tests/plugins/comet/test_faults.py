"""A server that is down, hangs or refuses while training goes on: training does not notice, and all comes later."""

import os
import time

import pytest
from plugins.comet.journals import check_everything, log_everything, points_in, points_logged, rejected
from servers.training import Training
from waiting import A_MOMENT, A_WHILE, until

import rankzero
from rankzero.rundir.positions import load_position
from rankzero.testing.loopback import stalled

METRICS = "batch/logger/experiment/metric"


@pytest.fixture
def training(here, tmp_path, monkeypatch):
    """Knows the couriers that this process starts; none may be left when all was delivered."""
    monkeypatch.setenv("TRAINING_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("COMET_TIMEOUT_HTTP", "1")
    monkeypatch.setenv("COMET_TIMEOUT_API", "1")
    training = Training(tmp_path)
    yield training
    training.kill()


@pytest.fixture
def begin(training, tmp_path):
    runs = []

    def begin(delivery="thread", **options):
        options = {"project": "p", "name": "mine", "tags": ["first"], **options}
        runs.append(rankzero.start("comet", dir=tmp_path / "runs", delivery=delivery, **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=0)


def log(run, first, last):
    """Log a row for each step; no call may take long."""
    slowest = 0.0
    for step in range(first, last):
        began = time.perf_counter()
        run.log_metrics({"loss": step / 3}, step, epoch=step // 10)
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < A_MOMENT


def problem_of(run):
    return load_position(run.dir, "comet").problem


def check(server, run, state="finished"):
    assert points_in(server.experiment(run.id)) == points_logged(run.dir)
    assert rejected(run.dir) == []
    assert server.experiment(run.id).state == state
    assert load_position(run.dir, "comet").closed


@pytest.mark.parametrize("where", ["add/run", METRICS, "asset/upload", "log-other", "write/artifacts/upsert"])
def test_a_server_that_hangs_for_a_while_gets_everything(server, begin, tmp_path, where, monkeypatch):
    monkeypatch.setenv("COMET_TIMEOUT_FILE_UPLOAD", "1")
    server.fail(where, stalled(600), times=2)
    run = begin()
    log_everything(run, tmp_path)
    run.finish(timeout=A_WHILE)
    check_everything(server, run.dir)


def test_a_server_that_is_down_at_first_and_dies_later(server, begin, training, tmp_path):
    """Delivered by a process, as most runs are."""
    server.stop()
    run = begin("process")
    log(run, 0, 50)
    assert not run.flush(0.1)
    server.start()
    assert run.flush(A_WHILE)
    server.stop()
    log(run, 50, 100)
    server.start()
    run.finish(timeout=A_WHILE)
    check(server, run)
    until(lambda: not [each for each in training.processes() if each.pid != os.getpid()])


def test_a_revoked_key_costs_nothing(server, begin):
    run = begin()
    log(run, 0, 50)
    assert run.flush(A_WHILE)
    server.api_keys = {"another"}
    log(run, 50, 100)
    assert "comet login" in until(lambda: problem_of(run))
    server.api_keys = set()
    run.finish(timeout=A_WHILE)
    check(server, run)

"""`WandbLogger.experiment`, while a courier thread delivers to the same run."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from plugins.wandb.delivered import rows, values
from servers.wandb_mock.run import HISTORY
from waiting import A_WHILE, SOON

from rankzero.events.run_info import LogContext


def test_a_courier_and_a_script_open_the_run_once(server, make_logger, run_info):
    logger = make_logger()
    logger.attach(run_info)
    together = threading.Barrier(2)

    def deliver():
        together.wait()
        with logger.at(LogContext(1000.5, 1)):
            logger.log_metrics({"loss": 0.5}, 0)

    def use():
        together.wait()
        logger.experiment.summary["own"] = 7

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(deliver), pool.submit(use)]:
            done.result()
    logger.finalize("success")
    run = server.run(run_info.id)
    assert run.summary["own"] == 7
    assert [(row["loss"], row["_step"], row["_timestamp"]) for row in run.history] == [(0.5, 1, 1000.5)]


def log_ours(run, *steps):
    for step in steps:
        run.log_metrics({"loss": step / 3}, step)


def check_ours(stored, steps):
    """Check that all rows of the journal are stored once; skipped numbers are not rows of the journal."""
    assert values(stored, "loss") == [(step, step / 3) for step in steps]
    numbers = [row["_step"] for row in stored.history]
    assert numbers == sorted(set(numbers))
    assert sorted(stored.streams[HISTORY]) == list(range(len(numbers)))


@pytest.mark.slow
def test_rows_of_the_script_are_between_those_of_the_journal(server, user):
    def log(run):
        for first in range(0, 60, 10):
            log_ours(run, first)
            assert run.flush(A_WHILE)
            run.experiment.log({"own": first})
            log_ours(run, *range(first + 1, first + 10))

    stored = server.run(user.train(log).id)
    check_ours(stored, range(60))
    assert [row["own"] for row in rows(stored, "own")] == list(range(0, 60, 10))
    assert stored.state == "finished"


def test_a_step_of_a_row_of_the_script_does_not_block_the_journal(server, user):
    def log(run):
        log_ours(run, 0)
        run.experiment.log({"own": 1}, step=500)
        log_ours(run, *range(1, 7))

    began = time.monotonic()
    stored = server.run(user.train(log).id)
    assert time.monotonic() - began < SOON
    check_ours(stored, range(7))
    assert [row.get("loss") for row in rows(stored, "own")] == [None]

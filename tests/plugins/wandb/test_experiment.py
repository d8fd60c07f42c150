"""`WandbLogger.experiment`, while a courier that is a thread delivers to the same run."""

import threading
from concurrent.futures import ThreadPoolExecutor

from rankzero.events.run_info import LogContext


def test_a_courier_and_who_uses_the_run_open_it_once(server, make_logger, run_info):
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

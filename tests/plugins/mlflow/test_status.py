"""The status and end time of a run in MLflow; none stays RUNNING."""

import json
import signal
import subprocess
import sys

import pytest
from mlflow import MlflowClient
from plugins.mlflow.tracked import Held
from requests import ConnectionError
from waiting import A_WHILE

from rankzero.events.structs import Finish, Metrics, Start
from rankzero.testing.journals import TIME, JournalOf

WORDS = {
    "success": "FINISHED",
    "finished": "FINISHED",
    "failed": "FAILED",
    "crashed": "FAILED",
    "aborted": "KILLED",
    "killed": "KILLED",
    "a word of the user's": "FAILED",
}


def test_finalize(logger):
    for status, expected in WORDS.items():
        logger.log_metrics({"a": 1}, 0)
        assert Held(logger).info.status == "RUNNING"
        logger.finalize(status)
        assert Held(logger).info.status == expected


def test_a_run_ends_at_the_time_of_its_last_event(make_logger, run_info):
    journal = JournalOf(run_info)
    journal.add(Metrics(TIME + 1, 0, {"a": 1.0}), Finish(TIME + 60, "failed"))
    journal.deliver(make_logger)
    held = Held(journal.last)
    assert (held.info.status, held.info.end_time) == ("FAILED", round((TIME + 60) * 1000))
    journal.add(Start(TIME + 100, run_info, resumed=True), Metrics(TIME + 101, 1, {"a": 2.0}))
    journal.deliver(make_logger)
    assert held.info.status == "FAILED"  # of a crashed run that is not resumed
    journal.add(Finish(TIME + 160, "success"))
    journal.deliver(make_logger)
    assert (held.info.status, held.info.end_time) == ("FINISHED", round((TIME + 160) * 1000))


def test_a_resumed_run_is_running_again(make_logger):
    first = make_logger()
    first.log_metrics({"a": 1}, 0)
    first.finalize("failed")
    second = make_logger(run_id=first.run_id)
    assert second.experiment.get_run().info.status == "FAILED"
    for logger in (second, first):
        logger.log_metrics({"a": 2}, 1)
        assert Held(first).info.status == "RUNNING"
        logger.finalize("success")
        assert Held(first).info.status == "FINISHED"


def test_the_experiment_of_a_finished_run(make_logger, run_info):
    journal = JournalOf(run_info)
    journal.add(Metrics(TIME, 0, {"a": 1.0}), Finish(TIME, "success"))
    journal.deliver(make_logger)
    joined = make_logger()
    joined.attach(run_info)
    joined.experiment.log_metric("late", 2.0)
    assert Held(joined).metrics == {"a": 1.0, "late": 2.0}
    assert Held(joined).info.status == "FINISHED"


def test_close_ends_a_run_of_direct_use(make_logger):
    for status, expected in ((None, "FINISHED"), ("failed", "FAILED")):
        logger = make_logger()
        logger.log_metrics({"a": 1}, 0)
        if status is not None:
            logger.finalize(status)
            logger.log_metrics({"a": 2}, 1)
        logger.close()
        assert Held(logger).info.status == expected


def test_close_does_not_end_the_run_of_a_courier(make_logger, run_info):
    logger = make_logger()
    logger.attach(run_info)
    logger.log_metrics({"a": 1}, 0)
    logger.close()
    assert Held(logger).info.status == "RUNNING"


def test_an_unused_logger_creates_nothing(make_logger, store):
    logger = make_logger(save_dir=store / "new", tracking_uri=None)
    logger.finalize("success")
    logger.close()
    assert not (store / "new").exists()


# Scripts without finalize

SCRIPT = """
import json, os, signal, sys
from mlflow import MlflowClient  # once, because it takes seconds
children = {}
for name, (beginning, ending, _) in json.loads(sys.argv[2]).items():
    if not (child := os.fork()):
        break
    children[name] = child
else:
    print(json.dumps({name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for name, child in children.items()}))
    sys.exit()
from rankzero_mlflow import MLFlowLogger
logger = MLFlowLogger(save_dir=sys.argv[1], run_name=name)
exec(f"logger.{beginning}\\n{ending}")
"""
SCRIPTS = {
    "ends": ("log_metrics({'a': 1}, 0)", "", "FINISHED"),
    "fails": ("log_metrics({'a': 1}, 0)", "1 / 0", "FAILED"),
    "terminated": ("experiment.log_metric('a', 1)", "os.kill(os.getpid(), signal.SIGTERM)", "KILLED"),
    "forks": (
        "log_metrics({'a': 1}, 0)",
        "os.fork() or sys.exit(logger.close())\nos.wait()\nassert logger.experiment.get_run().info.status == 'RUNNING'",
        "FINISHED",
    ),
    "finalized": ("log_metrics({'a': 1}, 0)", "logger.finalize('aborted')", "KILLED"),
}


@pytest.mark.slow
def test_no_script_leaves_a_run_that_is_running(store):
    command = [sys.executable, "-c", SCRIPT, str(store), json.dumps(SCRIPTS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=A_WHILE, check=True)
    assert json.loads(done.stdout) == {"ends": 0, "fails": 1, "terminated": -signal.SIGTERM, "forks": 0, "finalized": 0}
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    runs = client.search_runs(["1"])
    assert {run.info.run_name: run.info.status for run in runs} == {name: each[-1] for name, each in SCRIPTS.items()}
    assert [run.data.metrics for run in runs] == [{"a": 1.0}] * len(SCRIPTS)


def test_a_process_that_ends_while_the_server_is_down(make_logger, mlflow_server, monkeypatch):
    logger = make_logger(tracking_uri=mlflow_server.uri)
    logger.log_metrics({"a": 1}, 0)
    with monkeypatch.context() as broken:
        broken.setattr("requests.Session.request", _refuse)
        with pytest.warns(UserWarning, match="ending it failed: .*the server is down"):
            logger.session.end_with_process("failed", 1.0)
    assert Held(logger).info.status == "RUNNING"


def _refuse(*args, **kwargs):
    raise ConnectionError("the server is down")

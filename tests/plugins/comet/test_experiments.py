"""Several experiments in a process: of loggers, of Runs, and of the user."""

import pytest
from plugins.comet.direct import QUIET, logged

import rankzero
from rankzero.testing.faults import status

KEYS = ["a" * 40, "b" * 40]


@pytest.fixture
def users_own(here):
    """Start experiments as a user, which end with the test."""
    import comet_ml

    started = []

    def start(**options):
        config = {name: value for name, value in QUIET.items() if name != "project"}
        started.append(
            comet_ml.start(project_name="p", experiment_config=comet_ml.ExperimentConfig(**config), **options)
        )
        return started[-1]

    yield start
    for experiment in started:
        experiment.end()


def points(server, key):
    return [(step, value) for _, step, value in logged(server.experiment(key), "a")]


@pytest.mark.slow
def test_a_second_logger_does_not_end_the_first(make, server):
    loggers = [make(), make(), make(project="q"), make(experiment_key=KEYS[0])]
    opened = [logger.experiment for logger in loggers]
    for step in range(3):
        for number, logger in enumerate(loggers):
            logger.log_metrics({"a": number}, step)
    assert not any(experiment.ended for experiment in opened)
    keys = [logger.version for logger in loggers]
    for logger in loggers:
        logger.close()
    assert len(set(keys)) == len(server.store.experiments) == 4
    assert [points(server, key) for key in keys] == [[(step, number) for step in range(3)] for number in range(4)]
    assert [server.experiment(key).project for key in keys] == ["p", "p", "q", "p"]
    assert {server.experiment(key).state for key in keys} == {"finished"}


def test_loggers_with_one_key_share_an_experiment(make, server):
    first, second = make(experiment_key=KEYS[0]), make(experiment_key=KEYS[0])
    for step, logger in enumerate([first, second, first]):
        logger.log_metrics({"a": step}, step)
    assert second.experiment is first.experiment
    second.close()
    first.log_metrics({"a": 3}, 3)
    first.close()
    assert points(server, KEYS[0]) == [(step, step) for step in range(4)]


# The user's own


def test_a_running_experiment_of_the_user_is_used_and_left_open(make, users_own, server):
    own = users_own(experiment_key=KEYS[0])
    loggers = [make(), make()]
    for step, logger in enumerate(loggers):
        logger.log_metrics({"a": step}, step)
        assert logger.experiment is own
        assert logger.version == KEYS[0]
    loggers[0].close()
    assert points(server, KEYS[0])[0] == (0, 0), "the data was sent"
    assert not own.ended
    loggers[1].log_metrics({"a": 2}, 2)
    loggers[1].close()
    own.log_metric("a", 3, step=3)
    own.end()
    assert points(server, KEYS[0]) == [(step, step) for step in range(4)]
    assert list(server.store.experiments) == [KEYS[0]]
    assert server.experiment(KEYS[0]).others.get("Created from") is None


def test_an_experiment_ended_by_the_user_is_not_waited_for(make, users_own, server):
    own = users_own(experiment_key=KEYS[0])
    logger = make()
    logger.log_metrics({"a": 1}, 1)
    own.end()
    logger.finalize("success")
    logger.close()
    assert points(server, KEYS[0]) == [(1, 1)]


def test_it_is_used_as_lightnings_logger_uses_it(make, users_own):
    theirs = pytest.importorskip("lightning.pytorch.loggers").CometLogger
    own = users_own()
    config = {name: value for name, value in QUIET.items() if name != "project"}
    assert theirs(project="p", **config).experiment is own
    assert make().experiment is own


def test_an_offline_experiment_of_the_user_is_used(make, users_own, server):
    own = users_own(online=False)
    logger = make()
    logger.log_metrics({"a": 1}, 1)
    assert logger.experiment is own
    assert server.requests == []


def test_another_experiment_is_not_ended(make, users_own, server):
    own = users_own(experiment_key=KEYS[0])
    logger = make(experiment_key=KEYS[1])
    logger.log_metrics({"a": 1}, 1)
    own.log_metric("a", 2, step=2)
    logger.close()
    assert not own.ended
    own.end()
    assert (points(server, KEYS[0]), points(server, KEYS[1])) == ([(2, 2)], [(1, 1)])


# Runs


def test_two_runs_and_a_logger(make, server, tmp_path):
    logger = make()
    runs = [rankzero.start("comet", project="p", dir=tmp_path / "runs", run_id=key, delivery="thread") for key in KEYS]
    for step in range(3):
        logger.log_metrics({"a": -step}, step)
        for number, run in enumerate(runs):
            run.log_metrics({"a": number}, step)
    for run in reversed(runs):
        run.finish()
    logger.log_metrics({"a": -3}, 3)
    logger.close()
    assert [points(server, key) for key in KEYS] == [[(step, number) for step in range(3)] for number in range(2)]
    assert points(server, logger.version) == [(step, -step) for step in range(4)]
    assert {server.experiment(key).state for key in [*KEYS, logger.version]} == {"finished"}


def test_of_two_runs_only_one_is_refused(here, server, tmp_path):
    server.fail("experiment/metric", status(400, '{"msg": "no"}'), body=KEYS[0])
    for key in KEYS:
        with rankzero.start("comet", project="p", dir=tmp_path / "runs", run_id=key, delivery="thread") as run:
            run.log_metrics({"a": 1}, 1)
    assert (points(server, KEYS[0]), points(server, KEYS[1])) == ([], [(1, 1)])
    assert list((tmp_path / "runs" / "p" / KEYS[0]).glob("*.rejected.jsonl"))

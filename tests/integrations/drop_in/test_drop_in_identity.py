"""Name, version and directories of a logger: before and after the first use, on another rank, in a copy."""

import copy
import os
import pickle

import pytest
from integrations.drop_in.page import compare
from lightning.fabric.utilities.rank_zero import rank_zero_only
from plugins.comet.direct import QUIET

PROPERTIES = ("name", "version", "save_dir", "root_dir", "log_dir")


def who(bench, logger, when):
    return {f"{name} {when}": bench.without_place(logger, getattr(logger, name)) for name in PROPERTIES}


def use(logger):
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"loss": 0.5}, 1)
    logger.save()


def test_before_and_after_the_first_use(bench):
    found = []
    for kind in bench.each():
        begun = bench.begun()
        logger = bench.make(kind, "a")
        seen = {"what the constructor starts": bench.begun() - begun}
        seen |= who(bench, logger, "before the first use")
        use(logger)
        seen |= who(bench, logger, "after the first use")
        found.append({**seen, "what is begun in the end": bench.begun() - begun})
    compare(bench.tracker, *found)


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["wandb", "comet"])
def test_identity_without_a_given_id(bench):
    found = []
    options = {"comet": {name: value for name, value in QUIET.items() if name != "project"}}.get(bench.tracker, {})
    for kind in bench.each():
        logger = kind(**options)
        bench.made.append(logger)
        seen = {"name by default": logger.name, "version without a given id": logger.version is not None}
        use(logger)
        found.append({**seen, "version in the end": logger.version is not None})
    compare(bench.tracker, *found)


@pytest.fixture
def another_rank(monkeypatch):
    """Have this process be rank 1: ours asks the environment, Lightning has asked it when it was imported."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)


def test_on_another_rank(bench, another_rank):
    found = []
    for kind in bench.kinds:
        there = sorted(os.listdir())
        logger = bench.make(kind, "a")
        use(logger)
        logger.finalize("success")
        assert logger.experiment.anything(1) is logger.experiment["x"].anything() is None
        assert sorted(os.listdir()) == there
        assert bench.begun() == 0
        found.append(who(bench, logger, "on another rank"))
    bench.made.clear()  # nothing is to be ended
    compare(bench.tracker, *found)


def test_a_copy(bench):
    found = []
    for kind in bench.each():
        begun = bench.begun()
        logger = bench.make(kind, "a")
        copies = [copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))]
        seen = {"what copying the logger starts": bench.begun() - begun}
        use(logger)
        copies += [copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))]
        seen["the version of a copy"] = [each.version == logger.version for each in copies]
        found.append(seen)
    compare(bench.tracker, *found)

"""Features of Comet's logger: offline use, several experiments in a process, a server that is down."""

import os
import warnings

import pytest
from integrations.drop_in.outcomes import outcome
from integrations.drop_in.page import compare

pytestmark = pytest.mark.parametrize("tracker", ["comet"])


def use(logger):
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")


@pytest.mark.parametrize("option", ["online=False", "offline=True"])
def test_staying_offline(bench, option, tmp_path):
    name, _, value = option.partition("=")
    found = []
    for kind in bench.each():
        begun = bench.begun()
        archive = tmp_path / kind.__module__
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the old name
            logger = bench.make(kind, "a", **{name: value == "True"}, offline_directory=str(archive))
        use(logger)
        bench.end(logger)
        files = os.listdir(archive) if archive.exists() else []
        found.append({option: (bench.begun() - begun, [os.path.splitext(each)[1] for each in files])})
    compare(bench.tracker, *found)


def test_a_second_logger(bench):
    found = []
    for kind in bench.each():
        loggers = [bench.make(kind, name) for name in ("a", "b")]
        for step in range(2):
            for logger in loggers:
                outcome(logger.log_metrics, {"loss": 1.0}, step)
        keys = [logger.version for logger in loggers]
        bench.close()
        metrics = [[each for each in bench.server.experiment(key).metrics if each.name == "loss"] for key in keys]
        found.append({"a second logger of the process": list(map(len, metrics))})
    compare(bench.tracker, *found)

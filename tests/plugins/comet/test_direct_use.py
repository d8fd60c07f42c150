"""`CometLogger` without a Run: opened and ended, offline, copied, and with a server that does not answer."""

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from plugins.comet.direct import QUIET, logged
from waiting import A_WHILE

from rankzero.errors import AccessError, TrackerUnavailableError
from rankzero.testing.faults import dropped, status

KEY = "k" * 40
FAINT = np.full((6, 6), 50, np.uint8)


def points(server, logger):
    return logged(server.experiment(logger.version))


# Opened and ended


def test_it_is_opened_on_first_use(make, server):
    logger = make(project=None)
    assert (logger.name, logger.version, logger.how_to_view(), server.requests) == (None, None, None, [])
    logger.log_metrics({"a": 1}, 0)
    assert (logger.name, logger.version) == (None, logger.experiment.get_key())
    assert logger.how_to_view() == logger.experiment.url


def test_it_stays_open_until_it_is_closed(make, server):
    logger = make(name="named", tags=["a"])
    logger.log_metrics({"a": 1}, 0)
    logger.finalize("success")
    opened = logger.experiment
    assert (server.experiment(logger.version).state, opened.ended) == ("running", False)
    assert points(server, logger) == [("a", 0, 1)], "finalize has sent everything"
    logger.log_metrics({"a": 2}, 1)  # Lightning's test() after fit()
    logger.close()
    logger.close()
    assert opened.ended
    stored = server.experiment(logger.version)
    assert (stored.state, points(server, logger)) == ("finished", [("a", 0, 1), ("a", 1, 2)])


@pytest.mark.parametrize("mode", [None, "create"])
def test_logging_after_the_end_continues_the_experiment(make, server, mode):
    logger = make(name="named", tags=["a"], mode=mode)
    logger.log_metrics({"a": 1}, 0)
    first = logger.version
    logger.close()
    count = len(server.experiment(first).other_history)
    logger.log_metrics({"a": 2}, 1)
    logger.close()
    assert logger.version == first
    assert points(server, logger) == [("a", 0, 1), ("a", 1, 2)]
    names = [other.name for other in server.experiment(first).other_history[count:]]
    assert "Name" not in names, "a user may have changed it"


@pytest.mark.slow
def test_an_experiment_of_a_key(make, server):
    for step in range(2):
        logger = make(experiment_key=KEY)
        logger.log_metrics({"a": step}, step)
        logger.close()
    assert points(server, logger) == [("a", 0, 0), ("a", 1, 1)]
    assert server.experiment(KEY).others["Created from"] == "rankzero"
    logger = make(experiment_key=KEY, mode="get")
    logger.log_metrics({"a": 2}, 2)
    logger.close()
    assert len(points(server, logger)) == 3


@pytest.mark.slow
def test_a_process_without_finalize_sends_everything(server, tmp_path):
    code = f"""
import numpy as np
from rankzero_comet import CometLogger
logger = CometLogger(**{QUIET!r}, experiment_key="{KEY}")
logger.log_metrics({{"a": 1}}, 0)
logger.log_image("i", [np.full((300, 300), shade, np.uint8) for shade in range(20)], step=1)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMET_")}
    environment |= {**server.environment(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, timeout=A_WHILE)
    stored = server.experiment(KEY)
    assert (logged(stored), len(stored.images), stored.state) == ([("a", 0, 1)], 20, "finished")


# Deleted files, failing servers


def test_a_checkpoint_that_is_deleted_at_once_arrives(make, server, tmp_path):
    logger = make()
    logger.log_metrics({"a": 1}, 0)
    server.fail("asset/upload", dropped, times=1)
    for number in range(2):
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(b"%d" % number)
        logger.log_checkpoint(path, aliases=["best"])
        path.unlink()
    logger.close()
    versions = server.artifact(f"model-{logger.version}").versions
    assert [version.files for version in versions] == [{"0.ckpt": b"0"}, {"1.ckpt": b"1"}]


def test_a_refused_artifact_warns_and_training_continues(make, server, tmp_path):
    logger = make()
    logger.log_metrics({"a": 1}, 0)
    (tmp_path / "a.ckpt").write_bytes(b"1")
    server.fail("artifacts/upsert", status(400, "no room"))
    with pytest.warns(UserWarning, match=f"the artifact 'model-{logger.version}' is not in Comet: "):
        logger.log_checkpoint(tmp_path / "a.ckpt")
    logger.close()
    assert points(server, logger) == [("a", 0, 1)]


def test_flush_raises_until_comet_has_everything(make, server, monkeypatch):
    monkeypatch.setenv("COMET_TIMEOUT_UPLOAD", "1")
    held_up = threading.Event()
    server.fail("visualizations/upload", lambda handler: held_up.wait(A_WHILE) and handler.ask(), times=1)
    logger = make()
    logger.log_image("i", [FAINT])
    with pytest.raises(TrackerUnavailableError, match="has not sent everything"):
        logger.flush()
    with pytest.warns(UserWarning, match="not everything that was logged is in Comet"):
        logger.finalize("success")
    held_up.set()
    logger.close()
    assert len(server.experiment(logger.version).images) == 1


@pytest.mark.slow
def test_data_lost_at_the_end_causes_a_warning(make, server, tmp_path):
    logger = make()
    logger.log_metrics({"a": 1}, 0)
    (tmp_path / "a.ckpt").write_bytes(b"1")
    server.fail("asset/upload", status(400, "no room"))
    logger.log_checkpoint(tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match="not everything that was logged is in Comet: "):
        logger.close()
    assert points(server, logger) == [("a", 0, 1)]


# Not online


def test_offline_a_checkpoint_is_a_file(make, tmp_path):
    logger = make(online=False, offline_directory=str(tmp_path / "kept"))
    (tmp_path / "a.ckpt").write_bytes(b"weights of a model")
    logger.log_checkpoint(tmp_path / "a.ckpt", score=0.5, aliases=["best"])
    logger.close()
    (archive,) = (tmp_path / "kept").glob("*.zip")
    with zipfile.ZipFile(archive) as file:
        assert b"weights of a model" in [file.read(name) for name in file.namelist()]
        assert f"model-{logger.version}/a.ckpt" in file.read("messages.json").decode()


def test_offline_writes_an_archive(make, server, tmp_path):
    logger = make(online=False, offline_directory=str(tmp_path / "kept"), name="named")
    logger.log_metrics({"loss": 0.25}, step=3)
    logger.log_hyperparams({"lr": 0.5})
    logger.log_artifact(__file__, name="code")
    assert (logger.is_offline, logger.save_dir, logger.experiment.alive) == (True, str(tmp_path / "kept"), True)
    logger.close()
    (archive,) = (tmp_path / "kept").glob("*.zip")
    with zipfile.ZipFile(archive) as file:
        messages = [json.loads(line) for line in file.read("messages.json").decode().splitlines()]
        contents = [file.read(name) for name in file.namelist()]
    payloads = [message["payload"] for message in messages]
    (metric,) = [each["metric"] for each in payloads if "metric" in each and each["metric"]["metricName"] == "loss"]
    assert (metric["metricValue"], metric["step"]) == (0.25, 3)
    assert {each["param"]["paramName"]: each["param"]["paramValue"] for each in payloads if "param" in each}["lr"] == (
        0.5
    )
    assert Path(__file__).read_bytes() in contents
    assert server.requests == []


def test_the_environment_can_set_offline(make, server, tmp_path, monkeypatch):
    monkeypatch.setenv("COMET_START_ONLINE", "0")
    logger = make(offline_directory=str(tmp_path / "kept"))
    logger.log_metrics({"loss": 0.25}, step=3)
    logger.close()
    assert logger.is_offline
    assert len(list((tmp_path / "kept").glob("*.zip"))) == 1
    assert server.requests == []


def test_disabled_does_nothing(make, server, recwarn):
    logger = make(disabled=True)
    logger.log_metrics({"loss": 0.25}, step=3)
    logger.log_image("i", [FAINT])
    logger.finalize("success")
    logger.close()
    assert (server.store.experiments, [str(each.message) for each in recwarn]) == ({}, [])


# A server that does not answer


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("fault", ["down", "key refused"])
def test_a_failed_opening_warns_once_and_training_continues(make, server, monkeypatch, caplog, key, fault):
    settings = {
        "COMET_TIMEOUT_HTTP": "1", "COMET_TIMEOUT_API": "1", "COMET_HTTP_SESSION_RETRY_TOTAL": "0",
        "COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL": "0",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if fault == "down":
        server.stop()
    else:
        server.api_keys = {"another"}
    logger = make(experiment_key=key)

    def train():
        for step in range(3):
            logger.log_metrics({"loss": 1}, step)
        logger.log_image("i", [FAINT])
        logger.log_hyperparams({"a": 1})
        logger.log_checkpoint(__file__, aliases=["best"])
        logger.finalize("success")

    with pytest.warns(UserWarning, match="experiment cannot be opened in Comet, and what is logged to it") as warned:
        train()
    assert len([each for each in warned if "cannot be opened" in str(each.message)]) == 1
    assert os.environ["COMET_API_KEY"] not in str([str(each.message) for each in warned])
    logger.close()
    assert server.store.experiments == {}


def test_a_missing_experiment_is_not_a_network_error(make):
    with pytest.raises(AccessError, match="cannot be opened in Comet"):
        make(experiment_key=KEY, mode="get").log_metrics({"a": 1})


# Copies, other ranks


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda logger: pickle.loads(pickle.dumps(logger))])
@pytest.mark.parametrize("mode", [None, "create"])
def test_a_copy_continues_the_experiment(make, server, duplicate, mode):
    logger = make(mode=mode)
    early = duplicate(logger)
    logger.log_metrics({"a": 0}, 0)
    late = duplicate(logger)
    for step, each in enumerate([early, late, logger], 1):
        each.log_metrics({"a": step}, step)
    assert early.version == late.version == logger.version
    for each in (logger, early, late):
        each.close()
    assert points(server, logger) == [("a", step, step) for step in range(4)]
    assert list(server.store.experiments) == [logger.version]

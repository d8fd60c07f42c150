"""`NeptuneLogger` in direct use, with a `neptune.Run`."""

import copy
import io
import math
import pickle
import time

import git
import neptune
import numpy as np
import pytest
from PIL import Image
from plugins.neptune.arrived import arrived

from rankzero.errors import ConfigError
from rankzero_neptune import NeptuneLogger


@pytest.fixture
def logger(make_logger):
    return make_logger(name="brave-owl")


def stored(server, logger, prefix="training"):
    logger.close()
    return arrived(server.run(logger.version), prefix)


def test_values_arrive_with_step_and_time(server, logger):
    began = time.time()
    for step in range(5):
        logger.log_metrics({"loss": 1 / (step + 1), "n": step}, step=step)
    found = stored(server, logger).metrics
    assert [(point.step, point.value) for point in found["loss"]] == [(step, 1 / (step + 1)) for step in range(5)]
    assert [(point.step, point.value) for point in found["n"]] == [(step, float(step)) for step in range(5)]
    assert all(began - 0.001 <= point.time <= time.time() for points in found.values() for point in points)


def test_values_that_a_series_cannot_hold_become_texts(server, logger):
    logger.log_metrics({"loss": 1.0}, step=3)
    with pytest.warns(UserWarning, match="no NaN and infinity in a series: those of 'training/loss'"):
        logger.log_metrics({"loss": math.nan}, step=4)
    logger.log_metrics({"loss": -math.inf}, step=5)  # warned of once
    with pytest.warns(UserWarning, match="Neptune accepts only increasing steps"):
        logger.log_metrics({"loss": 2.0}, step=1)
    logger.log_metrics({"loss": 2.5}, step=3)
    logger.close()
    run = server.run(logger.version)
    assert [(p.value, p.step) for p in run.series("training/loss")] == [(1.0, 3.0)]
    beside = [point.value for point in run.series("training/loss_as_text")]
    assert beside == ["step 4: NaN", "step 5: -Infinity", "step 1: 2.0", "step 3: 2.5"]


def test_none_is_skipped_and_text_is_a_series_of_texts(server, logger):
    with pytest.warns(UserWarning, match="the metric 'gone' was None"):
        logger.log_metrics({"gone": None, "phase": "warm-up"}, step=0)
    logger.log_metrics({"gone": None, "phase": "training"}, step=1)
    logger.close()
    run = server.run(logger.version)
    assert [(p.value, p.step) for p in run.series("training/phase")] == [("warm-up", 0.0), ("training", 1.0)]
    assert "training/gone" not in run.logged


def test_params_keep_their_nesting_and_types(server, logger):
    logger.log_hyperparams({"lr": 0.1, "layers": 3, "bias": True, "nan": math.nan})
    logger.log_hyperparams({"layers": "many", "net": {"sizes": [1, 2], "none": None}})
    logger.close()
    assert server.run(logger.version).values("training/hyperparams/") == {
        "lr": 0.1,
        "layers": "many",
        "bias": True,
        "net/sizes": "[1, 2]",
        "net/none": "None",
        "nan": "NaN",
    }


def test_the_run_is_the_live_one(server, logger):
    assert isinstance(logger.experiment, neptune.Run)
    assert logger.run is logger.experiment
    assert (logger.name, logger.version) == ("brave-owl", "RUN-1")
    logger.experiment["mine"] = 3
    logger.close()
    assert server.run("RUN-1").value("mine") == 3


def test_a_run_that_the_user_opened_is_used_and_left_open(server, here, quiet):
    run = neptune.init_run(name="mine", **quiet)
    logger = NeptuneLogger(run=run)
    assert (logger.name, logger.version) == ("mine", "RUN-1")
    logger.log_metrics({"loss": 1.5}, step=0)
    logger.finalize("success")
    logger.close()
    run["after"] = 1
    run.stop()
    assert [(p.value, p.step) for p in server.run("RUN-1").series("training/loss")] == [(1.5, 0.0)]
    assert server.run("RUN-1").value("training/status") == "success"
    assert server.run("RUN-1").value("after") == 1


def test_a_namespace_of_a_run(server, here, quiet):
    run = neptune.init_run(**quiet)
    logger = NeptuneLogger(run=run["fold/1"], prefix="")
    logger.log_metrics({"loss": 1.5}, step=0)
    logger.log_hyperparams({"lr": 0.1})
    run.stop()
    found = arrived(server.run("RUN-1"), "fold/1")
    assert found.metrics["loss"][0][:2] == (0, 1.5)
    assert found.params == {"lr": 0.1}


def test_no_prefix(server, make_logger):
    logger = make_logger(prefix="")
    logger.log_metrics({"loss": 1.5}, step=0)
    logger.finalize("failed")
    logger.close()
    run = server.run("RUN-1")
    assert [(p.value, p.step) for p in run.series("loss")] == [(1.5, 0.0)]
    assert run.value("status") == "failed"


def test_logging_after_close_continues_the_run(server, logger):
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.close()
    logger.log_metrics({"loss": 2.0}, step=1)
    with pytest.warns(UserWarning, match="increasing"):
        logger.log_metrics({"loss": 3.0}, step=1)
    found = stored(server, logger).metrics["loss"]
    assert [point[:2] for point in found] == [(0, 1.0), (1, 2.0), (1, 3.0)]
    assert (logger.version, logger.name) == ("RUN-1", "brave-owl")
    assert server.run("RUN-1").value("sys/name") == "brave-owl"
    assert len(server.store.runs) == 1


def test_a_run_that_is_continued_keeps_its_name(server, logger, make_logger):
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.close()
    second = make_logger(with_id="RUN-1")
    second.log_metrics({"loss": 2.0}, step=1)
    second.close()
    run = server.run("RUN-1")
    assert run.value("sys/name") == "brave-owl"
    assert [(p.value, p.step) for p in run.series("training/loss")] == [(1.0, 0.0), (2.0, 1.0)]


def test_a_stopped_run_is_opened_again(server, logger):
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.experiment.stop()
    logger.log_metrics({"loss": 2.0}, step=1)
    assert [point[:2] for point in stored(server, logger).metrics["loss"]] == [(0, 1.0), (1, 2.0)]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda logger: pickle.loads(pickle.dumps(logger))])
def test_a_copy_continues_the_run(server, logger, opened, duplicate):
    if opened:
        logger.log_metrics({"loss": 1.0}, step=0)
        logger.run.wait()
    copied = duplicate(logger)
    copied.log_metrics({"loss": 2.0}, step=1)
    copied.close()
    if not opened:
        logger.log_metrics({"loss": 1.0}, step=2)
    logger.close()
    assert len(server.store.runs) == 1
    values = {(point.step, point.value) for point in server.run("RUN-1").series("training/loss")}
    assert values == {(1.0, 2.0), (0.0 if opened else 2.0, 1.0)}


def test_media_have_the_same_bytes(server, logger, tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    logger.log_image("picture", [tmp_path / "picture.png"], step=1, caption=["a"])
    logger.log_image("array", [pixels], step=1)
    logger.log_audio("sound", [np.zeros(80)], step=1, sample_rate=8000)
    logger.log_table("table", ["a", "b"], [[1, "x"], [2, "y,z"]], step=1)
    logger.log_histogram("weights", [1.0, 1.0, 2.0], step=1, bins=2)
    logger.log_artifact(tmp_path / "picture.png", name="kept", type="data", metadata={"n": 1})
    found = stored(server, logger)
    pictures = {item.key: item for item in found.items["image"]}
    assert set(pictures) == {"picture", "array"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures["array"].content))), pixels)
    assert pictures["picture"].content == (tmp_path / "picture.png").read_bytes()
    assert pictures["picture"].caption == "a"
    assert found.items["table"][0].content == (["a", "b"], [["1", "x"], ["2", "y,z"]])
    assert found.items["histogram"][0].content[1] == [["1.0", "1.5", "2"], ["1.5", "2.0", "1"]]
    assert found.items["artifact"][0].content == (tmp_path / "picture.png").read_bytes()
    assert found.items["audio"][0].content[:4] == b"RIFF"
    assert server.run("RUN-1").value("training/artifacts/kept/metadata/n") == 1


def test_offline_runs_are_written_by_the_client(server, make_logger, tmp_path):
    logger = make_logger(mode="offline")
    logger.log_metrics({"loss": 1.0}, step=0)
    with pytest.warns(UserWarning, match="increasing"):
        logger.log_metrics({"loss": 2.0}, step=0)
    checkpoint = tmp_path / "a.ckpt"
    checkpoint.write_bytes(b"weights")
    logger.log_checkpoint(checkpoint, aliases=["latest"])
    assert (logger.name, logger.version, logger.is_offline) == ("offline-name", "OFFLINE", True)
    logger.finalize("success")
    logger.close()
    assert server.requests == []
    (log,) = (tmp_path / ".neptune" / "offline").glob("run__*/data-*.log")
    assert '"LogFloats", "path": ["training", "loss"]' in log.read_text()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_death_of_the_clients_thread_is_noticed(server, logger):
    from rankzero.errors import TrackerUnavailableError
    from rankzero.testing.faults import status

    logger.log_metrics({"loss": 1.0}, step=0)
    logger.flush()
    server.fail("attributes/operations", status(400, "no"))
    logger.log_metrics({"loss": 2.0}, step=1)
    with pytest.raises(TrackerUnavailableError, match="client has given up"):
        logger.flush()
    server.heal()


def test_the_client_records_the_state_of_the_repository(server, here, quiet, tmp_path):
    repository = git.Repo.init(tmp_path)
    (tmp_path / "train.py").write_text("pass")
    repository.index.add(["train.py"])
    commit = repository.index.commit("first", author=git.Actor("A", "a@b"), committer=git.Actor("A", "a@b"))
    repository.close()
    logger = NeptuneLogger(**{**quiet, "git_ref": neptune.types.GitRef(repository_path=tmp_path)})
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.close()
    assert server.run(logger.version).attributes["source_code/git"].info["commit"]["commitId"] == commit.hexsha


def test_times_are_right_in_any_zone(server, make_logger, monkeypatch):
    for zone in ("Asia/Tokyo", "America/Lima"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            logger, began = make_logger(), time.time()
            logger.log_metrics({"loss": 1.0}, step=0)
            logger.close()
            logger.log_metrics({"loss": 2.0}, step=1)
            logger.close()
        finally:
            monkeypatch.delenv("TZ")
            time.tzset()
        times = [point.time / 1000 for point in server.run(logger.version).series("training/loss")]
        assert len(times) == 2
        assert all(began - 0.01 <= each <= time.time() for each in times)


def test_logging_after_a_given_run_was_stopped_warns(server, here, quiet, tmp_path):
    run = neptune.init_run(**quiet)
    logger = NeptuneLogger(run=run)
    logger.log_metrics({"loss": 1.0}, step=0)
    run.stop()
    (tmp_path / "weights.bin").write_bytes(b"weights")
    with pytest.warns(UserWarning, match=r"RUN-1, which was passed to NeptuneLogger as run=\.\.\., has been stopped"):
        logger.log_metrics({"test_loss": 2.0}, step=1)
    logger.log_hyperparams({"lr": 0.1})
    logger.log_image("picture", [np.zeros((4, 4, 3), np.uint8)])
    logger.log_text("note", ["text"], [["said"]])
    logger.log_tags(["late"])
    logger.log_checkpoint(tmp_path / "weights.bin", aliases=["best"])
    logger.log_artifact(tmp_path / "weights.bin")
    logger.finalize("success")
    logger.close()
    assert server.run("RUN-1").values("training/") == {}
    assert len(server.store.runs) == 1


def test_a_copy_of_a_logger_of_a_given_run_has_no_run(server, here, quiet):
    run = neptune.init_run(**quiet)
    copied = pickle.loads(pickle.dumps(NeptuneLogger(run=run["fold/1"])))
    run.stop()
    with pytest.raises(ConfigError, match=r"RUN-1, which was passed to NeptuneLogger as run=\.\.\., has been stopped"):
        copied.log_metrics({"loss": 2.0}, step=1)
    copied.finalize("success")
    copied.close()
    assert len(server.store.runs) == 1


def test_empty_names(server, logger):
    logger.log_hyperparams({"": 1, "lr": 0.1})
    logger.close()
    assert server.run("RUN-1").values("training/hyperparams/") == {"(no name)": 1, "lr": 0.1}


def test_debug_runs_are_opened_again(server, make_logger):
    logger = make_logger(mode="debug")
    for step in range(2):
        logger.log_metrics({"loss": 1.0}, step=step)
        logger.close()
    assert server.requests == []

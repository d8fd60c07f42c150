"""`TrackerLogger`: an adapter writes a session and two tables, and gets the rest of a logger."""

import pickle
from argparse import Namespace
from pathlib import Path
from typing import ClassVar

import pytest

from rankzero.errors import (
    AccessError,
    ConfigError,
    ExperimentUnavailableError,
    PluginNotInstalledError,
    PossiblyRejectedError,
    RejectedError,
    TrackerUnavailableError,
)
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.loggers.adapter import Session, TrackerLogger, Unsupported, plain_rows
from rankzero.loggers.options import Option, Options
from rankzero.loggers.sdk_errors import Rule

calls: list[tuple] = []


class AcmeSession(Session):
    url = "https://acme/run"

    def __init__(self, run):
        calls.append(("open", run.id if run else None))

    @property
    def experiment(self):
        return "the SDK's object"

    def resume(self, time):
        calls.append(("resume",))

    def write_metrics(self, rows):
        calls.extend(("metrics", row.values, row.step) for row in rows)

    def write_params(self, params, context):
        calls.append(("params", params))

    def write_media(self, media, context):
        if media.kind == "table":
            calls.append(("table", *plain_rows(media, lambda file, row, column: (Path(file).exists(), row, column))))
        elif media.kind == "image":
            calls.append(("image", [Path(file) for file in media.files()]))
            assert all(Path(file).exists() for file in media.files())
        elif media.kind == "text":
            calls.append(("text", media.key, media.table()[1]))
        elif media.kind == "graph":
            calls.append(("graph", media.items))
        else:
            super().write_media(media, context)

    def write_artifact(self, artifact, context):
        calls.append(("artifact", artifact.name, artifact.metadata, Path(artifact.path).exists()))

    def read_checkpoint(self, alias, directory):
        return directory / alias

    def flush(self):
        calls.append(("flush",))

    def finish(self, status, time):
        calls.append(("finish", status))

    def close(self):
        calls.append(("close",))


class AcmeOptions(Options):
    table = (Option("mode", choices=("online", "offline")), Option("api_key", secret=True))


class AcmeLogger(TrackerLogger):
    sdk = "json"
    tracker = "Acme"
    options_class = AcmeOptions
    errors = (Rule(RejectedError, error=("FileExistsError",)), Rule(TrackerUnavailableError, error=("OSError",)))
    statuses: ClassVar = {"success": "DONE", "aborted": "STOPPED", "failed": "BROKEN"}
    unpicklable = frozenset(["mode"])
    name = version = "acme"

    def __init__(self, mode=None, api_key=None, prefix="", log_model=None):
        super().__init__(prefix=prefix, log_model=log_model, mode=mode, api_key=api_key)

    @property
    def is_offline(self):
        return self.options["mode"] == "offline"

    def open(self, run):
        return AcmeSession(run)


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


@pytest.fixture
def run(tmp_path):
    return RunInfo("r1", "first", "digits", str(tmp_path))


def test_declared_options_are_checked(monkeypatch):
    assert AcmeLogger.secret_options == {"api_key"}
    with pytest.raises(ConfigError, match="mode must be one of"):
        AcmeLogger(mode="on")
    with pytest.raises(ConfigError, match=r"log_model must be one of True, False, 'all', not 'some'"):
        AcmeLogger(log_model="some")
    monkeypatch.setattr(AcmeLogger, "sdk", "acme_sdk")
    with pytest.raises(PluginNotInstalledError, match="AcmeLogger needs acme_sdk: pip install acme-sdk"):
        AcmeLogger()


def test_it_is_opened_when_it_is_needed_and_again_after_close():
    logger = AcmeLogger()
    logger.flush()
    logger.finalize("success")
    logger.close()
    assert (calls, logger.how_to_view()) == ([], None)
    for step in range(2):
        logger.log_metrics({"loss": 0.5}, step)
        assert logger.how_to_view() == "https://acme/run"
        logger.close()
    row = [("open", None), ("resume",), ("metrics", {"loss": 0.5})]
    assert [call[:2] for call in calls] == [*row, ("close",), *row, ("close",)]


def test_using_the_experiment_counts_as_use_after_close():
    logger = AcmeLogger()
    for _ in range(2):
        assert logger.experiment == "the SDK's object"
        assert logger.download_checkpoint("best", "/tmp").endswith("/best")
        logger.close()
    assert calls == [("open", None), ("close",)] * 2, "reading does not resume the run"


def test_a_run_is_opened_even_if_only_its_end_is_to_be_noted(run):
    logger = AcmeLogger()
    logger.log_metrics({"loss": 1})
    logger.attach(run)
    logger.finalize("killed")
    assert calls[-2:] == [("open", "r1"), ("finish", "STOPPED")]


@pytest.mark.parametrize(
    ("status", "word"),
    [("success", "DONE"), ("finished", "DONE"), ("aborted", "STOPPED"), ("failed", "BROKEN"), ("crashed", "BROKEN")],
)
def test_the_trackers_word_for_how_a_run_ended(run, status, word, monkeypatch):
    logger = AcmeLogger()
    logger.attach(run)
    logger.finalize(status)
    monkeypatch.setattr(AcmeLogger, "statuses", {})
    logger.finalize(status)
    assert calls[-2:] == [("finish", word), ("finish", status)]


def test_metrics_get_the_prefix_and_the_epoch(run, monkeypatch):
    logger = AcmeLogger(prefix="train")
    logger.attach(run)
    rows = [MetricsRow({"loss": 1}, 0, LogContext(0.0, 0)), MetricsRow({"loss": 2}, 1, LogContext(0.0, 1, epoch=3))]
    logger.log_metrics_batch([*rows, MetricsRow({"epoch": 7}, 2, LogContext(0.0, 2, epoch=3))])
    assert [call[1] for call in calls[2:]] == [
        {"train-loss": 1},
        {"train-epoch": 3, "train-loss": 2},
        {"train-epoch": 7},
    ]
    monkeypatch.setattr(AcmeLogger, "prefixes_epoch", False)
    assert logger.named(rows[1]).values == {"epoch": 3, "train-loss": 2}
    monkeypatch.setattr(AcmeLogger, "epoch_metric", None)
    assert logger.named(rows[1]).values == {"train-loss": 2}


def test_params_may_come_in_any_form_with_metrics():
    logger = AcmeLogger()
    logger.log_hyperparams(Namespace(lr=0.1, opt={"name": "adam"}), metrics={"acc": 0.5})
    logger.log_hyperparams()
    said = [call for call in calls if call[0] in ("params", "metrics")]
    assert said == [("params", {"lr": 0.1, "opt": {"name": "adam"}}), ("metrics", {"acc": 0.5}, 0), ("params", {})]


def test_a_metric_that_is_a_text_is_logged_as_one():
    with pytest.warns(UserWarning, match="'gone' was None"):
        AcmeLogger().log_metrics({"note": "a text", "gone": None})
    assert calls[-1] == ("text", "note", [["a text"]])


def test_unsupported_data_of_a_session_has_the_fallback_of_a_logger():
    logger = AcmeLogger()
    logger.log_histogram("h", [1, 2, 3], step=4)
    assert calls[-1] == ("artifact", "h", {"step": 4}, True)
    with pytest.warns(UserWarning, match="AcmeLogger has no tags"):
        logger.log_tags(["a"])
    with pytest.raises(Unsupported):
        Session().write_media(None, None)


def test_files_made_in_direct_use_are_deleted_when_they_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np = pytest.importorskip("numpy")
    picture = np.zeros((2, 2, 3), np.uint8)
    logger = AcmeLogger()
    logger.log_image("one", [picture, picture + 1])
    (_, paths) = calls[-1]
    assert len(paths) == 2
    assert not any(path.exists() for path in paths)
    logger.log_audio("two", [np.zeros(8), np.ones(8)])
    assert [call[-1] for call in calls if call[0] == "artifact"] == [True, True], "the fallback writes several"
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_needed_until_a_flush_are_deleted_then(monkeypatch):
    np = pytest.importorskip("numpy")
    monkeypatch.setattr(AcmeLogger, "scratch", "flushed")
    logger = AcmeLogger()
    logger.log_image("one", [np.zeros((2, 2, 3), np.uint8)])
    (_, [path]) = calls[-1]
    assert path.exists()
    logger.flush()
    assert not path.exists()


def test_cells_of_a_table_are_plain_or_files():
    image = pytest.importorskip("PIL.Image")
    AcmeLogger().log_table("t", ["a", "b"], [[1, {"x": Path("y")}], [image.new("RGB", (2, 2)), None]])
    assert calls[-1] == ("table", ["a", "b"], [[1, {"x": "y"}], [(True, 1, 0), None]])


def test_an_argument_that_the_tracker_does_not_show_is_warned_of_once(monkeypatch, recwarn):
    logger = AcmeLogger()
    for _ in range(2):
        logger.log_image("one", [], masks=[])
    assert [str(each.message) for each in recwarn] == ["Acme shows pictures without 'masks', which is not logged"]
    monkeypatch.setattr(AcmeLogger, "media_options", {"image": frozenset(["boxes"])})
    logger.log_image("one", [], boxes=[])
    assert len(recwarn) == 1


def test_a_model_itself_is_logged_only_by_a_tracker_that_draws_it(monkeypatch):
    AcmeLogger().log_graph("a model")
    assert calls == []
    monkeypatch.setattr(AcmeLogger, "draws_models", True)
    AcmeLogger().log_graph("a model")
    assert calls[-1] == ("graph", "a model")


def test_offline_under_a_run_nothing_is_opened(run):
    logger = AcmeLogger(mode="offline")
    logger.attach(run)
    logger.log_metrics({"loss": 0.5})
    logger.log_hyperparams({"lr": 0.1})
    logger.log_image("one", ["nowhere.png"])
    logger.log_tags(["a"])
    logger.flush()
    logger.finalize("success")
    with pytest.raises(ExperimentUnavailableError, match="offline"):
        _ = logger.experiment
    with pytest.raises(LookupError):
        logger.download_checkpoint()
    logger.close()
    assert calls == []
    logger.run_info = None
    logger.log_metrics({"loss": 0.5})
    assert calls[0] == ("open", None), "in direct use it is the SDK that stays offline"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RejectedError("no"), AccessError),
        (FileExistsError("taken"), AccessError),
        (PossiblyRejectedError("400"), TrackerUnavailableError),
        (ConfigError("no project"), AccessError),
        (ConnectionError("down"), TrackerUnavailableError),
    ],
)
def test_no_event_is_rejected_if_the_run_cannot_be_opened(run, monkeypatch, error, kind):
    def fail(self, run):
        raise error

    monkeypatch.setattr(AcmeLogger, "open", fail)
    logger = AcmeLogger()
    logger.attach(run)
    with pytest.raises(kind, match=rf"^the run cannot be opened in Acme: {error}$"):
        logger.log_metrics({"loss": 0.5})
    if isinstance(error, ConfigError):
        with pytest.raises(ConfigError):
            AcmeLogger().log_metrics({"loss": 0.5})


def test_a_session_is_discarded_after_a_failed_flush_if_declared(run, monkeypatch):
    def fail(self):
        raise OSError("down")

    logger = AcmeLogger()
    logger.attach(run)
    logger.log_metrics({"loss": 0.5})
    monkeypatch.setattr(AcmeSession, "flush", fail)
    for reopens, opened in ((False, 1), (True, 2)):
        monkeypatch.setattr(AcmeLogger, "reopens_after_failed_flush", reopens)
        with pytest.raises(TrackerUnavailableError, match="down"):
            logger.flush()
        logger.log_metrics({"loss": 0.5})
        assert sum(call[0] == "open" for call in calls) == opened


def test_a_copy_has_neither_the_session_nor_objects_that_cannot_be_copied():
    logger = AcmeLogger(mode="online", api_key="key")
    logger.log_metrics({"loss": 0.5})
    copy = pickle.loads(pickle.dumps(logger))
    assert copy._constructor == ((), {"api_key": "key"})
    calls.clear()
    copy.log_metrics({"loss": 0.5})
    assert calls[0] == ("open", None)

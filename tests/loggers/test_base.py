"""The Logger contract: what a custom logger must write, and what the base class does for it."""

import json
import pickle
import warnings
import weakref
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import rankzero
from rankzero import DummyExperiment, DummyLogger, Logger, LoggerCollection, rank_zero_experiment, rank_zero_only
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.loggers.base import VERBS
from rankzero.testing import MemoryLogger


@pytest.fixture
def other_rank(monkeypatch):
    monkeypatch.setenv("RANK", "1")


# Custom loggers, as their authors wrote them for Lightning


class DecoratedLogger(Logger):
    def __init__(self):
        super().__init__()
        self.hparams_logged = None
        self.metrics_logged = {}
        self.finalized_status = None
        self.saved = 0

    @property
    def name(self):
        return "MyLogger"

    @property
    def version(self):
        return "0.1"

    @rank_zero_only
    def log_hyperparams(self, params):
        self.hparams_logged = params

    @rank_zero_only
    def log_metrics(self, metrics, step):
        self.metrics_logged[step] = metrics

    @rank_zero_only
    def save(self):
        self.saved += 1

    @rank_zero_only
    def finalize(self, status):
        self.finalized_status = status


class FileLogger(Logger):
    """Sets ``self.save_dir``, and does not call ``super().__init__()``."""

    def __init__(self, save_dir):
        self.save_dir = save_dir
        self._lines = []

    @property
    def name(self):
        return "file"

    @property
    def version(self):
        return 3

    def log_hyperparams(self, params):
        self._lines.append(dict(params))

    def log_metrics(self, metrics, step=None):
        self._lines.append({"step": step, **metrics})

    def save(self):
        (self.save_dir / "log.json").write_text(json.dumps(self._lines))


def test_custom_logger_with_decorated_methods():
    logger = DecoratedLogger()
    params = Namespace(lr=0.1)
    logger.log_hyperparams(params)
    logger.log_metrics({"loss": 1.5}, 0)
    logger.log_metrics(metrics={"loss": 2.5}, step=1)
    logger.save()
    logger.finalize("success")
    assert logger.hparams_logged is params
    assert logger.metrics_logged == {0: {"loss": 1.5}, 1: {"loss": 2.5}}
    assert (logger.saved, logger.finalized_status) == (1, "success")
    assert logger.save_dir is None


def test_custom_logger_with_a_save_dir(tmp_path):
    logger = FileLogger(tmp_path)
    assert logger.save_dir == tmp_path
    logger.log_hyperparams({"lr": 0.1})
    logger.agg_and_log_metrics({"loss": 1.0}, step=0)
    logger.save()
    assert json.loads((tmp_path / "log.json").read_text()) == [{"lr": 0.1}, {"step": 0, "loss": 1.0}]


@pytest.mark.parametrize("make", [DecoratedLogger, lambda: FileLogger(None)])
def test_custom_logger_does_nothing_on_other_ranks(make, other_rank):
    logger = make()
    before = dict(logger.__dict__)
    assert logger.log_hyperparams({"lr": 0.1}) is None
    assert logger.log_metrics({"loss": 1.5}, 0) is None
    assert logger.save() is None
    assert logger.finalize("success") is None
    assert logger.__dict__ == before
    assert isinstance(logger.experiment, DummyExperiment)


def test_custom_loggers_under_a_run(tmp_path):
    for index, logger in enumerate((DecoratedLogger(), FileLogger(tmp_path))):
        run = rankzero.start(logger, dir=tmp_path / f"runs{index}", delivery="thread")
        run.log_hyperparams({"lr": 0.1})
        for step in range(3):
            run.log_metrics({"loss": step / 2}, step=step)
        run.finish()
    assert json.loads((tmp_path / "log.json").read_text()) == [
        {"lr": 0.1}, {"step": 0, "loss": 0.0}, {"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0},
    ]  # fmt: skip


@pytest.mark.parametrize("logger", [DecoratedLogger(), DummyLogger(), LoggerCollection([DecoratedLogger()])])
def test_real_trainer_takes_it(logger, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    demos = pytest.importorskip("lightning.pytorch.demos.boring_classes")

    class Model(demos.BoringModel):
        def training_step(self, batch, index):
            loss = super().training_step(batch, index)["loss"]
            self.log("loss", loss)
            return loss

    trainer = lightning.Trainer(
        max_steps=2, limit_val_batches=0, log_every_n_steps=1, logger=logger, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Model())
    assert trainer.logger is logger or trainer.logger is logger[0]
    if isinstance(logger, DecoratedLogger):
        assert {step: sorted(metrics) for step, metrics in logger.metrics_logged.items()} == {
            0: ["epoch", "loss"],
            1: ["epoch", "loss"],
        }
        assert logger.finalized_status == "success"


@pytest.mark.parametrize("missing", ["name", "version", "log_metrics", "log_hyperparams"])
def test_the_four_that_must_be_written(missing):
    members = {
        "name": property(lambda self: ""),
        "version": property(lambda self: 0),
        "log_metrics": lambda self, metrics, step=None: None,
        "log_hyperparams": lambda self, params: None,
    }
    type("Whole", (Logger,), dict(members))()
    del members[missing]
    with pytest.raises(TypeError, match=missing):
        type("Partial", (Logger,), members)()


# What the base class does


def test_a_single_picture_need_not_be_in_a_list(tmp_path):
    logger = DecoratedLogger()
    logger.save_dir = tmp_path
    (file,) = logger.as_files("image", np.zeros((4, 4, 3), np.uint8), "a zero")
    assert file.caption == "a zero"
    assert Path(file.path).is_relative_to(tmp_path)


def test_a_logger_can_be_pickled_while_it_waits_for_a_model_checkpoint():
    class Callback:
        save_top_k = 1

    callback = Callback()
    logger = DecoratedLogger()
    logger.log_model = True
    logger.after_save_checkpoint(weakref.proxy(callback))
    assert pickle.loads(pickle.dumps(logger)).log_model is True


def test_defaults():
    logger = DecoratedLogger()
    assert (logger.save_dir, logger.root_dir, logger.log_dir) == (None, None, None)
    assert isinstance(logger.experiment, DummyExperiment)
    assert logger.after_save_checkpoint(object()) is None
    assert logger.flush() is None
    assert logger.watermark() is None
    assert logger.close() is None
    assert Logger.finalize(logger, "aborted") is None
    assert logger.saved == 1


def test_constructor_takes_aggregation_functions():
    class Aggregating(MemoryLogger):
        def __init__(self):
            MemoryLogger.__init__(self)
            Logger.__init__(self, {"n": max}, sum)

    logger = Aggregating()
    for value in (1.0, 2.0):
        logger.agg_and_log_metrics({"n": value, "loss": value}, step=0)
    logger.save()
    assert [point.value for point in logger.metrics["n"]] == [2.0]
    assert [point.value for point in logger.metrics["loss"]] == [3.0]


def logged(logger):
    return [(call.arguments["step"], call.arguments["metrics"]) for call in logger.calls if call.verb == "log_metrics"]


def test_aggregation_waits_for_a_new_step():
    logger = MemoryLogger()
    logger.save()
    assert logged(logger) == []
    logger.agg_and_log_metrics({"a": 1.0}, step=0)
    logger.agg_and_log_metrics({"a": 3.0, "b": 5.0}, step=0)
    assert logged(logger) == []
    logger.agg_and_log_metrics({"a": 8.0}, step=1)
    assert logged(logger) == [(0, {"a": 2.0, "b": 5.0})]


@pytest.mark.parametrize("end", ["save", "close", "finalize"])
def test_the_last_step_is_not_lost_with_any_overridden_method(end):
    class Careless(MemoryLogger):
        def save(self):
            """Forgets ``super().save()``."""

        def close(self):
            """Forgets ``super().close()``."""

        def finalize(self, status):
            """Forgets ``super().finalize(status)``."""

    logger = Careless()
    logger.agg_and_log_metrics({"a": 1.0}, step=7)
    arguments = ["success"] if end == "finalize" else []
    for _ in range(2):
        getattr(logger, end)(*arguments)
    assert logged(logger) == [(7, {"a": 1.0})]


def test_update_agg_funcs():
    logger = MemoryLogger()
    logger.update_agg_funcs({"low": min}, np.max)
    logger.update_agg_funcs({"sum": sum})
    for value in (1.0, 5.0):
        logger.agg_and_log_metrics(dict.fromkeys(("low", "sum", "mean"), value), step=0)
    logger.save()
    assert logged(logger) == [(0, {"low": 1.0, "sum": 6.0, "mean": 3.0})]
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_metrics({"a": 2.0}, 1)
    assert len(logged(logger)) == 3, "log_metrics is not aggregated"


def test_close_closes_once_and_again_after_use():
    closed = []

    class Closing(MemoryLogger):
        def close(self):
            closed.append("sub")
            super().close()

    logger = Closing()
    for _ in range(3):
        logger.close()
    assert closed == ["sub"]
    logger.save()
    logger.flush()
    logger.close()
    assert closed == ["sub"], "saving is no use"
    logger.log_metrics({"a": 1}, 0)
    logger.close()
    logger.close()
    assert closed == ["sub", "sub"]


def test_close_that_failed_can_be_tried_again():
    class Failing(MemoryLogger):
        fails = True

        def close(self):
            if self.fails:
                raise ConnectionError

    logger = Failing()
    with pytest.raises(ConnectionError):
        logger.close()
    logger.fails = False
    logger.close()
    logger.fails = True
    logger.close()


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_of_a_subclass_is_guarded(verb, other_rank):
    def act(self, *args, **kwargs):
        raise AssertionError("called on another rank")

    logger = type("Acting", (MemoryLogger,), {verb: act})()
    assert getattr(logger, verb)() is None


def test_experiment_of_a_subclass_is_guarded(monkeypatch):
    class WithExperiment(MemoryLogger):
        @property
        def experiment(self):
            """The SDK's own."""
            return "the real one"

    logger = WithExperiment()
    assert logger.experiment == "the real one"
    assert WithExperiment.experiment.__doc__ == "The SDK's own."
    monkeypatch.setenv("RANK", "3")
    assert isinstance(logger.experiment, DummyExperiment)
    monkeypatch.delenv("RANK")
    assert logger.experiment == "the real one"


def test_batch_hands_over_each_row_with_its_context():
    logger = MemoryLogger()
    contexts = [LogContext(100.0 + i, i, epoch=i, stage="test") for i in range(2)]
    logger.log_metrics_batch([MetricsRow({"a": i}, i, context) for i, context in enumerate(contexts)])
    assert [call.context for call in logger.calls] == contexts
    assert logger.context.line is None


def test_context_ends_when_a_verb_raises():
    logger = MemoryLogger()
    with pytest.raises(KeyError), logger.at(LogContext(1.0, 1)):
        raise KeyError
    assert logger.context.time > 1.0


def test_pickling():
    logger = MemoryLogger(name="pickled", version="a")
    copy = pickle.loads(pickle.dumps(logger))
    assert (copy.name, copy.version) == ("pickled", "a")
    copy.agg_and_log_metrics({"a": 1.0}, 0)
    copy.close()
    assert logged(copy) == [(0, {"a": 1.0})]


def test_fallbacks_keep_the_data(tmp_path):
    class OnlyFiles(FileLogger):
        def log_artifact(self, path, name=None, type=None, aliases=(), metadata=None):
            self._lines.append((name, type, metadata, path.read_bytes()))

    logger = OnlyFiles(tmp_path)
    logger.log_table("preds", ["x", "y"], [[1, "a,b"]], step=3)
    logger.log_text("notes", ["text"], [["hello"]])
    logger.log_histogram("w", (np.array([1, 2]), np.array([0.0, 1.0, 2.0])), step=4)
    assert logger._lines == [
        ("preds", "table", {"step": 3}, b'x,y\r\n1,"a,b"\r\n'),
        ("notes", "table", {}, b"text\r\nhello\r\n"),
        ("w", "histogram", {"step": 4}, b'{"counts":[1,2],"edges":[0.0,1.0,2.0]}'),
    ]
    assert list(tmp_path.glob("media/*/*")), "kept in save_dir"


@pytest.mark.parametrize(
    ("verb", "arguments", "what"),
    [
        ("log_artifact", ["model.ckpt"], "cannot hold files"),
        ("log_checkpoint", ["model.ckpt"], "cannot hold files"),
        ("define_metric", ["loss"], "define_metric"),
        ("log_tags", [["red"]], "no tags"),
        ("alert", ["loss", "it is NaN"], "no alerts; they stay in the run's journal: loss: it is NaN"),
        ("watch", [None], "cannot watch"),
    ],
)
def test_unsupported_data_is_warned_of_once(verb, arguments, what):
    logger = DecoratedLogger()
    with pytest.warns(UserWarning, match=f"DecoratedLogger.*{what}"):
        getattr(logger, verb)(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(logger, verb)(*arguments)


def test_attach_sets_the_run():
    logger = DecoratedLogger()
    assert logger.run_info is None
    run = RunInfo("a" * 32, "happy-run", "project", "/tmp/run")
    logger.attach(run)
    assert logger.run_info is run


# DummyExperiment, rank_zero_experiment


def test_dummy_experiment():
    experiment = DummyExperiment()
    assert experiment.log({"a": 1}, step=2) is None
    assert experiment.anything() is None
    assert experiment["a"]["b"][0] is experiment
    experiment["a"] = 1
    assert experiment["a"] is experiment
    assert experiment["a"].append(1) is None
    assert experiment.config.update({"lr": 1}) is None
    assert experiment.run.summary["best"].x() is None
    with pytest.raises(TypeError):
        iter(experiment)
    pickle.loads(pickle.dumps(experiment))


def test_rank_zero_experiment(monkeypatch):
    class WithExperiment(MemoryLogger):
        real = object()

        @property
        @rank_zero_experiment
        def experiment(self):
            return self.real

    logger = WithExperiment()
    assert logger.experiment is WithExperiment.real
    logger.real = None
    assert isinstance(logger.experiment, DummyExperiment)
    logger.real = object()
    monkeypatch.setenv("RANK", "1")
    assert isinstance(logger.experiment, DummyExperiment)


def test_rank_zero_only(monkeypatch):
    function = rank_zero_only(lambda a, b: a + b)
    assert function(1, b=2) == 3
    monkeypatch.setenv("RANK", "1")
    assert function(1, b=2) is None


# DummyLogger, LoggerCollection


def test_dummy_logger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = DummyLogger()
    assert (logger.name, logger.version) == ("", "")
    assert isinstance(logger.experiment, DummyExperiment)
    for verb in sorted(verb for verb in VERBS if verb.startswith("log_") and verb != "log_metrics_batch"):
        assert getattr(logger, verb)("anything", at="all") is None
    assert logger.after_save_checkpoint("callback") is None
    assert (logger.save(), logger.finalize("success"), logger.close()) == (None, None, None)
    assert logger.any_method("anything") is None
    assert logger[5] is logger
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError):
        iter(logger)
    pickle.loads(pickle.dumps(logger))


@pytest.fixture
def collection():
    return LoggerCollection(iter([MemoryLogger(name="a", version=0), MemoryLogger(name="b", version="2_1")]))


def test_collection_forwards_in_order():
    calls = []
    collection = LoggerCollection([MemoryLogger(calls, "a"), MemoryLogger(calls, "b")])
    collection.log_metrics({"m": 1.0}, step=0)
    collection.log_hyperparams({"lr": 1})
    collection.log_hyperparams(Namespace(lr=1))
    collection.log_graph("model")
    collection.log_image("key", ["picture"], step=3)
    collection.after_save_checkpoint("callback")
    collection.save()
    collection.finalize("failed")
    collection.close()
    verbs = [
        "log_metrics", "log_hyperparams", "log_hyperparams", "log_graph", "log_image", "after_save_checkpoint", "save",
        "finalize", "close",
    ]  # fmt: skip
    assert [call.verb for call in calls] == [verb for verb in verbs for _ in range(2)]
    assert [call.arguments for call in calls[::2]] == [call.arguments for call in calls[1::2]]


def test_collection_aggregates_in_each_logger(collection):
    collection.update_agg_funcs({"a": max}, min)
    for value in (1.0, 2.0):
        collection.agg_and_log_metrics({"a": value, "b": value}, step=0)
    collection.finalize("success")
    assert [logged(logger) for logger in collection] == [[(0, {"a": 2.0, "b": 1.0})]] * 2


def test_collection_is_a_sequence_of_loggers(collection):
    assert [logger.name for logger in collection] == ["a", "b"]
    assert (collection[1].name, len(collection)) == ("b", 2)
    assert collection.save_dir is None
    assert len(collection.experiment) == 2
    assert all(isinstance(experiment, DummyExperiment) for experiment in collection.experiment)


@pytest.mark.parametrize(
    ("parts", "name", "version"),
    [
        ([], "", ""),
        ([("a", 3)], "a", 3),
        ([("a", 0), ("b", "2_1")], "a_b", "0_2_1"),
        ([("a", 0), ("a", 0), ("b", 1)], "a_b", "0_1"),
    ],
)
def test_collection_name_and_version(parts, name, version):
    collection = LoggerCollection([MemoryLogger(name=name, version=version) for name, version in parts])
    assert (collection.name, collection.version) == (name, version)


def test_one_logger_that_raises_does_not_keep_the_others_from_the_call():
    class Failing(MemoryLogger):
        def log_metrics(self, metrics, step=None):
            raise ConnectionError("tracker is down")

    last = MemoryLogger()
    with pytest.raises(ConnectionError):
        LoggerCollection([Failing(), last]).log_metrics({"a": 1.0}, step=0)
    with pytest.raises(ExceptionGroup) as raised:
        LoggerCollection([Failing(), Failing(), last]).log_metrics({"a": 2.0}, step=1)
    assert len(raised.value.exceptions) == 2
    assert logged(last) == [(0, {"a": 1.0}), (1, {"a": 2.0})]


# The run


@pytest.mark.parametrize(
    ("directory", "project", "runs_dir"),
    [
        ("/data/runs/digits/a1", "digits", "/data/runs"),
        ("/data/runs/team/digits/a1", "team/digits", "/data/runs"),
        ("/digits/a1", "digits", "/"),
        ("/copied/other/a1", "digits", "/copied/other/a1"),
        ("/copied/digits/a1-from-the-cluster", "digits", "/copied/digits/a1-from-the-cluster"),
        ("/a1", "digits", "/a1"),
        ("/data/mydigits/a1", "digits", "/data/mydigits/a1"),
    ],
)
def test_runs_dir(directory, project, runs_dir):
    assert RunInfo("a1", "calm-reef-1", project, directory).runs_dir == runs_dir


def test_runs_dir_is_the_dir_given_to_start(tmp_path):
    calls = []
    with rankzero.start([MemoryLogger(calls)], project="team/digits", dir=tmp_path / "runs", delivery="thread") as run:
        run.log_metrics({"loss": 1.0})
    (attached,) = [call.arguments["run"] for call in calls if call.verb == "attach"]
    assert attached.runs_dir == str(tmp_path / "runs")

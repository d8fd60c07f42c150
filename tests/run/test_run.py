"""Run, in this process: each log method as an event and as a logger's call, invalid values, and the life of a run."""

import copy
import errno
import inspect
import io
import json
import logging
import multiprocessing
import os
import pickle
import re
import sys
import time
import warnings
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PILImage
from servers.child import log_fifty
from servers.file_logger import FileLogger, calls, fail, rows
from waiting import A_WHILE, SOON

import rankzero
from rankzero.errors import ConfigError, PluginNotInstalledError, RunInUseError, RunNotFoundError
from rankzero.events.structs import Alert, Artifact, Checkpoint, Finish, Metrics, Rewind, Start, Status
from rankzero.journal.tail import read_events
from rankzero.loggers.base import VERBS
from rankzero.media.store import read_table
from rankzero.plugins.registry import get_plugins
from rankzero.run.start import _show_messages
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import load_position
from rankzero.rundir.writer_lock import Writer, writer_state


@pytest.fixture
def tracker(tmp_path):
    return tmp_path / "tracker"


@pytest.fixture
def begin(tmp_path, tracker):
    """Start runs that a thread delivers to a `FileLogger`, and end them."""
    runs = []

    def begin(**options):
        options = {"dir": tmp_path / "runs", "delivery": "thread", **options}
        runs.append(rankzero.start([FileLogger(tracker)], **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=5)


@pytest.fixture
def run(begin):
    return begin()


@pytest.fixture
def delivered(run, tracker):
    """Finish the run; return what its logger was told by some verbs."""

    def delivered(*verbs):
        run.finish(timeout=A_WHILE)
        return calls(tracker, *verbs)

    return delivered


def events(run, kind=object):
    return [event for _, event in read_events(run.dir / JOURNAL) if isinstance(event, kind)]


def raw(run):
    """The journal's lines as plain JSON, without the start."""
    return [json.loads(line) for line in (run.dir / JOURNAL).read_text().splitlines()][1:]


def opened(path):
    with PILImage.open(path) as image:
        return np.asarray(image)


# Verbs


@pytest.mark.parametrize(
    ("params", "values"),
    [
        ({"lr": 0.1, "model": {"layers": [1, 2]}}, {"lr": 0.1, "model": {"layers": [1, 2]}}),
        (Namespace(lr=0.1, path=None), {"lr": 0.1, "path": None}),
    ],
)
def test_hyperparams(run, delivered, params, values):
    run.log_hyperparams(params)
    run.log_hyperparams({"seed": 1}, metrics={"hp/acc": 0.5})
    run.log_hyperparams({}, 3.0)
    assert [event["values"] for event in raw(run)] == [values, {"seed": 1}, {}]
    first, second, third = delivered("log_hyperparams")
    assert first["params"] == values
    assert second["kwargs"] == {"metrics": {"hp/acc": 0.5}}
    assert third["kwargs"] == {"metrics": {"hp_metric": 3.0}}


def test_hyperparams_that_are_secrets_are_masked(run):
    run.log_hyperparams({"api_key": "k3y", "db": {"password": "k3y", "url": "mysql://me:k3y@h"}, "eos_token": "</s>"})
    run.log_hyperparams(Namespace(hf_token="k3y", max_tokens=5, auth=True, secret=None))
    read = rankzero.read_run(run.dir).params
    assert read["db"] == {"password": "***", "url": "mysql://me:***@h"}
    assert [read[name] for name in ("api_key", "hf_token", "eos_token")] == ["***", "***", "</s>"]
    assert [read[name] for name in ("max_tokens", "auth", "secret")] == [5, True, None]
    assert b"k3y" not in (run.dir / "journal.jsonl").read_bytes()


def test_metrics(run, delivered):
    before = time.time()
    run.log_metrics({"loss": 0.1, "n": 3}, 5, epoch=1, stage="train")
    run.log_metrics({"a": {"b": np.float32(0.5), "c": True}}, np.int64(6), epoch=np.int64(1))
    (event, _) = events(run, Metrics)
    assert (event.step, event.values, event.epoch, event.stage) == (5, {"loss": 0.1, "n": 3}, 1, "train")
    first, second = delivered("log_metrics")
    assert (first["step"], first["metrics"]) == (5, {"loss": 0.1, "n": 3})
    assert before <= first["context"]["time"] == event.time <= time.time()
    assert (first["context"]["epoch"], first["context"]["stage"]) == (1, "train")
    assert (second["step"], second["metrics"]) == (6, {"a/b": 0.5, "a/c": 1})
    assert second["context"]["epoch"] == 1


def test_steps_count_on_by_themselves(run, delivered):
    for step in (None, None, 10, None, 3, None):
        run.log_metrics({"loss": 1.0}, step)
    assert run.step == 4
    assert [call["step"] for call in delivered("log_metrics")] == [0, 1, 10, 11, 3, 4]


def test_data_logged_without_a_step_gets_the_last_one(run, delivered):
    run.log_text("before", "x")
    run.log_metrics({"loss": 1.0}, 7)
    run.log_text("after", "x")
    run.log_text("elsewhere", "x", step=2)
    assert [call["step"] for call in delivered("log_text")] == [None, 7, 2]


def test_images(run, delivered, tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    PILImage.fromarray(pixels).save(tmp_path / "cat.png")
    run.log_image("eval/cats", [pixels, tmp_path / "cat.png"], step=3, caption=["array", "file"], boxes=[None, [1]])
    (call,) = delivered("log_image")
    assert (call["key"], call["step"], call["caption"]) == ("eval/cats", 3, ["array", "file"])
    assert call["extra"] == {"boxes": [None, [1]]}
    for image in call["images"]:
        assert (opened(image["path"]) == pixels).all()


def test_one_image_need_not_be_a_list(run, delivered):
    run.log_image("cat", np.zeros((2, 2)), caption="one")
    (call,) = delivered("log_image")
    assert [image["caption"] for image in call["images"]] == ["one"]


def test_tables(run, delivered):
    pandas = pytest.importorskip("pandas")
    picture = PILImage.new("RGB", (2, 2), "red")
    run.log_table("predictions", ["image", "label", "p"], [[picture, "cat", 0.5], [None, "dög", float("nan")]], step=1)
    run.log_table("frame", dataframe=pandas.DataFrame({"x": [1, 2], "y": ["a", None]}))
    first, second = delivered("log_table")
    assert (first["key"], first["columns"], first["step"]) == ("predictions", ["image", "label", "p"], 1)
    assert first["data"][0][1:] == ["cat", 0.5]
    assert (opened(first["data"][0][0]["path"]) == [255, 0, 0]).all()
    assert first["data"][1][:2] == [None, "dög"]
    assert (second["columns"], second["data"][0]) == (["x", "y"], [1, "a"])
    assert read_table(run.dir / raw(run)[1]["file"]["path"])[0] == ["x", "y"]


def test_texts(run, delivered):
    run.log_text("samples", ["prompt", "answer"], [["2+2", "4"], ["ä", "ö"]], step=1)
    run.log_text("note", "all is well")
    first, second = delivered("log_text")
    assert (first["columns"], first["data"]) == (["prompt", "answer"], [["2+2", "4"], ["ä", "ö"]])
    assert second["data"] == [["all is well"]]


def test_audio_and_video(run, delivered):
    import wave

    run.log_audio("speech", [np.array([0.0, 0.5, -1.0])], caption=["a"], sample_rate=8000)
    run.log_video("rollout", [np.zeros((3, 4, 4, 3), np.uint8)], fps=2)
    audio, video = delivered("log_audio", "log_video")
    with wave.open(audio["audios"][0]["path"]) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 3)
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16384, -32767]
    assert audio["caption"] == ["a"]
    with PILImage.open(video["videos"][0]["path"]) as animation:
        assert animation.size == (4, 4)


def test_histogram_and_figure(run, delivered):
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    with pytest.warns(UserWarning, match="1 values of the histogram 'weights' are NaN or infinite"):
        run.log_histogram("weights", np.array([0.0, 1.0, 1.0, np.nan]), step=2, bins=2)
    run.log_figure("curve", figure, step=2)
    histogram, plot = delivered("log_histogram", "log_figure")
    assert histogram["values"] == {"counts": [1, 2], "edges": [0.0, 0.5, 1.0], "non_finite": 1}
    assert opened(plot["figure"]["path"]).shape[:2] == (100, 100)


def test_graph(run, delivered):
    torch = pytest.importorskip("torch")
    run.log_graph(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()))
    (call,) = delivered("log_graph")
    with open(call["model"]["path"]) as file:
        model = json.load(file)
    assert model["parameters"] == 8
    assert [module["type"] for module in model["modules"]] == ["Sequential", "Linear", "ReLU"]


@pytest.mark.parametrize("verb", ["log_artifact", "log_checkpoint"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_files_are_kept_as_they_were(run, delivered, tmp_path, verb, kind):
    source = tmp_path / "weights"
    file = source / "shards" / "0.bin" if kind == "directory" else source
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"good")
    getattr(run, verb)(source, aliases=["v1"], metadata={"classes": 10})
    file.write_bytes(b"overwritten")
    (call,) = delivered(verb)
    kept = call["path"] + ("/shards/0.bin" if kind == "directory" else "")
    with open(kept, "rb") as stream:
        assert stream.read() == b"good"
    assert (call["aliases"], call["metadata"]) == (["v1"], {"classes": 10})


def test_checkpoint_has_its_score_and_step(run, delivered, tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"x")
    run.log_metrics({"loss": 1.0}, 4)
    run.log_checkpoint(tmp_path / "a.ckpt", score=np.float32(0.5))
    (call,) = delivered("log_checkpoint")
    assert (call["score"], call["step"]) == (0.5, 4)


@pytest.mark.parametrize("link", [False, True], ids=["copied", "symbolic link"])
def test_checkpoints_of_a_callback_survive_its_rotation(begin, tmp_path, link):
    run = begin(delivery="off")
    best, last = tmp_path / "epoch=1.ckpt", tmp_path / "last.ckpt"
    best.write_bytes(b"best")
    last.symlink_to(best.name) if link else last.write_bytes(b"last")
    callback = SimpleNamespace(
        best_k_models={str(best): 0.9},
        best_model_path=str(best),
        best_model_score=0.9,
        last_model_path=str(last),
        current_score=0.8,
        monitor="acc",
    )
    run.after_save_checkpoint(callback)
    run.after_save_checkpoint(callback)  # nothing new
    run.flush()  # what may be written again in place is copied by a thread
    best.unlink()
    last.unlink()
    saved = {os.path.basename(event.path): event for event in events(run, Checkpoint)}
    assert {name: (run.dir / event.path).read_bytes() for name, event in saved.items()} == {
        "epoch=1.ckpt": b"best",
        "last.ckpt": b"best" if link else b"last",
    }
    assert len(events(run, Checkpoint)) == 2
    assert "best" in saved["epoch=1.ckpt"].aliases
    assert [alias for event in saved.values() for alias in event.aliases].count("latest") == 1
    assert (saved["epoch=1.ckpt"].score, saved["epoch=1.ckpt"].metadata) == (0.9, {"monitor": "acc"})
    assert all(event.automatic for event in saved.values())


class Picky(FileLogger):
    def __init__(self, directory, password=None, color="red"):
        if color == "nowhere":
            raise ConnectionError("the tracker is down")
        if color == "missing":
            raise ModuleNotFoundError("colors need: pip install colors")
        if color != "red":
            raise ValueError(f"color is red, not {color!r} ({password})")


@pytest.mark.parametrize(("color", "error"), [("blue", ConfigError), ("missing", PluginNotInstalledError)])
def test_options_that_a_logger_rejects_raise_before_training_begins(tmp_path, monkeypatch, color, error):
    monkeypatch.setattr(get_plugins(), "load_logger", lambda *_: Picky)
    options = {"directory": str(tmp_path), "password": "hunter2-hunter2", "color": color}
    with pytest.raises(error, match=r"start\(\): the logger 'picky' cannot be made: color") as raised:
        rankzero.start({"picky": options}, dir=tmp_path / "runs")
    assert "hunter2" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:///a/b.db", "sqlite:///{here}/a/b.db"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("a/b", "a/b"),
    ],
)
def test_a_database_named_by_a_relative_path_is_the_same_from_everywhere(tmp_path, monkeypatch, written, meant):
    monkeypatch.setattr(get_plugins(), "load_logger", lambda *_: Picky)
    run = rankzero.start({"picky": {"directory": written}}, dir=tmp_path / "runs", delivery="off")
    recorded = events(run, Start)[0].loggers["picky"]["options"]["directory"]
    assert recorded == meant.format(here=os.getcwd())
    run.finish()


def test_a_project_that_cannot_name_a_directory_is_rejected(tmp_path):
    with pytest.raises(ConfigError, match="'project' becomes the name of a directory"):
        rankzero.start("csv", project="\ud800", dir=tmp_path)


def test_tags_that_are_a_dictionary_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="tags"):
        rankzero.start("csv", tags={"team": "vision"}, dir=tmp_path)


def test_a_constructor_that_fails_for_external_reasons_does_not_stop_training(tmp_path, monkeypatch):
    monkeypatch.setattr(get_plugins(), "load_logger", lambda *_: Picky)
    options = {"directory": str(tmp_path), "color": "nowhere"}
    run = rankzero.start({"picky": options}, dir=tmp_path / "runs", delivery="thread")
    run.finish(timeout=0)


@pytest.mark.parametrize(("file", "program"), [("train.py", os.path.abspath("train.py")), (None, "")])
def test_the_journal_has_the_path_of_the_script(begin, monkeypatch, file, program):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", file, raising=False)
    assert events(begin(), Start)[0].run.program == program


def test_definitions_and_tags(run, delivered):
    run.define_metric("acc", step_metric="epoch", summary="max", goal="maximize")
    run.log_tags("one")
    run.log_tags(["two", "three"])
    define, *tags = delivered("define_metric", "log_tags")
    wanted = {"name": "acc", "step_metric": "epoch", "summary": "max", "goal": "maximize"}
    assert wanted.items() <= define.items()
    assert [call["tags"] for call in tags] == [["one"], ["two", "three"]]


def test_alerts(run, delivered):
    run.alert("loss", "it is NaN", "ERROR")
    run.alert("done")
    first, second = delivered("alert")
    assert (first["title"], first["text"], first["level"]) == ("loss", "it is NaN", "ERROR")
    assert (second["title"], second["text"], second["level"]) == ("done", "", "INFO")
    assert rankzero.read_run(run.dir).alerts == events(run, Alert)


def test_an_unknown_goal_or_summary_causes_a_warning(run, delivered):
    with pytest.warns(UserWarning, match=r"'loss'.*goal must be one of minimize, maximize, not 'min'"):
        run.define_metric("loss", summary="min, last", goal="min")
    with pytest.warns(UserWarning, match=r"'loss'.*summary must be one of min, .*, not 'avg'"):
        run.define_metric("loss", summary="avg")
    assert len(delivered("define_metric")) == 2


def test_a_tracker_without_alerts_causes_a_warning(tmp_path):
    class Mute(FileLogger):
        alert = rankzero.Logger.alert

    run = rankzero.start([Mute(tmp_path / "tracker")], dir=tmp_path, delivery="off")
    run.alert("loss", "it is NaN", "ERROR")
    run.alert("again")
    run.finish()
    with pytest.warns(match=r"Mute sends no alerts.*journal: loss: it is NaN") as caught:
        rankzero.deliver(run.dir, Mute(tmp_path / "tracker"))
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("log", "kinds"),
    [("gradients", ["gradients"]), ("parameters", ["parameters"]), ("all", ["gradients", "parameters"])],
)
def test_watch(run, delivered, log, kinds):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1, bias=False)
    run.watch(model, log, log_freq=3)
    weights = {}
    for step in range(7):
        run.log_metrics({"loss": 1.0}, step)
        weights[step] = model.weight.detach().clone()
        model(torch.tensor([[1.0, 2.0]])).sum().backward()
        with torch.no_grad():
            model.weight += 1
    model.eval()(torch.ones(3, 2))
    run.unwatch(model)
    model.train()(torch.ones(9, 2)).sum().backward()
    graph, *histograms = delivered("log_graph", "log_histogram")
    assert graph["verb"] == "log_graph"
    assert sorted((call["key"], call["step"]) for call in histograms) == [
        (f"{kind}/weight", step) for kind in kinds for step in (2, 5)
    ]
    for call in histograms:
        expected = [1.0, 2.0] if call["key"].startswith("gradients") else weights[call["step"]].flatten().tolist()
        edges = call["values"]["edges"]
        assert (edges[0], edges[-1]) == pytest.approx((min(expected), max(expected)))


def test_a_copy_of_a_watched_model_is_not_watched(run):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    run.watch(model, "all", log_freq=1, log_graph=False)
    for each in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        each(torch.ones(1, 2)).sum().backward()
    assert raw(run) == []
    model(torch.ones(1, 2)).sum().backward()
    assert len(raw(run)) == 4


def test_aggregation(run, delivered):
    run.update_agg_funcs({"n": max})
    for step, loss, n in [(0, 1.0, 1), (0, 3.0, 2), (1, 5.0, 3)]:
        run.agg_and_log_metrics({"loss": loss, "n": n}, step)
    assert [(event.step, event.values) for event in events(run, Metrics)] == [(0, {"loss": 2.0, "n": 2})]
    assert [(call["step"], call["metrics"]) for call in delivered("log_metrics")][1:] == [(1, {"loss": 5.0, "n": 3})]


def test_aggregated_metrics_are_copied(run):
    metrics, array, tensor = {}, np.zeros(1), pytest.importorskip("torch").zeros(1)
    for step in range(3):
        array[0] = tensor[0] = metrics["number"] = step
        metrics["nested"] = {"array": array, "tensor": tensor}
        run.agg_and_log_metrics(metrics, step)
    run.finish()
    rows = [(row.step, set(row.numbers().values())) for row in events(run, Metrics)]
    assert rows == [(0, {0}), (1, {1}), (2, {2})]


# What cannot be recorded


BROKEN = {
    "log_metrics": (["no mapping"], {}),
    "log_metrics key": ([{"": object()}], {}),
    "log_hyperparams": (["no mapping"], {}),
    "log_image": (["i", ["/no/such/file.png"]], {}),
    "log_audio": (["a", ["/no/such/file.wav"]], {}),
    "log_video": (["v", ["/no/such/file.mp4"]], {}),
    "log_figure": (["f", object()], {}),
    "log_table": (["t", ["a"], 3], {}),
    "log_text": (["t", ["a"], 3], {}),
    "log_histogram": (["h", ["x", "y"]], {}),
    "log_artifact": (["/no/such/file"], {}),
    "alert": (["loss", "it is NaN", "WARNING"], {}),
    "update_agg_funcs": ([3], {}),
    "agg_and_log_metrics": ([3, 1], {}),
    "watch": (["no model"], {}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_no_verb_raises_and_each_warns_once(run, delivered, case):
    verb = getattr(run, case.split()[0])
    args, kwargs = BROKEN[case]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            verb(*args, **kwargs)
            run.agg_and_log_metrics({"fine": 1.0}, 1)
            run.agg_and_log_metrics({"fine": 1.0}, 2)
    assert [str(each.message) for each in caught if each.filename != __file__] == []
    messages = [str(each.message) for each in caught]
    assert len(messages) == 1, messages
    assert case.split()[0] in messages[0] or "metric" in messages[0]
    run.log_metrics({"after": 1.0})
    assert {"after": 1.0} in [call["metrics"] for call in delivered("log_metrics")]


@pytest.mark.parametrize("captions", [["one"], ["one", "two", "three"]])
def test_a_wrong_number_of_captions_keeps_the_images(run, delivered, captions):
    with pytest.warns(match=f"2 items were logged with {len(captions)} captions") as caught:
        run.log_image("i", [np.zeros((2, 2)), np.ones((2, 2))], caption=captions)
    assert [each.filename for each in caught] == [__file__]
    (call,) = delivered("log_image")
    assert len(call["images"]) == 2
    assert call["caption"][0] == "one"


def test_the_other_numbers_of_a_row_are_kept(run, delivered):
    with pytest.warns(match="'name'.*is not a single number but str"), pytest.warns(match="'none' was None"):
        run.log_metrics({"loss": 1.0, "name": "resnet", "none": None, "big": 10**30}, 3)
    (call,) = delivered("log_metrics")
    assert call["metrics"] == {"loss": 1.0, "big": 10**30}
    (call,) = delivered("log_text")
    assert (call["key"], call["data"], call["step"]) == ("name", [["resnet"]], 3)


@pytest.mark.parametrize("step", ["three", float("nan"), None, [1]])
def test_an_invalid_step_does_not_raise(run, step):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.log_metrics({"loss": 1.0}, step)
        run.log_text("t", "x", step=step)


def test_statuses_may_be_anything(run, delivered):
    class Odd:
        def __str__(self):
            return "odd"

    run.finalize(Odd())
    assert [call["status"] for call in delivered("finalize")] == ["odd"]


# Endings


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "success"), (ValueError("x"), "failed"), (KeyboardInterrupt(), "aborted"),
        (SystemExit(0), "success"), (SystemExit(2), "failed"),
    ],
    ids=lambda each: getattr(type(each), "__name__", each),
)  # fmt: skip
def test_a_with_block_sets_the_status(begin, tracker, error, status):
    def work():
        with begin() as run:
            run.log_metrics({"loss": 1.0})
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            work()
    else:
        work()
    assert [call["status"] for call in calls(tracker, "finalize")] == [status]


def test_a_run_keeps_the_exception_that_ended_it(begin):
    def work(**options):
        with begin(**options) as run:
            raise MemoryError("no memory\nat all" + "!" * 9999)
        return run

    with pytest.raises(MemoryError):
        work(run_id="big")
    run = begin(run_id="big")
    assert rankzero.read_run(run.dir).error == ""
    with pytest.raises(MemoryError), run:
        raise MemoryError("no memory\nat all" + "!" * 9999)
    error = rankzero.read_run(run.dir).error
    assert error.startswith("MemoryError: no memory\nat all!!!")
    assert len(error) == 2000


def test_finalize_notes_a_status_and_finish_ends_with_it(run, tracker):
    run.finalize("failed")
    run.log_metrics({"loss": 1.0})
    assert run.flush(A_WHILE)
    assert [type(event) for event in events(run)] == [Start, Status, Metrics]
    assert calls(tracker, "finalize") == []
    run.finish()
    assert [call["status"] for call in calls(tracker, "finalize")] == ["failed"]


@pytest.mark.parametrize("end", ["finish", "close"])
def test_a_run_ends_once(run, tracker, end):
    getattr(run, end)()
    run.finish("failed")
    run.close()
    assert [event.status for event in events(run, Finish)] == ["success"]
    assert len(calls(tracker, "finalize", "close")) == 2


def test_data_logged_after_finish_is_kept_with_a_warning(run, tracker):
    run.finish()
    with pytest.warns(match="finished; what is logged now is kept .* rankzero sync") as caught:
        run.log_metrics({"late": 1.0}, 0)
    assert [each.filename for each in caught] == [__file__]
    run.log_metrics({"late": 1.0}, 1)  # said once
    run.log_metrics({"late": 1.0}, 2)
    assert [event.step for event in events(run, Metrics)] == [0, 1, 2]
    assert rows(tracker) == []


def test_flush_waits_for_the_tracker(run, tracker):
    fail(tracker, "log_metrics", "slow", seconds=0.2)
    run.log_metrics({"loss": 1.0})
    assert not run.flush(0.05)
    assert run.flush(A_WHILE)
    assert len(rows(tracker)) == 1


class Viewed(FileLogger):
    def how_to_view(self):
        return "open tracker.html"


class ViewedElsewhere(FileLogger):
    def how_to_view(self):
        return "https://tracker/runs/1"


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [
        ({"status": 30}, r"the first argument is the status; write run\.finish\(timeout=30\)", "failed"),
        ({"status": np.float32(0.5)}, "the first argument is the status", "failed"),
        ({"status": True}, "takes a status as text, not bool; the run ends with the status 'failed'", "failed"),
        ({"status": "sucess"}, "do not know this status.* Did you mean 'success'", "sucess"),
        ({"timeout": "x"}, r"run\.finish\(\) takes a timeout in seconds, not str; it waits 60 seconds", "failed"),
        ({"status": "success", "timeout": float("nan")}, "takes a timeout in seconds", "success"),
        ({"status": "aborted", "timeout": float("inf")}, None, "aborted"),
        ({"timeout": -1}, None, "failed"),
    ],
)
def test_a_wrong_call_of_finish_ends_the_run_all_the_same(run, arguments, says, status):
    run.finalize("failed")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.finish(**arguments)
    assert [event.status for event in events(run, Finish)] == [status]
    assert len(caught) == (says is not None)
    assert all(re.search(says, str(each.message)) and each.filename == __file__ for each in caught)


def test_a_number_in_the_place_of_the_status_is_the_timeout(begin, tracker):
    fail(tracker, "log_metrics", "hang")
    run = begin()
    run.log_metrics({"loss": 1.0})
    began = time.monotonic()
    with pytest.warns(match="the first argument is the status"):
        run.finish(0.1)
    assert time.monotonic() - began < SOON


class Unspeakable:
    def __str__(self):
        raise RuntimeError("no words")


def test_a_wrong_call_of_flush_or_finalize_causes_a_warning(run, tracker):
    run.log_metrics({"loss": 1.0})
    with pytest.warns(match=r"run\.flush\(\) takes a timeout in seconds, not str"):
        assert run.flush("x")
    with pytest.warns(match="the status is not a text"):
        run.finalize(Unspeakable())
    run.finish()
    assert [call["status"] for call in calls(tracker, "finalize")] == ["success"]


def test_finish_prints_how_to_view_the_run(tmp_path, caplog):
    loggers = [Viewed(tmp_path / "1"), FileLogger(tmp_path / "2"), ViewedElsewhere(tmp_path / "3")]
    with caplog.at_level("INFO", "rankzero"):
        run = rankzero.start(loggers, dir=tmp_path / "runs", delivery="thread")
        run.log_metrics({"loss": 1.0})
        run.finish()
        run.finish()
    assert caplog.messages[1:] == [
        f"view it in {run.loggers[0]}: open tracker.html",
        f"view it in {run.loggers[2]}: https://tracker/runs/1",
    ]


def test_save_does_nothing(run):
    run.save()
    assert len(events(run)) == 1


def test_several_runs_at_once(begin, tmp_path):
    runs = [begin(project=f"p{index}", name=f"run {index}") for index in range(3)]
    for step in range(5):
        for index, run in enumerate(runs):
            run.log_metrics({"index": index}, step)
    for run in runs:
        run.finish()
    for index, run in enumerate(runs):
        assert [(event.step, event.values) for event in events(run, Metrics)] == [
            (step, {"index": index}) for step in range(5)
        ]


def test_several_runs_one_after_another(begin):
    directories = set()
    for _ in range(3):
        with begin() as run:
            run.log_metrics({"loss": 1.0})
            directories.add(run.dir)
        assert [event.step for event in events(run, Metrics)] == [0]
    assert len(directories) == 3


# Resuming


def test_a_resumed_run_continues_where_it_was(begin, tracker):
    first = begin(run_id="r1", name="first name", group="folds", parent=begin(run_id="sweep-1"))
    first.log_metrics({"loss": 1.0}, 41)
    first.finish("failed")
    again = begin(run_id="r1", name="second name")
    again.log_metrics({"loss": 2.0})
    again.finish()
    assert (first.resumed, again.resumed) == (False, True)
    assert (again.dir, again.name) == (first.dir, "first name")
    assert [(event.run.group, event.run.parent) for event in events(again, Start)] == [("folds", "sweep-1")] * 2
    kinds = [type(event) for event in events(again)]
    assert kinds == [Start, Metrics, Finish, Start, Metrics, Finish]
    assert [event.step for event in events(again, Metrics)] == [41, 42]
    assert rows(tracker) == [(41, {"loss": 1.0}), (42, {"loss": 2.0})]
    assert [call["status"] for call in calls(tracker, "finalize")] == ["failed", "success"]
    assert load_position(again.dir, again.loggers[0]).closed


def test_resuming_cuts_a_torn_last_line(begin, caplog):
    first = begin(run_id="r1")
    first.log_metrics({"loss": 1.0}, 3)
    first.finish()
    with open(first.dir / JOURNAL, "a") as file:
        file.write('{"type":"metrics","ti')
    again = begin(run_id="r1")
    assert again.step == 3
    again.log_metrics({"loss": 2.0})
    again.finish()
    assert [event.step for event in events(again, Metrics)] == [3, 4]
    assert "damaged" not in caplog.text


def test_a_run_is_rewound_to_the_step_of_the_checkpoint(begin):
    first = begin(run_id="r1", resume_step=3, delivery="off")  # a new run has nothing to leave out
    for step in range(6):
        first.log_metrics({"loss": step}, step)
    first.agg_and_log_metrics({"loss": 6}, 6)
    first.rewind(6)
    assert first.step == 6
    assert events(first, Rewind) == []
    first.rewind(3)
    first.log_metrics({"loss": 40})
    first.finish()
    begin(run_id="r1", resume_step=2, delivery="off").finish()
    resumed = begin(run_id="r1", delivery="off")
    assert resumed.step == 2
    resumed.finish()
    assert [event.step for event in events(resumed, Rewind)] == [3, 2]
    assert rankzero.read_run(resumed.dir).metrics["loss"].value.tolist() == [0, 1, 2]


def test_a_rewind_looks_at_all_steps_not_at_the_last_one(begin):
    first = begin(run_id="r1", delivery="off")
    for step in range(6):
        first.log_metrics({"loss": step}, step)
    first.log_metrics({"val/loss": 1.0}, 2)
    first.log_hyperparams({"an option": "rewind"})  # as in the options of loggers
    first.finish()
    for _ in range(2):
        begin(run_id="r1", resume_step=3, delivery="off").finish()
    assert [event.step for event in events(first, Rewind)] == [3]
    assert rankzero.read_run(first.dir).metrics["loss"].step.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("step", [None, "three", 2.5, float("nan")])
def test_a_rewind_to_an_invalid_step_warns(begin, step):
    run = begin()
    run.log_metrics({"loss": 1.0}, 4)
    with pytest.warns(UserWarning, match="whole number"):
        run.rewind(step)
    assert run.step == 4
    assert events(run, Rewind) == []


def test_other_ranks_do_not_rewind(begin, monkeypatch):
    run = begin(run_id="r1")
    run.log_metrics({"loss": 1.0}, 4)
    run.finish()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("RANK", "1")
        begin(run_id="r1", resume_step=1).rewind(0)
    assert events(run, Rewind) == []


@pytest.mark.parametrize("check", [rankzero.start, rankzero.run.start.check])
def test_resume_step_is_checked_at_the_start(check):
    for step in ("40", -2):
        with pytest.raises(ConfigError, match=f"'resume_step' must be a whole number, at least -1, not {step!r}"):
            check("csv", run_id="r1", resume_step=step)
    with pytest.raises(ConfigError, match="give its run_id"):
        check("csv", resume_step=40)


def test_resume_must_and_never(begin):
    with pytest.raises(RunNotFoundError, match="no run 'r1'"):
        begin(run_id="r1", resume="must")
    begin(run_id="r1", resume="never").finish()
    begin(run_id="r1", resume="must").finish()
    with pytest.raises(ConfigError, match='resume="never"'):
        begin(run_id="r1", resume="never")


def test_a_run_that_is_open_cannot_be_opened_again(begin):
    begin(run_id="r1")
    with pytest.raises(RunInUseError):
        begin(run_id="r1")


# Starting


def test_a_disabled_run_writes_no_file(begin, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKZERO_DISABLED", "1")
    with begin(config={"lr": 1}) as run:
        run.log_metrics({"loss": 1.0})
        run.log_image("i", ["/no/such/file"])
        run.finalize("success")
        assert run.flush()
        run.experiment.anything(1)
    assert run.id
    assert not (tmp_path / "runs").exists()


def test_git_ignores_a_directory_that_was_made_for_runs_and_only_that(begin, tmp_path):
    (tmp_path / "mine").mkdir()
    begin(dir=tmp_path / "mine")
    begin(dir=tmp_path / "made" / "below")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob(".gitignore")] == [Path("made/below/.gitignore")]
    assert (tmp_path / "made" / "below" / ".gitignore").read_text() == "*\n"


def test_a_directory_that_cannot_be_written_is_refused_at_once(begin, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written.*dir="):
        begin(dir=tmp_path / "file" / "runs")


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_a_directory_of_a_logger_that_cannot_be_written_is_refused_at_once(tmp_path, logger):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=rf"^start\(\).*save_dir='{tmp_path}/file/logs' cannot be written: Not a dir"):
        rankzero.start(logger, save_dir=tmp_path / "file" / "logs", dir=tmp_path)


def test_repr(run):
    assert repr(run) == f"<rankzero.Run {run.name} ({run.id}) in {run.dir}>"


def test_the_runs_own_facts(begin, tmp_path):
    run = begin(project="digits", name="first", group="g", tags=["a"], notes="n", config={"lr": 1})
    assert (run.project, run.name, run.version) == ("digits", "first", run.id)
    assert run.dir == tmp_path / "runs" / "digits" / run.id
    assert (run.log_dir, run.save_dir, run.root_dir) == (str(run.dir), str(run.dir), str(run.dir.parent))
    (start,) = events(run, Start)
    assert (start.run.group, start.run.tags, start.run.notes, start.pid) == ("g", ("a",), "n", os.getpid())
    assert raw(run)[0]["values"] == {"lr": 1}


def test_the_live_object_of_a_thread(run, tracker):
    assert run.experiment == tracker


# Filters


class Redact:
    """Drops a key and hides a text; a filter that knows only metrics drops everything else."""

    @staticmethod
    @rankzero.hookimpl
    def rankzero_event_filter(run):
        def only_metrics(event):
            if not isinstance(event, Metrics) or "secret" in event.values:
                return None
            return event

        return only_metrics


@pytest.fixture
def redacted():
    get_plugins().manager.register(Redact)
    yield
    get_plugins().manager.unregister(Redact)


def test_a_filter_cannot_keep_a_run_from_ending(redacted, begin, tracker):
    run = begin()
    run.log_metrics({"loss": 1.0})
    run.log_metrics({"secret": 1.0})
    run.log_text("t", "x")
    run.finalize("failed")
    run.finish()
    assert [type(event) for event in events(run)] == [Start, Metrics, Status, Finish]
    assert [call["status"] for call in calls(tracker, "finalize")] == ["failed"]


def test_a_pickled_run_filters_too(redacted, begin):
    run = pickle.loads(pickle.dumps(begin()))
    run.log_metrics({"secret": 1.0})
    run.log_metrics({"loss": 1.0})
    assert [event.values for event in events(run, Metrics)] == [{"loss": 1.0}]


# Other processes


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_child_processes_log_to_the_same_run(begin, method):
    run = begin(delivery="off")
    context = multiprocessing.get_context(method)
    children = [context.Process(target=log_fifty, args=(run, 100 * child)) for child in (1, 2)]
    run.agg_and_log_metrics({"parent": 0.0}, 0)
    for child in children:
        child.start()
    for step in range(1, 50):
        run.log_metrics({"parent": 1.0}, step)
    for child in children:
        child.join(A_WHILE)
        assert child.exitcode == 0
    run.log_metrics({"parent": 1.0}, 50)
    run.finish()
    logged = sorted(event.step for event in events(run, Metrics))
    assert logged == [*range(51), *range(100, 150), *range(200, 250)]
    assert [event.status for event in events(run, Finish)] == ["success"]


def test_dataloader_workers_log(begin):
    data = pytest.importorskip("torch.utils.data")
    run = begin(delivery="off")

    class Dataset(data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            run.log_metrics({"index": index}, index)
            return index

    for _ in data.DataLoader(Dataset(), num_workers=2, multiprocessing_context="fork"):
        run.log_metrics({"parent": 1.0}, 100)
    run.finish()
    assert sorted(event.step for event in events(run, Metrics)) == [*range(20), *[100] * 20]
    assert len(events(run, Finish)) == 1


def test_a_run_unpickled_without_its_directory_warns(begin, tmp_path):
    run = begin()
    state = pickle.dumps(run)
    run.finish()
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    with pytest.warns(match="cannot be logged to from here"):
        stranger = pickle.loads(state)
    stranger.log_metrics({"loss": 1.0})
    assert not (tmp_path / "runs").exists()


# Lightning's logger interface


def test_a_run_has_the_attributes_of_a_lightning_logger(run):
    for name in ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint", "close"):
        assert callable(getattr(run, name))
    for name in ("name", "version", "save_dir", "log_dir", "root_dir", "experiment", "group_separator"):
        assert getattr(run, name)
    with pytest.raises(TypeError):
        iter(run)  # a Trainer takes what is iterable for several loggers
    assert not hasattr(run, "__getitem__")


def test_one_alias_or_tag_may_be_given_without_a_list(run, tmp_path):
    path = tmp_path / "last.pt"
    path.write_text("weights")
    run.log_checkpoint(path, aliases="latest")
    run.log_artifact(path, aliases="new")
    assert [event.aliases for event in events(run, Checkpoint)] == [["latest"]]
    assert [event.aliases for event in events(run, Artifact)] == [["new"]]


@pytest.mark.parametrize(("step", "recorded"), [(17.9, 17), ("abc", 0), (float("nan"), 0)])
def test_a_step_that_is_not_a_whole_number_causes_a_warning(run, step, recorded):
    with pytest.warns(UserWarning, match="not a whole number"):
        run.log_metrics({"loss": 1.0}, step)
    assert [row.step for row in events(run, Metrics)] == [recorded]


@pytest.mark.parametrize("epoch", [0.06, np.float32(2.5)])
def test_an_epoch_that_is_not_a_whole_number_is_left_out_with_a_warning(run, epoch):
    with pytest.warns(UserWarning, match="epoch .* is not a whole number"):
        run.log_metrics({"loss": 1.0}, 1, epoch=epoch)
    run.log_metrics({"loss": 1.0}, 2, epoch=3.0)
    assert [(row.step, row.epoch) for row in events(run, Metrics)] == [(1, None), (2, 3)]


def test_a_trial_that_is_pruned_is_aborted_and_not_failed(begin):
    class TrialPruned(Exception):  # as Optuna's is called
        pass

    with pytest.raises(TrialPruned), begin() as run:
        raise TrialPruned
    assert [event.status for event in events(run, Finish)] == ["aborted"]


def test_metrics_that_are_not_a_mapping_cause_a_warning(run):
    with pytest.warns(UserWarning, match="mapping from name to number, not list"):
        run.log_metrics([1, 2])


@pytest.mark.parametrize("config", [5, [1]])
def test_hyperparameters_that_are_not_a_mapping_raise_at_start(begin, config):
    with pytest.raises(ConfigError, match="mapping of hyperparameters"):
        begin(config=config)


class _MisnamedMetrics(FileLogger):
    def log_metrics(self, values, step=None):
        pass


class _NoParams(FileLogger):
    def log_hyperparams(self):
        pass


@pytest.mark.parametrize(("kind", "verb"), [(_MisnamedMetrics, "log_metrics"), (_NoParams, "log_hyperparams")])
def test_a_logger_whose_verbs_cannot_be_called_is_refused_at_start(tmp_path, kind, verb):
    with pytest.raises(ConfigError, match=rf"{verb} cannot be called.*Write it as {verb}\(self, "):
        rankzero.start([kind(tmp_path)], dir=tmp_path)


@pytest.mark.parametrize("verb", sorted(VERBS & set(dir(rankzero.Run))))
def test_the_verbs_of_a_run_are_those_of_a_logger(verb):
    """What one takes by position or name, so does the other; a Run may take more."""

    def names(kind):
        parameters = inspect.signature(getattr(kind, verb)).parameters.values()
        return [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"]

    assert names(rankzero.Run)[: len(names(rankzero.Logger))] == names(rankzero.Logger)


# Trouble on the disk


def test_a_working_directory_that_was_deleted(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with rankzero.start("csv", dir=tmp_path, delivery="off") as run:
        run.log_metrics({"a": 1.0})
    assert [row.values for row in events(run, Metrics)] == [{"a": 1.0}]


def test_a_stale_file_handle_and_a_closed_stderr_do_not_raise_at_the_end_of_a_run(begin, monkeypatch):
    run = begin()
    run.log_metrics({"a": 1.0})
    stderr = io.StringIO()
    stderr.close()
    real = os.fstat

    def fstat(fd):
        if fd == run._writer.journal.fd:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        patch.setattr(sys, "stderr", stderr)
        patch.setattr("rankzero.delivery.waiting_progress._LOG_AFTER", 0.0)
        run.flush(5)
        run.finish(timeout=5)
    assert writer_state(run.dir) is Writer.DEAD
    assert load_position(run.dir, "file").closed


def test_a_closed_stream_makes_no_message_raise(monkeypatch):
    log = logging.getLogger("rankzero")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    _show_messages()
    stderr.close()
    log.warning("nobody sees this")


@pytest.mark.parametrize("damage", ["unreadable position", "no descriptors", "no directory"])
def test_errors_in_the_files_of_delivery_lose_no_row(tmp_path, monkeypatch, damage):
    run = rankzero.start([FileLogger(tmp_path / "tracker")], dir=tmp_path)
    (tmp_path / "aside").mkdir()

    def refuse(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        if damage == "unreadable position":
            patch.setattr("rankzero.rundir.positions.read_own", refuse)
        elif damage == "no descriptors":
            patch.setattr("rankzero.delivery.supervisor.Supervisor.report_troubles", refuse)
        else:
            os.rename(run.dir, tmp_path / "aside" / run.id)
        run._next_tick = 0.0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run.log_metrics({"a": 1.0}, 3)
            if damage == "no directory":
                run.finish(timeout=0)
    assert [("Too many open files" in str(each.message)) for each in caught] == [True] * (damage == "no descriptors")
    run.finish(timeout=5)
    directory = tmp_path / "aside" / run.id if damage == "no directory" else run.dir
    rows = [event.numbers() for _, event in read_events(directory / JOURNAL) if isinstance(event, Metrics)]
    assert rows == [{"a": 1.0}]

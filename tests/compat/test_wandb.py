"""rankzero.compat.wandb: the calls of wandb log to a run, which delivers the same data to W&B."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from integrations.reading import only_run, points
from PIL import Image as Picture
from plugins.wandb.arrived import files_of
from servers.event_files import scalars
from servers.wandb_server import WandbServer
from waiting import A_WHILE

import rankzero
import rankzero.compat.wandb as wandb
from rankzero.errors import ConfigError, RunNotFoundError

SCRIPTS = Path(__file__).parent / "scripts"
PIXELS = (np.arange(72).reshape(4, 6, 3) * 3).astype(np.uint8)


@pytest.fixture(autouse=True)
def here(undelivered, monkeypatch):
    """Log in an empty directory, without W&B's variables, and end the runs of a test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    yield
    wandb.finish()


@pytest.fixture
def said(monkeypatch):
    """Warnings for users."""
    messages = []
    monkeypatch.setattr("rankzero.messages.warn_user", messages.append)
    monkeypatch.setattr("rankzero.compat.wandb.warn_user", messages.append)
    monkeypatch.setattr("rankzero.compat.wandb.runs.warn_user", messages.append)
    return messages


def ended(run):
    """End a run and read it."""
    run.finish()
    return rankzero.read_run(run.rankzero_run.dir)


def logged(log, **settings):
    """Return what a run has after ``log(run)``."""
    run = wandb.init(**settings)
    log(run)
    return ended(run)


def pixels(file):
    with Picture.open(file) as picture:
        return picture.mode, np.asarray(picture).tolist()


def texts(data):
    return {key: [(each.step, each.data) for each in found] for key, found in data.texts.items()}


# Steps


def test_steps_are_those_of_wandb_and_nothing_is_dropped():
    def log(run):
        run.log({"a": 0})
        run.log({"a": 1}, commit=False)
        run.log({"b": 1})
        run.log({"a": 5}, step=5)
        run.log({"b": 5})
        run.log({"a": 7}, step=np.int64(7), commit=True)
        run.log({"a": 8})
        run.log({"late": 2}, step=2)
        assert run.step == 9

    steps = {key: [step for step, _ in found] for key, found in points(logged(log)).items()}
    assert steps == {"a": [0, 1, 5, 7, 8], "b": [1, 5], "late": [2]}


def test_wrong_steps_and_arguments_are_warnings(said):
    def log(run):
        for number in range(2):
            run.log({"a": number}, step="5")
            run.log({"b": number}, stepp=7)

    assert points(logged(log)) == {"a": [(0, 0.0), (2, 1.0)], "b": [(1, 0.0), (3, 1.0)]}
    assert said == [
        "log(step='5'): this is not a number, so the values get the next step",
        "log() has no argument 'stepp'. Did you mean 'step'?",
    ]


def test_the_x_axis_of_all_metrics_has_the_steps():
    def log(run):
        run.define_metric("train/global_step")
        run.define_metric("*", step_metric="train/global_step", step_sync=True)
        run.log({"train/loss": 0.5, "train/global_step": 10})
        run.log({"text": "between"})
        run.log({"train/loss": 0.4, "train/global_step": 20})
        run.log({"mine": 1.0}, step=3)

    data = logged(log)
    assert points(data)["train/loss"] == [(10, 0.5), (20, 0.4)]
    assert points(data)["mine"] == [(3, 1.0)]
    assert texts(data) == {"text": [(10, [["between"]])]}


def test_a_run_continues_after_its_last_step():
    ended(wandb.init(id="r").__enter__())
    first = wandb.init(id="again")
    first.log({"a": 1.0})
    first.finish()
    second = wandb.init(id="again", resume="must")
    assert (second.resumed, second.step, second.id) == (True, 1, "again")
    second.log({"a": 2.0})
    assert points(ended(second)) == {"a": [(0, 1.0), (1, 2.0)]}
    with pytest.raises(RunNotFoundError):
        wandb.init(id="other", resume="must")


def test_a_moment_of_a_run_is_forked_or_resumed_from():
    first = wandb.init(id="first", config={"lr": 0.1})
    for value in range(4):
        first.log({"a": value})
    first.finish()
    fork = wandb.init(id="fork", fork_from="first?_step=1")
    fork.log({"a": 10})
    assert points(data := ended(fork)) == {"a": [(0, 0), (1, 1), (2, 10)]}
    assert data.params == {"lr": 0.1, "forked_from": {"run": "first", "step": 1}}
    again = wandb.init(resume_from="first?_step=2")
    again.log({"a": 20})
    assert points(ended(again)) == {"a": [(0, 0), (1, 1), (2, 2), (3, 20)]}
    with pytest.raises(RunNotFoundError):
        wandb.init(resume_from="other?_step=2")
    with pytest.raises(wandb.UsageError, match="'first' is not a step of a run"):
        wandb.init(fork_from="first")


# Values


def test_numbers_texts_and_nested_values():
    def log(run):
        run.log({"n": {"a": 1, "b": {"c": torch.tensor(2.5, requires_grad=True)}}, "on": True, "none": None, "t": "x"})
        run.log({"list": [1, 2], "few": np.arange(2.0), "many": torch.arange(100.0)})

    data = logged(log)
    assert points(data) == {"n.a": [(0, 1.0)], "n.b.c": [(0, 2.5)], "on": [(0, 1.0)]}
    assert texts(data) == {"t": [(0, [["x"]])], "list": [(1, [[[1, 2]]])], "few": [(1, [[[0.0, 1.0]]])]}
    assert len(data.histograms["many"][0].values.counts) == 32


def test_images():
    def log(run):
        changed = PIXELS.copy()
        images = [wandb.Image(changed, caption="array"), wandb.Image(Picture.fromarray(PIXELS))]
        changed[:] = 0
        run.log({"list": images}, step=3)
        run.log({"tensor": wandb.Image(torch.tensor(PIXELS).permute(2, 0, 1)), "gray": wandb.Image(PIXELS, mode="L")})
        mask = {"m": {"mask_data": np.zeros((4, 6), np.uint8), "class_labels": {0: "sky"}}}
        classes = wandb.Classes([{"id": 0, "name": "sky"}])
        run.log({"marked": wandb.Image(PIXELS, masks=mask, classes=classes)})

    data = logged(log)
    assert [(each.step, each.caption) for each in data.media["list"]] == [(3, "array"), (3, None)]
    for key in ("list", "tensor", "marked"):
        assert all(pixels(each.path) == ("RGB", PIXELS.tolist()) for each in data.media[key])
    assert pixels(data.media["gray"][0].path)[0] == "L"
    journal = (Path(data.info.dir) / "journal.jsonl").read_text()
    assert '"class_labels":{"0":"sky"}' in journal
    assert '"classes":[[{"id":0,"name":"sky"}]]' in journal


def test_lists_with_media_and_others(said):
    def log(run):
        for _ in range(2):
            run.log({"some": [wandb.Image(PIXELS), None], "mixed": [1, wandb.Image(PIXELS), "text"]})
        run.log({"table": wandb.Table(["images"], [[[wandb.Image(PIXELS), None, wandb.Image(PIXELS)]]])})

    data = logged(log)
    assert {key: len(found) for key, found in data.media.items()} == {"some": 2, "mixed": 2}
    assert data.texts == {}
    assert said == ["the list 'mixed' was logged without items that are not media: int, str"]
    columns, ((first, second, third),) = data.tables["table"][0].read()
    assert columns == ["images", "images 2", "images 3"]
    assert np.array_equal(np.asarray(first), PIXELS) and np.array_equal(np.asarray(third), PIXELS)  # noqa: PT018
    assert second is None


def test_other_media():
    plt = pytest.importorskip("matplotlib.figure")
    figure = plt.Figure()

    def log(run):
        run.log({"sound": wandb.Audio(np.zeros(800), sample_rate=8000, caption="beep")})
        run.log({"films": wandb.Video(np.zeros((2, 3, 3, 8, 8), np.uint8), fps=2), "plot": figure})
        run.log({"page": wandb.Html("<b>hi</b>"), "drawn": wandb.Plotly(figure)})
        scene = {"type": "lidar/beta", "points": np.zeros((4, 3)), "boxes": np.ones((1, 8, 3))}
        run.log({"cloud": wandb.Object3D(np.ones((4, 6))), "scene": wandb.Object3D(scene)})
        Path("shape.obj").write_text("v 0 0 0")
        run.log({"shape": wandb.Object3D("shape.obj")})
        run.log({"counts": [wandb.Histogram([1, 2, 2], num_bins=2), wandb.Histogram(np_histogram=([1, 4], [0, 1, 2]))]})
        run.log({"mixed": [wandb.Image(PIXELS), wandb.Audio(np.zeros(80), sample_rate=80)]})

    data = logged(log)
    sizes = {key: len(found) for key, found in data.media.items()}
    assert sizes == {
        "sound": 1, "films": 2, "plot": 1, "page": 1, "drawn": 1, "cloud": 1, "scene": 1, "mixed": 2
    }  # fmt: skip
    assert Path(data.media["page"][0].path).read_text() == "<b>hi</b>"
    assert [each.values.counts for each in data.histograms["counts"]] == [[1, 2], [1, 4]]
    (shape,) = data.artifacts
    assert (shape.name, shape.metadata["step"], Path(shape.path).read_text()) == ("shape", 4, "v 0 0 0")


def test_tables():
    pd = pytest.importorskip("pandas")

    def log(run):
        table = wandb.Table(columns=["n", "image"])
        table.add_data(1, wandb.Image(PIXELS))
        table.add_column("list", [[wandb.Image(PIXELS), wandb.Image(PIXELS)]])
        run.log({"table": table, "frame": pd.DataFrame({"q": [1.5]})})
        growing = wandb.Table(columns=["n"], data=[[1]], log_mode="INCREMENTAL")
        run.log({"growing": growing})
        growing.add_data(2)
        run.log({"growing": growing, "chart": wandb.plot.line(growing, "n", "n", title="t")})
        with pytest.raises(ValueError, match="1 columns"):
            growing.add_data(1, 2)
        assert growing.get_column("n", convert_to="numpy").tolist() == growing.get_dataframe()["n"].tolist() == [1, 2]

    data = logged(log)
    columns, ((number, *images),) = data.tables["table"][0].read()
    assert (columns, number) == (["n", "image", "list", "list 2"], 1)
    assert all(np.array_equal(np.asarray(image), PIXELS) for image in images)
    assert data.tables["frame"][0].read() == (["q"], [[1.5]])
    assert [table.read()[1] for table in data.tables["growing"]] == [[[1]], [[2]]]


def test_tables_can_be_read_and_computed():
    table = wandb.Table(columns=["x", "y"], data=[[3, 1], [4, 6]])
    table.add_computed_columns(lambda number, row: {"sum": row["x"] + row["y"], "number": number})
    assert table.columns == ["x", "y", "sum", "number"]
    assert list(table.iterrows()) == [(0, [3, 1, 4, 0]), (1, [4, 6, 10, 1])]
    assert wandb.plot_table("spec", table, {"x": "x"}) is wandb.plot.plot_table("spec", data_table=table) is table


SCORES = np.random.default_rng(0).dirichlet(np.ones(3), size=40).round(1)  # rounded, so that some are equal
TRUE = np.random.default_rng(1).integers(0, 3, size=40)


@pytest.mark.parametrize(
    ("chart", "arguments"),
    [
        ("confusion_matrix", {"probs": SCORES, "y_true": TRUE, "class_names": ["a", "b", "c"]}),
        ("confusion_matrix", {"preds": [5, 7, 5], "y_true": [5, 5, 9]}),
        ("line_series", {"xs": [0, 1], "ys": np.array([[1, 2], [3, 4]])}),
        ("line_series", {"xs": [[0, 1], [5, 6]], "ys": [[1, 2], [3, 4]], "keys": ["up", "down"]}),
        ("pr_curve", {"y_true": TRUE, "y_probas": SCORES, "labels": ["a", "b", "c"]}),
        ("pr_curve", {"y_true": TRUE, "y_probas": SCORES, "classes_to_plot": [0, 2], "interp_size": 5}),
    ],
)
def test_charts_have_the_tables_of_wandb(chart, arguments):
    theirs = getattr(importlib.import_module("wandb.plot"), chart)(**arguments).table
    ours = getattr(wandb.plot, chart)(**arguments)
    data = logged(lambda run: run.log({"chart": ours}))
    assert data.tables["chart"][0].read() == (theirs.columns, theirs.data)


def test_roc_curves_have_the_points_of_wandb_and_those_between():
    theirs = importlib.import_module("wandb.plot").roc_curve(TRUE, SCORES, ["a", "b", "c"]).table
    ours = wandb.plot.roc_curve(torch.tensor(TRUE), torch.tensor(SCORES), ["a", "b", "c"])
    assert ours.columns == theirs.columns
    assert {tuple(row) for row in theirs.data} <= {tuple(row) for row in ours.data}
    one_class = wandb.plot.roc_curve([1, 1], [[0.5, 0.5], [0.2, 0.8]], ["a", "b"])
    assert one_class.data == [["b", 0.0, 0.0], ["b", 0.0, 0.5], ["b", 0.0, 1.0]]
    many = np.arange(30_000)
    assert len(wandb.plot.roc_curve(many % 2, np.stack([many, -many], 1)).data) <= 10_000


def test_wrong_charts_are_refused():
    with pytest.raises(ValueError, match="either probs or preds"):
        wandb.plot.confusion_matrix(y_true=[0])
    with pytest.raises(ValueError, match=r"no name for \{2\}"):
        wandb.plot.confusion_matrix(preds=[2], y_true=[0], class_names=["a", "b"])


def test_invalid_data_causes_a_warning(said):
    class Broken:
        def __iter__(self):
            raise RuntimeError("broken")

    data = logged(lambda run: run.log({"bad": wandb.Image("missing.png"), "worse": Broken(), "good": 1.0}))
    assert points(data) == {"good": [(0, 1.0)]}
    assert any("missing.png" in message for message in said)
    with pytest.raises(TypeError, match="a mapping"):
        wandb.init().log(1.0)


@pytest.mark.parametrize("package", ["numpy", "PIL"])
def test_images_without_a_package_are_a_warning(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.warns(UserWarning, match=r"pip install 'rankzero\[media\]'"):
        data = logged(lambda run: run.log({"image": wandb.Image(PIXELS, mode="L"), "a": 1}))
    assert points(data) == {"a": [(0, 1.0)]}


# Config and summary


def test_config():
    def log(run):
        wandb.config.update(argparse.Namespace(epochs=3))
        wandb.config["--batch"] = 8
        wandb.config.setdefaults({"lr": 9, "opt": "adam"})
        assert (run.config.lr, wandb.config["epochs"], wandb.config.get("none", 1)) == (0.1, 3, 1)
        assert "opt" in wandb.config
        with pytest.raises(wandb.ConfigError, match="allow_val_change"):
            wandb.config.lr = 0.2
        with pytest.raises(AttributeError, match="'lrr'"):
            wandb.config.lrr  # noqa: B018
        wandb.config.update({"lr": 0.3}, allow_val_change=True)
        assert dict(wandb.config) == run.config.as_dict()

    data = logged(log, config={"lr": 0.1, "model": {"depth": 3}})
    assert data.params == {"lr": 0.3, "model": {"depth": 3}, "epochs": 3, "batch": 8, "opt": "adam"}


def test_config_files():
    Path("cfg.yaml").write_text("wandb_version: 1\nlr: {desc: null, value: 0.1}\nmodel: {depth: 3}\n")
    assert logged(lambda run: None, config="cfg.yaml").params == {"lr": 0.1, "model": {"depth": 3}}
    Path("config-defaults.yaml").write_text("lr: {value: 9}\nseed: {value: 1}")
    assert logged(lambda run: None, config={"lr": 0.2}).params == {"lr": 0.2, "seed": 1}
    assert logged(lambda run: None, config="").params == {"lr": 9, "seed": 1}


def test_some_keys_of_a_config():
    config = {"a": 1, "b": 2, "c": 3}
    assert logged(lambda run: None, config=config, config_exclude_keys=["a"]).params == {"b": 2, "c": 3}
    assert logged(lambda run: None, config=config, config_include_keys=["a"]).params == {"a": 1}


@pytest.mark.parametrize("config", [5, ["lr"], "missing.yaml", "list.yaml"])
def test_a_wrong_config_begins_no_run(config):
    Path("list.yaml").write_text("[1, 2]")
    with pytest.raises((TypeError, FileNotFoundError, ConfigError), match=r"mapping|missing.yaml|list.yaml"):
        wandb.init(config=config)
    assert (wandb.run, os.listdir()) == (None, ["list.yaml"])


def test_summary():
    def log(run):
        for loss in (0.5, 0.25):
            run.log({"loss": torch.tensor(loss)})
        assert run.summary["loss"] == wandb.summary.loss == 0.25
        run.summary["best"] = 0.9
        run.summary.update({"loss": 0.1, "word": "done", "nested": {"a": 1}})
        assert dict(run.summary) == {"loss": 0.1, "best": 0.9, "word": "done", "nested.a": 1}

    data = logged(log)
    assert points(data) == {
        "loss": [(0, 0.5), (1, 0.25)], "best": [(1, 0.9)], "summary/loss": [(1, 0.1)], "nested.a": [(1, 1.0)]
    }  # fmt: skip
    assert texts(data) == {"word": [(1, [["done"]])]}


# Files


def test_artifacts(said):
    def log(run):
        Path("a.txt").write_text("a")
        Path("folder").mkdir()
        Path("folder/b.txt").write_text("b")
        artifact = wandb.Artifact("data", type="dataset", description="d", metadata={"rows": 2})
        artifact.add_file("a.txt")
        artifact.add_dir("folder", name="inner")
        artifact.add(wandb.Table(columns=["k"], data=[[1]]), "numbers")
        artifact.add(wandb.Image(PIXELS), "image")
        artifact.add(wandb.Classes([{"id": 0, "name": "sky"}]), "kinds")
        artifact.add(wandb.JoinedTable("a", "b", "id"), "joined")
        artifact.add_reference("s3://bucket/file", name="far")
        with artifact.new_file("new.txt", "w") as file:
            file.write("new")
        Path("a.txt").unlink()
        assert run.log_artifact(artifact, aliases=["best"]).wait() is artifact
        assert artifact.version == "latest"
        assert run.link_artifact(artifact, "registry/data") is run.link_artifact(artifact, "again") is None
        run.log_model("folder", name="a-model")
        run.log_artifact("folder/b.txt")
        with pytest.raises(wandb.UsageError, match="not int"):
            artifact.add(1, "number")

    data = logged(log, id="r")
    gathered, model, single = data.artifacts
    assert (gathered.name, gathered.kind, gathered.aliases) == ("data", "dataset", ["best"])
    assert gathered.metadata == {"rows": 2, "description": "d", "references": {"far": "s3://bucket/file"}}
    files = {path.relative_to(gathered.path).as_posix(): path for path in Path(gathered.path).rglob("*.*")}
    assert files.keys() == {"a.txt", "inner/b.txt", "new.txt", "numbers.table.json", "image.png", "kinds.classes.json"}
    assert json.loads(files["numbers.table.json"].read_text()) == {"columns": ["k"], "data": [[1]]}
    assert json.loads(files["kinds.classes.json"].read_text())["class_set"] == [{"id": 0, "name": "sky"}]
    assert said == [
        "rankzero.compat.wandb logs no JoinedTable; log the two tables",
        "rankzero.compat.wandb links no artifacts; log_artifact() logs them, with aliases",
    ]
    assert (model.name, model.kind, single.name) == ("a-model", "model", "run-r-b.txt")
    assert Path(single.path, "b.txt").read_text() == "b"


def test_saved_files():
    def log(run):
        for name in ("now", "live", "end", "same"):
            Path(f"{name}.txt").write_text("first")
        assert sorted(run.save("*e.txt")) == ["live.txt", "same.txt"]
        run.save(os.path.abspath("now.txt"), policy="now")
        run.save("end.txt", policy="end")
        for name in ("now", "live", "end"):
            Path(f"{name}.txt").write_text("second one")
        Path(run.dir, "sub").mkdir()
        Path(run.dir, "sub/mine.txt").write_text("mine")

    kept = sorted((each.name, Path(each.path).read_text()) for each in logged(log).artifacts)
    assert kept == [
        ("end.txt", "second one"), ("live.txt", "first"), ("live.txt", "second one"), ("now.txt", "first"),
        ("same.txt", "first"), ("sub/mine.txt", "mine"),
    ]  # fmt: skip


# Runs


def test_the_name_of_a_run_and_environment_variables(monkeypatch, said):
    for name in ("PROJECT", "NAME", "RUN_GROUP", "NOTES", "RUN_ID"):
        monkeypatch.setenv(f"WANDB_{name}", f"env-{name.lower()}")
    monkeypatch.setenv("WANDB_TAGS", "t,u")
    monkeypatch.setenv("WANDB_DIR", "elsewhere")
    monkeypatch.setenv("RANKZERO_NAME", "rankzero-name")
    run = wandb.init(project="given", settings=wandb.Settings(run_group="set"), entity="team", job_type="train")
    assert (run.project, run.name, run.group, run.id) == ("given", "rankzero-name", "set", "env-run_id")
    assert (run.entity, run.job_type, run.tags, run.notes) == ("team", "train", ("t", "u"), "env-notes")
    assert "WANDB_ENTITY" not in os.environ
    assert (run.path, run.offline, run.sweep_id) == ("team/given/env-run_id", False, None)
    assert 0 < run.start_time <= time.time()
    run.tags += ("more",)
    run.name = "new"
    run.notes = "new notes"
    data = ended(run)
    assert Path(data.info.dir).parts[-4:] == ("elsewhere", "rankzero-runs", "given", "env-run_id")
    assert (data.info.group, data.tags, data.info.notes) == ("set", ["t", "u", "more"], "env-notes")
    assert texts(data) == {"name": [(None, [["new"]])], "notes": [(None, [["new notes"]])]}
    assert any("init(name='new')" in message for message in said)


def test_a_tracker_that_cannot_be_used_does_not_end_a_training(monkeypatch):
    monkeypatch.setenv("RANKZERO_DELIVERY", "process")
    monkeypatch.setenv("RANKZERO_LOGGERS", "wandb")
    monkeypatch.setenv("NETRC", "none")
    with pytest.warns(UserWarning, match="WANDB_API_KEY.*deliver it later with rankzero sync"):
        assert points(logged(lambda run: run.log({"a": 1.0}), project="p")) == {"a": [(0, 1.0)]}


def test_one_run_at_a_time(said):
    first = wandb.init()
    assert wandb.init() is first
    assert "finish() it before" in said.pop()
    true_name, first.name = first.name, "renamed"
    wandb.init()
    assert f"returns the run {true_name}, which" in said.pop()
    beside = wandb.init(reinit="create_new")
    assert wandb.run is first
    beside.finish()
    second = wandb.init(reinit=True)
    assert wandb.run is second is not first
    assert rankzero.read_run(first.rankzero_run.dir).status == "success"


def test_how_a_run_ends():
    with wandb.init() as run:
        pass
    assert wandb.run is None
    assert rankzero.read_run(run.rankzero_run.dir).status == "success"
    with pytest.raises(ZeroDivisionError), wandb.init() as run:
        1 / 0  # noqa: B018
    assert rankzero.read_run(run.rankzero_run.dir).status == "failed"
    wandb.init().rankzero_run.finish()
    assert wandb.run is None
    for code, status in ((0, "success"), (1, "failed"), (255, "aborted")):
        run = wandb.init()
        wandb.finish(exit_code=code)
        assert rankzero.read_run(run.rankzero_run.dir).status == status


def test_a_disabled_run_writes_nothing(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = wandb.init(project="p", config={"lr": 0.1})
    wandb.log({"a": 1.0, "image": wandb.Image(PIXELS)})
    run.summary["b"] = 2
    assert (wandb.config.lr, run.summary["a"], run.project) == (0.1, 1.0, "p")
    assert Path(run.dir).is_dir()
    wandb.finish()
    assert wandb.run is None
    assert os.listdir() == []


def test_other_ranks_write_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with wandb.init(id="r") as run:
        run.log({"a": 1.0, "image": wandb.Image(PIXELS), "text": "t"})
        run.config.lr = 0.1
    assert (run.id, run.summary["a"]) == ("r", 1.0)
    assert os.listdir() == []


def test_offline_is_for_later(monkeypatch):
    monkeypatch.delenv("RANKZERO_DELIVERY")
    run = wandb.init(mode="offline")
    assert run.offline
    assert not list(run.rankzero_run.dir.glob("csv.*"))


def test_modes(monkeypatch, said):
    assert wandb.init(mode="shared").offline is False
    assert said == ["rankzero.compat.wandb.init() takes mode='shared' as 'online': processes cannot share a run"]
    wandb.finish()
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(wandb.UsageError, match=r"no mode 'ofline'. Did you mean 'offline'\?"):
        wandb.init()
    with pytest.raises(wandb.UsageError, match=r"no mode 'disbled'. Did you mean 'disabled'\?"):
        wandb.init(mode="disbled")
    assert wandb.run is None


def test_watch_alert_and_methods_that_do_nothing():
    model = torch.nn.Sequential(torch.nn.Linear(2, 1))

    def log(run):
        wandb.watch(model, log="all", log_freq=1)
        model(torch.ones(1, 2)).sum().backward()
        wandb.unwatch(model)
        wandb.alert("title", "text", level=wandb.AlertLevel.WARN)
        wandb.alert("title", "again")
        wandb.alert("title", "third", wait_duration=0)
        wandb.mark_preempting()
        run.log_code(".")
        assert wandb.login(key="k") is True
        assert wandb.setup() is wandb.require("core") is None

    data = logged(log)
    assert {"gradients/0.weight", "parameters/0.bias"} <= data.histograms.keys()
    assert not model._forward_pre_hooks
    assert [(each.text, each.level) for each in data.alerts] == [("text", "WARN"), ("third", "INFO")]


# Refused calls


def test_before_init():
    assert wandb.run is None
    with pytest.raises(wandb.Error, match=r"call wandb.init\(\) before wandb.log"):
        wandb.log({"a": 1})
    with pytest.raises(AttributeError, match=r"call wandb.init\(\) before wandb.config"):
        wandb.config.lr  # noqa: B018


def test_refusals_name_an_alternative(said):
    for call in (wandb.Api, wandb.sweep, wandb.agent, wandb.restore, wandb.controller, wandb.init().use_artifact):
        with pytest.raises(wandb.UsageError, match=r"does not read from W&B.*rankzero.read_run"):
            call("x")
    with pytest.raises(AttributeError, match=r"no 'Imge'. Did you mean 'Image'\? It covers"):
        wandb.Imge  # noqa: B018
    with pytest.raises(AttributeError, match="Did you mean 'log_model'"):
        wandb.run.log_modl  # noqa: B018
    with pytest.raises(AttributeError, match=r"compat.wandb.Table has no 'get_colum'. Did you mean 'get_column'"):
        wandb.Table().get_colum  # noqa: B018
    with pytest.raises(AttributeError, match=r"compat.wandb.Artifact has no 'download'"):
        wandb.Artifact("a", "t").download  # noqa: B018
    with pytest.raises(AttributeError, match=r"compat.wandb.plot has no 'lines'. Did you mean 'line'"):
        wandb.plot.lines  # noqa: B018
    wandb.finish()
    with pytest.raises(TypeError, match="no argument projct"):
        wandb.init(projct="p")
    wandb.init(sync_tensorboard=True)
    assert said == [
        "rankzero.compat.wandb.init() does nothing for sync_tensorboard; RANKZERO_INTEGRATIONS=tensorboard logs what a "
        "SummaryWriter writes"
    ]


# Replacing the package


def python(code, **variables):
    """Run code or a script in a new process, and return what it prints."""
    environment = {**os.environ, **variables}
    command = [sys.executable, code] if isinstance(code, Path) else [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=A_WHILE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


ABSENT = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: None if name == "wandb" else find(name, path)
"""
IMPORTS = """
import importlib.util, importlib.metadata
assert importlib.util.find_spec("wandb") is not None
version = importlib.metadata.version("wandb")
import wandb
from wandb.sdk.lib.config_util import ConfigError
from wandb.errors import CommError
from wandb.util import generate_id
try:
    import wandb.keras
except ModuleNotFoundError as error:
    print(error)
print(wandb.__name__, wandb.__version__ == version, wandb.ConfigError is ConfigError, wandb.run)
"""
IMPORTED = "rankzero.compat.wandb has no module 'wandb.keras'\nrankzero.compat.wandb True True None\n"


@pytest.mark.parametrize("absent", ["", ABSENT], ids=["installed", "not installed"])
def test_the_environment_puts_it_in_the_place_of_the_package(absent):
    assert python(absent + IMPORTS, RANKZERO_INTEGRATIONS="wandb") == IMPORTED


def test_install_puts_it_there_too_but_not_afterwards():
    install = "import rankzero.compat.wandb as w; w.install(project='mine'); "
    assert python(install + IMPORTS.strip()) == IMPORTED
    python(install + "import wandb; assert wandb.init(project='p', mode='offline').project == 'mine'")
    late = "import wandb, rankzero.compat.wandb as w\ntry: w.install()\nexcept Exception as error: print(error)"
    assert "wandb is imported already" in python(late)


def test_commands_use_the_package():
    code = "from rankzero.cli import app; app.main(['--version'])\nimport wandb; print(wandb.__name__)"
    assert python(code, RANKZERO_INTEGRATIONS="wandb").splitlines()[-1] == "wandb"


def test_loggers_in_the_same_process_do_not_use_it():
    code = (
        "import rankzero.compat.wandb as w; w.install()\n"
        "import rankzero_wandb\n"
        "try: rankzero_wandb.WandbLogger(offline=True).log_metrics({'a': 1})\n"
        "except Exception as error: print(error)"
    )
    assert "replaces wandb in this process" in python(code)


# Frameworks


@pytest.mark.slow
def test_accelerate_transformers_and_trl_log_through_it():
    pytest.importorskip("trl")
    variables = {"RANKZERO_INTEGRATIONS": "wandb", "WANDB_PROJECT": "trl", "TENSORBOARD_LOGGING_DIR": "tb"}
    python(SCRIPTS / "wandb_frameworks.py", **variables)
    data = only_run("accelerate")
    assert (data.status, data.info.name, data.params, data.tags) == ("success", "tiny", {"lr": 0.1}, ["t"])
    assert [step for step, _ in points(data)["loss"]] == [0, 1, 2]
    assert [each.caption for each in data.media["validation"]] == ["0: a prompt", "1: a prompt"]
    assert (len(data.media["batch"]), data.tables["table"][0].read()) == (1, (["a"], [[1]]))

    data = only_run("trl")
    assert (data.status, data.info.name, data.params["hidden_size"]) == ("success", "grpo", 8)
    found = points(data)
    (log_dir,) = {path.parent for path in Path("tb").rglob("*tfevents*")}
    theirs = {name: each for name, each in scalars(log_dir).items() if name.startswith("train/")}
    for name, expected in theirs.items():
        ours = found.get(name) or found[name.removeprefix("train/")]
        assert [step for step, _ in ours][: len(expected)] == [step for step, _ in expected], name
        np.testing.assert_allclose([v for _, v in ours][: len(expected)], [v for _, v in expected], rtol=1e-6)
    assert len(theirs) > 20
    assert {each.step for each in data.tables["completions"]} == {1, 2}
    columns, rows = data.tables["completions"][0].read()
    assert columns == ["step", "prompt", "completion", "length", "advantage"]
    assert len(rows) == 2


# Data in W&B


@contextmanager
def logged_to_server(directory, **variables):
    """Run the script with a W&B server, and yield the server."""
    directory.mkdir()
    with WandbServer() as server:
        environment = {**os.environ, **server.environment(directory), **variables}
        command = [sys.executable, SCRIPTS / "wandb_script.py"]
        done = subprocess.run(
            command, env=environment, cwd=directory, capture_output=True, text=True, timeout=A_WHILE, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        yield server
        assert server.problems == []


def received(server, step):
    """Return what a server has: the values of each metric, the files of media, and so on."""
    run = server.run("abc")
    values, files = {}, {}
    for row in run.history:
        for key, value in flat(row):
            if isinstance(value, dict) and "_type" in value:
                paths = [(each["path"], each.get("caption")) for each in files_of(value)]
                found = [(content, text) for path, text in paths for name, content in run.files.items() if path in name]
                files.setdefault(key, []).append((row[step], found or (value["values"], value["bins"])))
            elif not key.startswith("_") and key != step:
                values.setdefault(key, []).append((row[step], value))
    with server.store.lock:
        collections = list(server.store.artifacts.collections.values())
    versions = [version for each in collections for version in each.versions if version.type != "run_table"]
    artifacts = {(v.name, v.type, *sorted(v.aliases), str(v.metadata), *sorted(v.files.items())) for v in versions}
    ignored = ("_step", "_timestamp", "_runtime", "_wandb.runtime", "trainer/global_step")
    return {
        "values": values,
        "files": files,
        "artifacts": artifacts,
        "about": (run.display_name, run.group, run.job_type, run.notes, *run.tags, run.exit_code, *run.alerts),
        "config": {key: value for key, value in run.config.items() if key not in ("rankzero", "_wandb")},
        "summary": {k: v for k, v in flat(run.summary) if k not in ignored and not isinstance(v, dict)},
    }


def flat(row, prefix=""):
    for key, value in row.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.slow
def test_the_same_script_with_the_package_and_without(tmp_path):
    with logged_to_server(tmp_path / "theirs") as server:
        theirs = received(server, "_step")
    variables = {"RANKZERO_INTEGRATIONS": "wandb", "RANKZERO_LOGGERS": "wandb", "RANKZERO_DELIVERY": "process"}
    with logged_to_server(tmp_path / "ours", **variables) as server:
        ours = received(server, "trainer/global_step")
    theirs["values"]["final"] = [(27, 0.93)]  # which is in the summary alone
    for what, expected in theirs.items():
        assert ours[what] == expected, what

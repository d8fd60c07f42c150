"""`SummaryWriter` compared with torch's: the same calls, and the data that each has written."""

import inspect
import json
import math
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from integrations.reading import only_run, points
from waiting import A_WHILE

import rankzero
from rankzero.compat.tensorboard import SummaryWriter
from rankzero.errors import ConfigError
from rankzero.rundir.layout import COURIER_LOG

pytest.importorskip("torch")
import torch
from PIL import Image
from servers.event_files import accumulated, scalars
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.tensorboard.writer import SummaryWriter as TorchWriter

pytestmark = pytest.mark.usefixtures("undelivered")


def both(calls):
    """Do the same with each writer; return the data of ours, and the directory of torch's."""
    for writer in (SummaryWriter("ours"), TorchWriter("theirs")):
        with writer:
            calls(writer)
    return only_run(), "theirs"


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def their_pictures(tag):
    import io

    return [pixels(io.BytesIO(each.encoded_image_string)) for each in accumulated("theirs").Images(tag)]


def same_picture(calls, tag="picture"):
    data, _ = both(calls)
    (ours,), (theirs,) = data.media[tag], their_pictures(tag)
    np.testing.assert_array_equal(pixels(ours.path), theirs)


def test_each_method_has_the_parameters_of_torchs():
    for name, theirs in inspect.getmembers(TorchWriter, inspect.isfunction):
        if (name.startswith("__") and name != "__init__") or name == "_encode":
            continue
        ours = inspect.signature(getattr(SummaryWriter, name)).parameters
        takes_all = any(each.kind is each.VAR_KEYWORD for each in ours.values())
        expected = list(inspect.signature(theirs).parameters)
        assert list(ours)[: len(expected)] == expected or (takes_all and list(ours)[:2] == expected[:2]), name


def test_scalars():
    def calls(writer):
        for step in range(3):
            writer.add_scalar("loss", 1 / (step + 1), step)
            writer.add_scalar("tensor", torch.tensor([step]), torch.tensor(step))
            writer.add_scalar("numpy", np.float64(step), np.int64(step), new_style=True, double_precision=True)
        writer.add_scalar("loss", 7, 1)
        writer.add_scalar("nan", math.nan, 2.9)
        writer.add_scalar("none", 5)
        writer.add_scalar("time", 5, 3, walltime=1e9)
        writer.flush()

    data, theirs = both(calls)
    theirs = scalars(theirs) | {"numpy": [(step, step) for step in range(3)]}  # a tensor there
    ours = points(data)
    assert ours.keys() == theirs.keys()
    for tag, expected in theirs.items():
        np.testing.assert_allclose(ours[tag], expected, rtol=1e-6, err_msg=tag)
    assert data.metrics["time"].time.tolist() == [1e9]
    assert data.metrics["loss"].time[0] > 1.7e9


def test_scalars_of_one_chart_share_a_prefix():
    data, _ = both(lambda writer: writer.add_scalars("loss", {"train": 1, "val": 2}, 4))
    assert points(data) == {"loss/train": [(4, 1)], "loss/val": [(4, 2)]}
    assert scalars("theirs/loss_train") == {"loss": [(4, 1)]}


def test_metrics_without_a_step_count_their_own_steps():
    with SummaryWriter() as writer:
        for value in (5, 6):
            writer.add_scalar("a", value)
            writer.add_scalar("b", value, 10)
            writer.add_scalars("c", {"d": value})
    assert points(only_run()) == {"a": [(0, 5), (1, 6)], "b": [(10, 5), (10, 6)], "c/d": [(0, 5), (1, 6)]}


@pytest.mark.parametrize(
    ("shape", "formats"),
    [((3, 4, 5), "CHW"), ((1, 4, 5), "chw"), ((4, 5, 3), "HWC"), ((4, 4), "HW"), ((5, 3, 4), "WCH"), ((5, 4), "WH")],
)
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int64", "bool"])
def test_images_have_torchs_pixels(shape, formats, kind):
    values = np.random.default_rng(1).normal(0.5, 0.5, shape)
    image = (values * 255).astype(kind) if kind == "uint8" else values.round(3).astype(kind)
    same_picture(lambda writer: writer.add_image("picture", torch.from_numpy(image), 3, dataformats=formats))


@pytest.mark.parametrize("formats", ["NCHW", "NHWC"])
def test_a_batch_is_a_list_of_images(formats):
    batch = np.random.default_rng(1).random((10, 3, 4, 4)) if formats == "NCHW" else np.ones((10, 4, 4, 3)) / 3
    data, _ = both(lambda writer: writer.add_images("pictures", batch, 3, dataformats=formats))
    (grid,) = their_pictures("pictures")
    found = [pixels(each.path) for each in data.media["pictures"]]
    for place, image in enumerate(found):
        row, column = divmod(place, 8)
        np.testing.assert_array_equal(image, grid[4 * row : 4 * row + 4, 4 * column : 4 * column + 4])
    assert len(found) == 10
    assert {each.step for each in data.media["pictures"]} == {3}


@pytest.mark.parametrize("rescale", [1, 2])
def test_boxes_are_drawn_as_torch_draws_them(rescale):
    image, boxes = np.full((3, 64, 64), 0.5), np.array([[10, 10, 40, 40], [40, 40, 60, 60]])
    same_picture(lambda writer: writer.add_image_with_boxes("picture", image, boxes, 0, rescale=rescale))


def test_a_box_has_its_label():
    with SummaryWriter("ours") as writer:
        for labels in (["cat"], None):
            writer.add_image_with_boxes("picture", np.zeros((3, 64, 64)), np.array([[10, 10, 40, 40]]), labels=labels)
    labelled, bare = (pixels(each.path) for each in only_run().media["picture"])
    assert (labelled[:, :, 0] == 255).sum() > (bare[:, :, 0] == 255).sum()


def test_figures_have_torchs_pixels_and_are_closed():
    from matplotlib import pyplot as plt

    def figure(writer):
        made = plt.figure(figsize=(2, 1))
        made.gca().plot([1, 3, 2])
        writer.add_figure("picture", made, 0, close=False)
        assert plt.fignum_exists(made.number)
        writer.add_figure("several", [made, made], 1)
        assert not plt.fignum_exists(made.number)

    same_picture(figure)
    assert len(only_run().media["several"]) == 2


def test_histograms_count_the_same_values():
    values = np.random.default_rng(1).normal(size=(20, 30))
    calls = {"default": {}, "number": {"bins": 10}, "edges": {"bins": [-2, -1, 0.5, 2]}, "few": {"max_bins": 5}}

    def add(writer):
        for tag, options in calls.items():
            writer.add_histogram(tag, torch.from_numpy(values), 2, **options)
        counts, limits = np.histogram(values, [-2.0, 0, 1, 2])
        moments = (values.min(), values.max(), 600, values.sum(), (values**2).sum())
        writer.add_histogram_raw("raw", *moments, limits[1:].tolist(), counts.tolist(), 2)
        writer.add_histogram_raw("open", *moments, [*limits[:-1].tolist(), 1.7e308], [0, *counts.tolist()], 2)

    data, theirs = both(add)
    read = accumulated(theirs)
    assert set(data.histograms) == set(read.Tags()["tensors"]) or set(read.Tags()["histograms"]) == set(data.histograms)
    for tag, (logged,) in data.histograms.items():
        expected = read.Histograms(tag)[0].histogram_value
        assert (sum(logged.values.counts), logged.step) == (sum(expected.bucket), 2)
        assert np.all(np.diff(logged.values.edges) > 0)
        if tag in ("number", "edges"):
            assert logged.values.counts == expected.bucket[1:]
            assert logged.values.edges == expected.bucket_limit
    assert len(data.histograms["few"][0].values.counts) == 5
    assert data.histograms["open"][0].values.edges[-1] == values.max()


def test_audio_has_torchs_samples():
    sound = np.sin(np.arange(100) / 3) * 1.2
    data, _ = both(lambda writer: writer.add_audio("tone", torch.from_numpy(sound), 1, sample_rate=8000))
    (expected,) = accumulated("theirs").Audio("tone")
    assert Path(data.media["tone"][0].path).read_bytes() == expected.encoded_audio_string
    with SummaryWriter("ours") as writer:
        writer.add_audio("pcm", np.array([100, -100], "int16"))
    with wave.open(str(only_run().media["pcm"][0].path)) as file:
        assert file.readframes(2) == np.array([100, -100], "<i2").tobytes()


def test_videos_are_one_for_each_of_the_batch():
    frames = np.zeros((2, 3, 1, 4, 6))
    frames[1, 2, :, 1] = 1
    with SummaryWriter() as writer:
        writer.add_video("film", frames, 5, fps=10)
    first, second = only_run().media["film"]
    with Image.open(second.path) as film:
        assert film.size == (6, 4)
        film.seek(film.n_frames - 1)
        np.testing.assert_array_equal(np.asarray(film.convert("L")), frames[1, 2, 0] * 255)
    assert first.step == 5


def test_texts_models_and_tensors(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    tensor = torch.arange(8, dtype=torch.bfloat16).reshape(2, 2, 2)
    with SummaryWriter() as writer:
        writer.add_text("note", "a|b\n-|-\nc|d", 2)
        writer.add_graph(torch.nn.Linear(2, 3), torch.ones(1, 2))
        writer.add_onnx_graph("model.onnx")
        writer.add_tensor("weights", tensor, 3)
    data = only_run()
    (text,) = data.texts["note"]
    assert (text.data, text.step) == ([["a|b\n-|-\nc|d"]], 2)
    assert [(each.name, each.kind) for each in data.artifacts] == [("model.onnx", "model"), ("weights", "array")]
    assert data.artifacts[1].metadata == {"step": 3}
    np.testing.assert_array_equal(np.load(data.artifacts[1].path), tensor.float().numpy())


def test_precision_recall_curves_are_tables():
    random = np.random.default_rng(1)
    labels, predictions, weights = random.integers(2, size=100), random.random(100), random.random(100)

    def add(writer):
        writer.add_pr_curve("curve", torch.from_numpy(labels), predictions, 1)
        writer.add_pr_curve("weighted", labels, predictions, 1, num_thresholds=11, weights=weights)
        counts = [75, 64, 5], [150, 21, 0], [0, 45, 150], [0, 11, 70]
        writer.add_pr_curve_raw("raw", *counts, [0.3, 0.4, 1], [1, 0.8, 0], 1)

    data, theirs = both(add)
    for tag in ("curve", "weighted", "raw"):
        columns, rows = data.tables[tag][0].read()
        expected = make_ndarray(accumulated(theirs).Tensors(tag)[0].tensor_proto)
        np.testing.assert_allclose(np.array(rows)[:, 1:].T, expected, atol=1e-5)
        assert (rows[0][0], rows[-1][0]) == (0, 1)
    assert columns[:2] == ["threshold", "true positives"]


def test_an_embedding_is_an_array_and_a_table():
    vectors, images = torch.tensor([[1.0, 2, 3], [5, 4, 1]]), torch.rand(2, 3, 5, 5)
    with SummaryWriter() as writer:
        writer.add_embedding(vectors, global_step=1)
        writer.add_embedding(vectors, torch.tensor([7.0, 8.0]), images, 2, "labelled")
        writer.add_embedding(vectors, [[7, "a"], [8, "b"]], tag="both", metadata_header=["digit", "set"])
    data = only_run()
    assert [each.name for each in data.artifacts] == ["default", "labelled", "both"]
    np.testing.assert_array_equal(np.load(data.artifacts[0].path), vectors.numpy())
    columns, rows = data.tables["labelled/metadata"][0].read()
    assert (columns, [row[0] for row in rows]) == (["label", "image"], [7, 8])
    np.testing.assert_array_equal(pixels(rows[0][1].path), (images[0] * 255).byte().numpy().transpose(1, 2, 0))
    assert data.tables["both/metadata"][0].read() == (["digit", "set"], [[7, "a"], [8, "b"]])


def test_meshes_are_point_clouds():
    vertices = np.array([[[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1.5]]])
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 255]]])
    faces = np.array([[[0, 2, 3], [0, 3, 1]]])
    data, theirs = both(lambda writer: writer.add_mesh("mesh", vertices, colours, faces, {"camera": {"fov": 75}}, 3))
    read = accumulated(theirs)
    parts = [make_ndarray(read.Tensors(f"mesh_{part}")[0].tensor_proto) for part in ("VERTEX", "COLOR")]
    (cloud,) = data.media["mesh"]
    np.testing.assert_array_equal(np.load(cloud.path), np.concatenate(parts, axis=-1)[0])
    np.testing.assert_array_equal(np.load(data.artifacts[0].path), faces)
    assert json.loads(data.texts["mesh/config"][0].data[0][0]) == {"camera": {"fov": 75}}
    with SummaryWriter("units") as writer:
        writer.add_mesh("mesh", torch.ones(2, 4, 3), torch.full((2, 4, 3), 0.2))
    data = rankzero.read_run(writer.run.dir)
    assert [np.load(each.path)[0].tolist() for each in data.media["mesh"]] == [[1, 1, 1, 51, 51, 51]] * 2


def test_layouts_of_charts_are_tables():
    with SummaryWriter() as writer:
        writer.add_custom_scalars({"USA": {"dow": ["Margin", ["a", "b", "c"]], "all": ["Multiline", ["a", "d"]]}})
        writer.add_custom_scalars_multilinechart(["a", "b"])
        writer.add_custom_scalars_marginchart(("a", "b", "c"), "category", "title")
    rows = [row for each in only_run().tables["custom_scalars"] for row in each.read()[1]]
    assert rows == [
        ["USA", "dow", "Margin", ["a", "b", "c"]],
        ["USA", "all", "Multiline", ["a", "d"]],
        ["default", "untitled", "Multiline", ["a", "b"]],
        ["category", "title", "Margin", ["a", "b", "c"]],
    ]


def test_hyperparameters():
    def add(writer):
        writer.add_hparams({"lr": 0.1, "size": 1, "name": "x"}, {"hparam/accuracy": 10}, run_name="first")

    data, _ = both(add)
    assert data.params == {"lr": 0.1, "size": 1, "name": "x"}
    assert points(data) == scalars("theirs/first") == {"hparam/accuracy": [(0, 10)]}


def test_hyperparameters_of_several_trials_are_all_kept():
    with SummaryWriter() as writer:
        for trial in range(3):
            writer.add_hparams({"lr": 0.1 * trial, "size": 1}, {"accuracy": trial}, global_step=5)
        writer.add_hparams({"lr": 0.0, "more": 2}, {"accuracy": 9}, global_step=6)
        writer.add_hparams({"lr": 7}, {}, run_name="named")
        for _ in range(2):
            writer.add_hparams({"betas": torch.tensor([0.9, 0.99])}, {})
    data = only_run()
    assert data.params["lr"] == 0.0
    assert data.params["more"] == 2
    assert data.params["2"] == {"lr": 0.1, "size": 1}
    assert data.params["named"] == {"lr": 7}
    assert data.params["betas"] == pytest.approx([0.9, 0.99])
    assert points(data) == {"accuracy": [(5, 0), (6, 9)], "2/accuracy": [(5, 1)], "3/accuracy": [(5, 2)]}


def test_the_file_writer_takes_hyperparameters_and_scalars(recwarn):
    from torch.utils.tensorboard.summary import hparams, image, scalar

    with SummaryWriter("logs") as writer:
        for summary in hparams({"lr": 0.1, "name": "x"}, {"accuracy": 1}):
            writer.file_writer.add_summary(summary)
        writer._get_file_writer().add_summary(scalar("loss", 2), 3)
        writer.file_writer.add_summary(image("picture", np.zeros((1, 3, 2, 2))), 3)
        assert writer.file_writer.get_logdir() == "logs"
    data = only_run()
    assert (data.params, points(data)) == ({"lr": 0.1, "name": "x"}, {"loss": [(3, 2)]})
    assert ["picture is not logged" in str(each.message) for each in recwarn] == [True]


def test_a_directory_is_a_run_which_continues_after_close():
    first, second = SummaryWriter("logs/train"), SummaryWriter("logs/val")
    again = SummaryWriter(Path("logs/train").absolute())
    first.add_scalar("loss", 1, 0)
    second.add_scalar("loss", 2, 0)
    again.add_scalar("loss", 3, 1)
    assert first.run is again.run is not second.run
    assert (first.run.name, second.run.name) == ("logs/train", "logs/val")
    run_id = first.run.id
    first.close()
    assert first.run.id == run_id
    first.close()
    again.add_scalar("loss", 4, 2)
    again.close()
    second.close()
    data = rankzero.read_run(again.run.dir)
    assert (again.run.id, again.run.resumed, data.status) == (run_id, True, "success")
    assert points(data) == {"loss": [(0, 1), (1, 3), (2, 4)]}
    assert os.path.isdir(first.log_dir)
    assert not os.listdir(first.get_logdir())


def test_writers_of_a_run_that_is_named_share_it(monkeypatch):
    monkeypatch.setenv("RANKZERO_RUN_ID", "named")
    first, second = SummaryWriter("logs/train"), SummaryWriter("logs/val")
    first.add_scalar("loss", 0, 0)
    with pytest.warns(UserWarning, match=r"logs/val logs to the run logs/train, as does .*logs/train: the same"):
        second.add_scalar("loss", 1, 1)
    second.close()
    first.add_scalar("loss", 2, 2)
    first.close()
    assert (points(only_run()), only_run().info.id) == ({"loss": [(0, 0), (1, 1), (2, 2)]}, "named")
    with rankzero.start() as run:
        with SummaryWriter("logs/test") as writer:
            writer.add_scalar("accuracy", 1, 3)
        run.log_metrics({"still": 1}, 4)
    assert (points(only_run())["still"], writer.run) == ([(4, 1)], run)


def test_a_run_that_is_resumed_is_rewound_to_the_purge_step():
    for purge_step, steps in ((None, range(4)), (2, range(2, 6))):
        with SummaryWriter("logs/run", run_id="resumed", purge_step=purge_step) as writer:
            for step in steps:
                writer.add_scalar("loss", 10 * (purge_step is None) + step, step)
    assert points(only_run()) == {"loss": [(0, 10), (1, 11), (2, 2), (3, 3), (4, 4), (5, 5)]}


def test_without_a_directory_it_is_the_runs_own():
    with SummaryWriter(comment="lr-0.1") as writer:
        inner = SummaryWriter(writer.get_logdir())
        inner.add_scalar("loss", 1, 0)
        assert inner.run is writer.run
        assert writer.log_dir == writer.run.log_dir
    assert only_run().info.name == "lr-0.1"


def test_settings_are_those_of_start(monkeypatch):
    with pytest.raises(ConfigError):
        SummaryWriter("logs", loggers="csvv")
    assert not Path("logs").exists()
    with rankzero.start(project="given") as run:
        with SummaryWriter("elsewhere", run=run) as writer:
            writer.add_scalar("loss", 1, 0)
        run.log_metrics({"still": 1})
    assert set(only_run("given").metrics) == {"loss", "still"}
    monkeypatch.setenv("RANKZERO_NAME", "by-variable")
    with SummaryWriter(project="other", tags=["t"]) as writer:
        writer.add_scalar("loss", 1, 0)
    assert (only_run("other").info.name, only_run("other").info.tags) == ("by-variable", ("t",))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_decides_about_the_status(error):
    status = "failed" if error is ValueError else "aborted"

    def train(writer):
        writer.add_scalar("loss", 1, 0)
        raise error

    def train_in_a_block():
        with SummaryWriter("block") as writer:
            train(writer)

    def train_and_close():
        writer = SummaryWriter("closed")
        try:
            train(writer)
        finally:
            writer.close()

    for each in (train_in_a_block, train_and_close):
        with pytest.raises(error):
            each()
    found = [rankzero.read_run(each) for each in Path("rankzero-runs/default").iterdir()]
    assert {(each.info.name.split("/")[-1], each.status) for each in found} == {("block", status), ("closed", status)}


def test_wrong_arguments_do_not_raise(recwarn):
    Path("file").touch()
    with SummaryWriter("file/logs") as writer:
        writer.add_image("a", np.zeros((2, 2)), 0)
        writer.add_audio("b", object())
        writer.add_histogram("c", "text")
        writer.add_pr_curve("d", [1], [0.5, 0.1])
        writer.add_hparams(None, None)
        writer.add_mesh("e", None, unknown=1)
        writer.add_scalars("g", [1])
        writer.add_scalar("f", "text", "step")
        writer.add_scalar("f", 1, 1)
    assert points(only_run())["f"] == [(1, 1)]
    assert len({str(each.message) for each in recwarn}) >= 8


def test_other_ranks_log_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with SummaryWriter("logs") as writer:
        writer.add_scalar("loss", 1, 0)
        writer.add_scalar("loss", 1, 0, walltime=3)
        writer.add_image("picture", object(), 0)
    assert list(Path("rankzero-runs").glob("*/*/*")) == []


# Unchanged scripts


def run_script(script, **variables):
    Path("train.py").write_text(script)
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "train.py"], env=environment, capture_output=True, text=True, timeout=A_WHILE, check=False
    )
    assert done.returncode == 0, done.stderr


SCRIPT = """
from {package} import SummaryWriter
import {package} as package
writer = SummaryWriter("runs/script")
writer.add_scalar("loss", 1, 3)
print(package.SummaryWriter is SummaryWriter)
writer.close()
"""
INSTALL = "from rankzero.compat.tensorboard import install\ninstall()\n"
WITHOUT_TENSORBOARD = "import sys\nsys.modules['tensorboard'] = None\n"
OTHER_NAMES = "from torch.utils.tensorboard import FileWriter, RecordWriter, SummaryWriter, summary\nsummary.hparams\n"


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch.utils.tensorboard", "tensorboardX"])
@pytest.mark.parametrize(
    "before", [INSTALL, "import {package}\n" + INSTALL, WITHOUT_TENSORBOARD + INSTALL, OTHER_NAMES]
)
def test_a_script_gets_this_class(package, before):
    pytest.importorskip(package)
    variables = {"RANKZERO_INTEGRATIONS": "tensorboard"} if before == OTHER_NAMES else {}
    run_script((before + SCRIPT).format(package=package), **variables)
    data = only_run()
    assert (points(data), data.info.name) == ({"loss": [(3, 1)]}, "runs/script")


@pytest.mark.slow
def test_the_tracker_gets_it_with_the_real_class():
    script = SCRIPT.format(package="torch.utils.tensorboard") + "import torch\n"
    script += "from rankzero_tensorboard import TensorBoardLogger\nlogger = TensorBoardLogger('direct')\n"
    script += "logger.experiment.add_scalar('own', 1, 2)\nlogger.close()\n"
    variables = {"RANKZERO_INTEGRATIONS": "tensorboard, x", "RANKZERO_LOGGERS": "tensorboard"}
    run_script(script, RANKZERO_DELIVERY="process", **variables)
    assert "there is no integration x" not in (only_run().dir / COURIER_LOG).read_text()  # the courier was not asked
    (written,) = Path("rankzero-runs/tensorboard/default").iterdir()
    assert scalars(written) == {"loss": [(3, 1)]}
    assert scalars("direct/lightning_logs/version_0") == {"own": [(2, 1)]}


STABLE_BASELINES = """
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, Image
import numpy as np

class Extra(BaseCallback):
    def _on_training_start(self):
        self.logger.record("hparams", HParam({"lr": self.model.learning_rate}, {"rollout/ep_len_mean": 0}))
        self.logger.record("note", "text")
        self.logger.record("picture", Image(np.zeros((3, 4, 3), "uint8"), "HWC"))

    def _on_step(self):
        return True

model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, seed=1, tensorboard_log="tb")
model.learn(64, callback=Extra(), log_interval=1)
"""


@pytest.mark.slow
def test_stable_baselines_logs_its_own_values():
    pytest.importorskip("stable_baselines3")
    run_script(STABLE_BASELINES)
    run_script(STABLE_BASELINES, RANKZERO_INTEGRATIONS="tensorboard")
    data = only_run()
    theirs, ours = scalars("tb/PPO_1"), points(data)
    assert ours.keys() == theirs.keys() > {"train/loss", "rollout/ep_len_mean"}
    for tag in theirs.keys() - {"time/fps"}:
        np.testing.assert_allclose(ours[tag], theirs[tag], rtol=1e-5, atol=1e-7, err_msg=tag)
    assert (data.params, data.info.name) == ({"lr": 0.0003}, "tb/PPO_2")
    assert data.texts["note"][0].data == [["text"]]
    assert pixels(data.media["picture"][0].path).shape == (3, 4, 3)

"""Pictures, sounds, videos, figures, histograms and models: every pixel, sample and count."""

import io
import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from plugins.wandb.delivered import Delivered, rejected, rows, wandb_server

from rankzero.media.encoders import Histogram
from rankzero.testing.samples import GIF, FigureSample, png, wav
from rankzero_wandb import WandbLogger

RANDOM = np.random.default_rng(1)
POINTS = RANDOM.integers(0, 256, (5, 6)).astype(np.float32)
COLOURED = RANDOM.integers(0, 256, (4, 6, 3), np.uint8)
GRAY = RANDOM.integers(0, 256, (5, 7), np.uint8)
DEEP = RANDOM.integers(0, 65_536, (4, 4), np.uint16)
FLOATS = torch.tensor(COLOURED).permute(2, 0, 1) / 255
FRAMES = RANDOM.integers(0, 2, (3, 8, 8, 3), np.uint8) * 255
SAMPLES = np.sin(np.arange(800) / 8) / 2
MASKS = {size: RANDOM.integers(0, 256, (size, size), np.uint8) for size in (64, 512)}
LABELS = {0: "sky", 200: "cat"}
BOXES = [
    {
        "position": {"minX": 0.125, "maxX": 0.5, "minY": 0.25, "maxY": 0.75},
        "class_id": 200,
        "box_caption": "a cat",
        "scores": {"acc": 0.75, "iou": 1},
    },
    {"position": {"middle": [3, 2], "width": 2, "height": 1}, "domain": "pixel", "class_id": 0},
]
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(range(256))
PAGE = "<html><body>Grüße</body></html>"
FINE = np.histogram(RANDOM.normal(size=5000), 1300)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    directory = tmp_path_factory.mktemp("media")
    with wandb_server(directory) as server:
        yield Delivered(server, directory)


class PlotlyFigure:
    """Replaces a figure of plotly for `log_figure`."""

    def write_html(self, file):
        file.write(PAGE)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.ReLU()))
        self.head = torch.nn.Linear(3, 1, bias=False)

    def forward(self, batch):
        return self.head(self.body(batch))


def written(directory, name, data):
    path = directory / name
    path.write_bytes(data)
    return str(path)


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def a_figure():
    figure = Figure()
    figure.subplots().plot([1, 3, 2])
    return figure


def log_everything(run, directory):
    """Log data that a Run and a logger in direct use accept."""
    log_pictures(run, directory)
    jpeg = written(directory, "a.jpg", encoded(Image.fromarray(COLOURED), "JPEG"))
    run.log_image("paths", [jpeg, Path(written(directory, "b.png", png()))], step=2)
    first, second = (written(directory, name, wav()[:-size]) for name, size in (("a.wav", 2), ("b.wav", 4)))
    run.log_audio("sounds", [first, second], step=3, caption=["one", "two"])
    run.log_audio("sound", [SAMPLES], step=3, sample_rate=8000)
    run.log_video("film", [written(directory, "a.gif", GIF), written(directory, "a.mp4", MP4)], step=4)
    run.log_video("frames", [FRAMES], step=4, fps=2, caption=["three"])
    run.log_pointcloud("cloud", [POINTS, POINTS[:, :3]], step=4, caption=["with colours", "without"])
    run.log_figure("plotly", PlotlyFigure(), step=5)
    run.log_figure("figure", FigureSample(), step=5)
    run.log_figure("page", written(directory, "a.html", PAGE.encode()), step=5)
    run.log_figure("matplotlib", a_figure(), step=5)
    run.log_image("figure as a picture", [a_figure()], step=5)
    run.log_histogram("counted", Histogram([1, 0, 2], [0.5, 1.0, 2.0, 4.0]), step=6)
    run.log_histogram("numpy", np.histogram(np.arange(10), bins=4), step=6)
    run.log_histogram("tensor", torch.tensor([[0.0, 1.0], [1.0, 3.0]]), step=6, bins=3)
    run.log_histogram("fine", FINE, step=6)
    run.log_image("a/b c.d ü?", [GRAY], step=7)


def log_pictures(run, directory):
    pictures = [
        FLOATS,
        COLOURED,
        torch.tensor(COLOURED),
        GRAY,
        Image.fromarray(DEEP),
        Image.fromarray(COLOURED).convert("RGBA"),
    ]
    run.log_image("kinds", pictures, step=1, caption=["floats", "bytes", "tensor", "gray", "deep", "RGBA"])
    for size, data in MASKS.items():
        run.log_image(
            f"mask {size}",
            [np.zeros((size, size, 3), np.uint8)],
            step=1,
            masks=[{"truth": {"mask_data": data, "class_labels": LABELS}, "guess": {"mask_data": data // 2}}],
        )
    run.log_image(
        "boxes", [COLOURED, COLOURED], step=1, boxes=[{"truth": {"box_data": BOXES, "class_labels": LABELS}}, None]
    )


@pytest.fixture(scope="module", params=["run", "directly"])
def stored(request, delivered, tmp_path_factory):
    directory = tmp_path_factory.mktemp("logged")
    if request.param == "directly":
        return delivered.directly(lambda logger: log_everything(logger, directory))
    return delivered.run(lambda run: log_everything(run, directory))[1]


def media(stored, key):
    """Return (step, value, files) of the media with a key."""
    (row,) = rows(stored, key)
    (found,) = stored.media(key)
    return row["trainer/global_step"], row[key], found.files


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


# Pictures


def test_pictures_of_all_kinds_in_pixels(stored):
    step, value, files = media(stored, "kinds")
    assert (step, value["count"]) == (1, 6)
    assert value["captions"] == ["floats", "bytes", "tensor", "gray", "deep", "RGBA"]
    floats, coloured, tensor, gray, deep, transparent = map(pixels, files)
    assert np.array_equal(floats, COLOURED)
    assert np.array_equal(coloured, COLOURED)
    assert np.array_equal(tensor, COLOURED)
    assert np.array_equal(gray, GRAY)
    assert np.array_equal(deep, DEEP)
    assert deep.dtype == np.uint16
    assert np.array_equal(transparent, np.dstack([COLOURED, np.full((4, 6), 255, np.uint8)]))


def test_pictures_that_are_files_keep_their_bytes(stored):
    assert media(stored, "paths")[2] == [encoded(Image.fromarray(COLOURED), "JPEG"), png()]


@pytest.mark.parametrize("size", MASKS)
def test_masks_in_pixels(stored, size):
    _, value, files = media(stored, f"mask {size}")
    (masks,) = value["all_masks"]
    assert pixels(files[0]).shape == (size, size, 3)
    assert np.array_equal(pixels(stored.files[masks["truth"]["path"]]), MASKS[size])
    assert np.array_equal(pixels(stored.files[masks["guess"]["path"]]), MASKS[size] // 2)


def test_labels_of_masks_and_boxes(stored):
    labels = stored.raw_config["_wandb"]["value"]
    assert labels["mask/class_labels"]["mask 64_wandb_delimeter_truth"]["value"] == {"0": "sky", "200": "cat"}
    assert labels["mask/class_labels"]["mask 64_wandb_delimeter_guess"]["value"]["127"] == "class_127"
    assert labels["bounding_box/class_labels"]["boxes_wandb_delimeter_truth"]["value"] == {"0": "sky", "200": "cat"}


def test_boxes(stored):
    _, value, _ = media(stored, "boxes")
    boxes, none = value["all_boxes"]
    kept = json.loads(stored.files[boxes["truth"]["path"]])
    assert kept == {"box_data": BOXES, "class_labels": {"0": "sky", "200": "cat"}}
    assert none is None


def test_a_key_that_is_not_a_path(stored):
    assert np.array_equal(pixels(media(stored, "a/b c.d ü?")[2][0]), GRAY)


# Sounds, videos


def test_sounds(stored):
    step, value, _ = media(stored, "sounds")
    assert (step, value["captions"]) == (3, ["one", "two"])
    assert [stored.files[each["path"]] for each in value["audio"]] == [wav()[:-2], wav()[:-4]]


def test_samples_become_a_sound(stored):
    _, value, _ = media(stored, "sound")
    (sound,) = value["audio"]
    with wave.open(io.BytesIO(stored.files[sound["path"]])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, 800)
        samples = np.frombuffer(file.readframes(800), "<i2") / 32767
    assert abs(samples - SAMPLES).max() < 1e-4


def test_videos_that_are_files_keep_their_bytes(stored):
    step, value, _ = media(stored, "film")
    assert (step, [stored.files[each["path"]] for each in value["videos"]]) == (4, [GIF, MP4])
    assert [Path(each["path"]).suffix for each in value["videos"]] == [".gif", ".mp4"]


def test_frames_become_a_video(stored):
    _, value, _ = media(stored, "frames")
    (video,) = value["videos"]
    film = Image.open(io.BytesIO(stored.files[video["path"]]))
    assert value["captions"] == ["three"]
    assert film.info["duration"] == 500
    assert [np.asarray(frame.convert("RGB")).tolist() for frame in ImageSequence.Iterator(film)] == FRAMES.tolist()


def test_points_in_space_are_objects_of_wandb(stored):
    (row,) = rows(stored, "cloud")
    clouds = row["cloud"]["objects"]
    assert (row["trainer/global_step"], row["cloud"]["_type"]) == (4, "object3D")
    assert [each["caption"] for each in clouds] == ["with colours", "without"]
    assert [json.loads(stored.files[each["path"]]) for each in clouds] == [POINTS.tolist(), POINTS[:, :3].tolist()]


# Figures


def test_figures(stored):
    assert media(stored, "figure")[1]["_type"] == "image-file"
    assert media(stored, "figure")[2] == [png()]
    for key in ("matplotlib", "figure as a picture"):
        assert pixels(media(stored, key)[2][0]).shape == (480, 640, 4)


@pytest.mark.parametrize("key", ["plotly", "page"])
def test_pages(stored, key):
    step, value, files = media(stored, key)
    assert (step, value["_type"], files) == (5, "html-file", [PAGE.encode()])


# Histograms


def test_counts_and_edges_are_exact(stored):
    assert media(stored, "counted")[1] == {"_type": "histogram", "values": [1, 0, 2], "bins": [0.5, 1.0, 2.0, 4.0]}
    counts, edges = np.histogram(np.arange(10), bins=4)
    assert media(stored, "numpy")[1] == {"_type": "histogram", "values": counts.tolist(), "bins": edges.tolist()}
    assert media(stored, "tensor")[1] == {"_type": "histogram", "values": [1, 2, 1], "bins": [0.0, 1.0, 2.0, 3.0]}


def test_more_bins_than_w_and_b_accepts_are_merged(stored):
    value = media(stored, "fine")[1]
    counts, edges = FINE
    assert len(value["values"]) == 434
    assert value["values"] == [int(counts[first : first + 3].sum()) for first in range(0, 1300, 3)]
    assert value["bins"] == [*edges[:1300:3].tolist(), edges[-1]]


# Files


def test_uploaded_files_are_deleted_locally(delivered):
    def log(run):
        run.log_image("a", [COLOURED], step=1, masks=[{"m": {"mask_data": GRAY}}])
        run.log_table("t", ["a"], [[Image.fromarray(COLOURED)]])
        run.log_graph(Model())

    run, stored = delivered.run(log)
    left = [path.name for path in (run.dir / "wandb").glob("run-*/files/**/*") if path.is_file()]
    assert not [name for name in left if name.endswith((".png", "table.json", "graph.json"))]
    assert sum(path.startswith("media/") for path in stored.files) == 4


def test_the_client_keeps_no_copy_of_files_and_checkpoints(delivered):
    checkpoint = RANDOM.bytes(300_000)

    def log(run):
        run.log_checkpoint(written(delivered.directory, "a.ckpt", checkpoint), step=1)
        run.log_artifact(written(delivered.directory, "data.bin", checkpoint[::-1]))

    run, _ = delivered.run(log)
    assert delivered.server.artifact(f"model-{run.id}:latest", "p").files == {"model.ckpt": checkpoint}
    kept = [path for name in ("cache", "data", "artifact") for path in (delivered.directory / name).rglob("*")]
    assert kept
    assert not [path for path in kept if path.is_file() and path.stat().st_size == len(checkpoint)]


def test_many_pictures_under_one_key(delivered):
    pictures = [np.full((2, 2), shade, np.uint8) for shade in range(120)]

    def log(run):
        run.log_image("many", pictures, caption=[str(shade) for shade in range(120)], step=1)

    _, stored = delivered.run(log)
    first, rest = media(stored, "many"), media(stored, "many (109 on)")
    assert [pixels(file)[0, 0] for file in first[2] + rest[2]] == list(range(120))
    assert first[1]["captions"] + rest[1]["captions"] == [str(shade) for shade in range(120)]


@pytest.mark.filterwarnings("ignore:W&B cannot show")
def test_files_that_w_and_b_cannot_show_become_artifacts(delivered):
    def log(run):
        run.log_image("broken", [written(delivered.directory, "c.png", b"broken")], step=1)
        run.log_video("film", [written(delivered.directory, "c.avi", b"RIFF")], step=1)

    _, stored = delivered.run(log)
    kept = [delivered.server.artifact(f"{name}:latest", "p") for name in ("broken", "film")]
    assert [list(version.files.values()) for version in kept] == [[b"broken"], [b"RIFF"]]
    assert not rows(stored, "broken") + rows(stored, "film")


def test_masks_that_w_and_b_refuses_are_rejected(delivered):
    with delivered.start() as run:
        run.log_image("a", [GRAY], masks=[{"m": {"mask_data": np.full((5, 7), 300)}}], step=1)
        run.log_metrics({"loss": 1}, step=2)
    assert "between 0 and 255" in rejected(run)[0]
    assert [row["loss"] for row in rows(delivered.server.run(run.id), "loss")] == [1]


# Direct use


@pytest.fixture
def logger(delivered, closing, tmp_path):
    return closing(WandbLogger(mode="disabled", save_dir=tmp_path))


@pytest.mark.parametrize("verb", ["log_image", "log_audio", "log_video"])
def test_direct_use_accepts_only_lists(logger, verb, tmp_path):
    with pytest.raises(TypeError, match=r"must be a list, as in \[image\], not str"):
        getattr(logger, verb)("a", written(tmp_path, "a.gif", GIF))


@pytest.mark.parametrize("options", [{"caption": ["one"]}, {"masks": [{}]}, {"boxes": [None] * 3}])
def test_direct_use_needs_one_entry_for_each_item(logger, options):
    with pytest.raises(ValueError, match=r"has \d entries for 2 items; give one for each"):
        logger.log_image("a", [COLOURED, COLOURED], **options)


# Models


def watch_and_train(watching, *models, log="all"):
    for model in models:
        watching.watch(model, log=log, log_freq=2)
    for step in range(4):
        for model in models:
            model.zero_grad()
            model(torch.full((5, 2), step + 1.0)).sum().backward()
        watching.log_metrics({"loss": step}, step)


@pytest.mark.parametrize("use", ["run", "directly"])
def test_gradients_and_parameters_of_a_watched_model(delivered, use):
    model = Model()

    def log(logger):
        watch_and_train(logger, model)
        if use == "directly":
            logger.unwatch(model)
        else:
            logger.unwatch()
        model(torch.ones(5, 2)).sum().backward()
        model(torch.ones(5, 2)).sum().backward()

    stored = delivered.directly(log) if use == "directly" else delivered.run(log)[1]
    for name, parameter in model.named_parameters():
        for kind in ("gradients", "parameters"):
            found = [row[f"{kind}/{name}"] for row in rows(stored, f"{kind}/{name}")]
            assert [sum(each["values"]) for each in found] == [parameter.numel()] * 2
        bins = found[0]["bins"]
        assert bins[0] == pytest.approx(parameter.min().item())
        assert bins[-1] == pytest.approx(parameter.max().item())


def graphs(stored):
    """Return the nodes of each model, in order; W&B's client numbers the models of a process."""
    found = sorted((key, value["path"]) for key, value in stored.summary.items() if key.startswith("graph_"))
    return [json.loads(stored.files[path])["nodes"] for _, path in found]


def test_the_graph_has_the_modules_that_w_and_b_finds(delivered):
    (ours,) = graphs(delivered.run(lambda run: run.log_graph(Model()))[1])
    (its_own,) = graphs(delivered.directly(lambda logger: watch_and_train(logger, Model())))
    assert [node["name"] for node in ours] == [node["name"] for node in its_own] == ["body.0", "body.1.0", "head"]
    assert [node["class_name"] for node in ours] == [node["class_name"].split("(")[0] for node in its_own]
    assert [sum(node["num_parameters"]) for node in ours] == [sum(node["num_parameters"]) for node in its_own]


def test_each_of_two_models_has_a_graph(delivered):
    other = torch.nn.Sequential(torch.nn.Linear(2, 4))

    def log(run):
        watch_and_train(run, Model(), other)
        run.log_graph(Model())

    _, stored = delivered.run(log)
    first, second = graphs(stored)
    assert [node["name"] for node in first] == ["body.0", "body.1.0", "head"]
    assert [node["num_parameters"] for node in second] == [[12]]

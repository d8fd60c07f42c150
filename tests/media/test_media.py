"""Media files beside the journal: the files of each log method, decoded and compared."""

import hashlib
import io
import json
import math
import os
import subprocess
import sys
import threading
import wave
from datetime import date
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image as Pillow
from recorded import events_in

import rankzero
from rankzero.cli.show import files_line
from rankzero.errors import UnsafePathError
from rankzero.events import structs
from rankzero.journal.tail import read_events
from rankzero.media.encoders import encode_image, histogram
from rankzero.media.record import Media
from rankzero.media.store import MediaFile, MediaStore, read_table
from rankzero.rundir.layout import JOURNAL
from rankzero.values import to_jsonable

mpl.use("Agg")


@pytest.fixture
def run(tmp_path):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        yield run


@pytest.fixture
def store(tmp_path):
    return MediaStore(tmp_path)


def logged(run, kind):
    """Return the only event of a kind."""
    (event,) = events_in(run.dir, kind)
    return event


def files_in(directory):
    return sorted(path for path in (directory / "media").rglob("*") if path.is_file())


def png(array, **options):
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


# Images

CHANCE = np.random.default_rng(1)
GRAY = CHANCE.integers(0, 256, (5, 7), np.uint8)
RGB = CHANCE.integers(0, 256, (5, 7, 3), np.uint8)
RGBA = CHANCE.integers(0, 256, (5, 7, 4), np.uint8)
UNIT = np.array([[0.0, 0.2, 1.0], [0.5, 0.999, 0.001]])
UNIT_PIXELS = [[0, 51, 255], [128, 255, 0]]

PICTURES = {
    "uint8 (H, W)": (GRAY, GRAY),
    "uint8 (H, W, 1)": (GRAY[..., None], GRAY),
    "uint8 (1, H, W)": (GRAY[None], GRAY),
    "uint8 (H, W, 3)": (RGB, RGB),
    "uint8 (3, H, W)": (np.moveaxis(RGB, -1, 0), RGB),
    "uint8 (H, W, 4)": (RGBA, RGBA),
    "uint8 (4, H, W)": (np.moveaxis(RGBA, -1, 0), RGBA),
    "not contiguous": (RGB[::-1, ::2], RGB[::-1, ::2]),
    "black": (np.zeros((5, 7, 3), np.uint8), np.zeros((5, 7, 3), np.uint8)),
    "nearly black": (np.ones((5, 7), np.uint8), np.ones((5, 7), np.uint8)),
    "black floats": (np.zeros((5, 7)), np.zeros((5, 7), np.uint8)),
    "int64": (GRAY.astype(np.int64), GRAY),
    "int64 outside": (np.array([[-5, 300]]), [[0, 255]]),
    "int64 of 0 and 1": (np.array([[0, 1]]), [[0, 1]]),
    "0..1 floats": (UNIT, UNIT_PIXELS),
    "0..1 float16": (UNIT.astype(np.float16), UNIT_PIXELS),
    "0..1 that overshoots": (np.array([[-0.01, 1.002, 0.2]]), [[0, 255, 51]]),
    "0..255 floats": (RGB.astype(np.float32), RGB),
    "NaN and infinities": (np.array([[math.nan, math.inf, -math.inf, 0.2]]), [[0, 255, 0, 51]]),
    "bool": (np.array([[True, False]]), [[255, 0]]),
    "nested lists": ([[0.0, 1.0]], [[0, 255]]),
    "tensor (3, H, W)": (torch.from_numpy(np.moveaxis(RGB, -1, 0).copy()), RGB),
    "bfloat16 tensor": (torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.bfloat16), [[0, 128, 255]]),
    "tensor with grad": (torch.tensor([[0.0, 1.0]], requires_grad=True), [[0, 255]]),
    "bool tensor": (torch.tensor([[True, False]]), [[255, 0]]),
    "PIL RGB": (Pillow.fromarray(RGB), RGB),
    "PIL L": (Pillow.fromarray(GRAY), GRAY),
    "PIL 1": (Pillow.fromarray(GRAY > 100), GRAY > 100),
    "PIL F": (Pillow.fromarray(UNIT.astype(np.float32)), UNIT_PIXELS),
    "PIL HSV": (Pillow.new("HSV", (7, 5), (0, 0, 200)), np.full((5, 7, 3), 200, np.uint8)),
    "PIL CMYK": (Pillow.new("CMYK", (7, 5)), np.full((5, 7, 3), 255, np.uint8)),
}


@pytest.mark.parametrize(("image", "pixels"), PICTURES.values(), ids=PICTURES)
@pytest.mark.filterwarnings("error")
def test_pixels_are_kept(run, image, pixels):
    run.log_image("key", [image], step=3, caption=["a caption"])
    event = logged(run, structs.Image)
    (file,) = event.files
    assert (event.key, event.step, file.caption) == ("key", 3, "a caption")
    with Pillow.open(run.dir / file.path) as found:
        assert found.format == "PNG"
        np.testing.assert_array_equal(np.asarray(found), pixels)


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (png(RGB), ".png"),
        (b"\xff\xd8\xff\xe0 a jpeg", ".jpg"),
        (b"GIF89a", ".gif"),
        (b"RIFF....WEBP", ".webp"),
        (bytearray(b"?"), ".bin"),
    ],
)
def test_bytes_of_an_image_are_unchanged(run, data, suffix):
    run.log_image("key", [data])
    path = run.dir / logged(run, structs.Image).files[0].path
    assert (path.read_bytes(), path.suffix) == (bytes(data), suffix)


def test_file_is_copied_as_it_is(run, tmp_path):
    source = tmp_path / "cat.PNG"
    source.write_bytes(png(RGB, compress_level=0))
    run.log_image("key", [source, str(source)], caption=["a", "b"])
    source.unlink()
    files = logged(run, structs.Image).files
    assert [(file.name, file.caption) for file in files] == [("cat.PNG", "a"), ("cat.PNG", "b")]
    assert (run.dir / files[0].path).read_bytes() == png(RGB, compress_level=0)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4, 5)), np.zeros(3), np.zeros((7, 8, 9))], ids=str)
def test_an_invalid_image_is_kept_as_numbers(run, array):
    with pytest.warns(UserWarning, match="kept as raw numbers instead"):
        run.log_image("key", [array])
    np.testing.assert_array_equal(np.load(run.dir / logged(run, structs.Image).files[0].path), array, strict=True)


def test_invalid_images_have_one_warning_for_each_key(run):
    with pytest.warns(UserWarning, match="image 'a': .* kept as raw numbers instead") as caught:
        run.log_image("a", [np.zeros(1), np.zeros(2)])
    run.log_image("a", np.zeros(3))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="image 'b'"):
        run.log_image("b", np.zeros(1))


@pytest.mark.parametrize(
    ("verb", "value", "message"),
    [
        (
            "log_image",
            None,
            "an image is a path, a PIL image, a figure, or an array or tensor of numbers, not NoneType",
        ),
        ("log_figure", None, "a figure must be from matplotlib or plotly, or a path, not None"),
        (
            "log_figure",
            3,
            "a figure must be from matplotlib or plotly, or a path, not int; kept as raw numbers instead",
        ),
    ],
)
def test_a_value_that_is_not_a_picture_causes_one_warning_with_the_accepted_types(run, verb, value, message):
    with pytest.warns(UserWarning, match=message) as warned:
        getattr(run, verb)("key", value)
    assert len(warned) == 1


def test_media_file_is_a_path_and_an_array(run):
    run.log_image("key", [RGB])
    file = logged(run, structs.Image).files[0].under(run.dir)
    assert os.fspath(file) == str(run.dir / logged(run, structs.Image).files[0].path)
    with open(file, "rb") as stream:
        assert stream.read(4) == b"\x89PNG"
    np.testing.assert_array_equal(np.asarray(file), RGB, strict=True)
    assert np.asarray(file, dtype=np.float32).dtype == np.float32


# Sounds


def read_wav(path):
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return file.getframerate(), samples.tolist()


SOUNDS = {
    "float": (np.array([0.0, 0.5, -1.0, 1.0]), [[0], [16384], [-32767], [32767]]),
    "float outside": (np.array([2.0, -2.0, math.nan, math.inf]), [[32767], [-32767], [0], [32767]]),
    "int16": (np.array([1, -32768, 32767], np.int16), [[1], [-32768], [32767]]),
    "int64": (np.array([1, -40000, 32767]), [[1], [-32768], [32767]]),
    "(T, channels)": (np.array([[1, 2], [3, 4], [5, 6]], np.int16), [[1, 2], [3, 4], [5, 6]]),
    "(channels, T)": (np.array([[1, 3, 5], [2, 4, 6]], np.int16), [[1, 2], [3, 4], [5, 6]]),
    "tensor (1, T)": (torch.tensor([[0.0, 1.0]]), [[0], [32767]]),
    "bfloat16": (torch.tensor([0.0, 1.0], dtype=torch.bfloat16), [[0], [32767]]),
    "list": ([0.0, 1.0], [[0], [32767]]),
    "one sample": (np.array([0.5]), [[16384]]),
    "no sample": (np.array([]), []),
}


@pytest.mark.parametrize(("samples", "expected"), SOUNDS.values(), ids=SOUNDS)
@pytest.mark.filterwarnings("error")
def test_samples_are_kept(store, samples, expected):
    file = store.put("audio", samples, "a caption", sample_rate=8000)
    assert read_wav(store.directory / file.path) == (8000, expected)
    assert file.caption == "a caption"


def test_sound_is_logged(run):
    run.log_audio("key", [np.array([0.0, 1.0])], step=3, sample_rate=16_000, caption=["beep"])
    event = logged(run, structs.Audio)
    assert (event.key, event.step, event.files[0].caption) == ("key", 3, "beep")
    assert read_wav(run.dir / event.files[0].path) == (16_000, [[0], [32767]])


def test_default_sample_rate(store):
    assert read_wav(store.directory / store.put("audio", [0.0]).path)[0] == 44_100


@pytest.mark.parametrize(("data", "suffix"), [(b"RIFF..WAVE", ".wav"), (b"fLaC", ".flac"), (b"ID3", ".mp3")])
def test_bytes_of_a_sound_are_unchanged(store, data, suffix):
    path = store.directory / store.put("audio", data).path
    assert (path.read_bytes(), path.suffix) == (data, suffix)


def test_invalid_audio_is_kept_as_numbers(store):
    with pytest.warns(UserWarning, match="audio has the shape"):
        file = store.put("audio", np.zeros((2, 3, 4)))
    assert np.load(store.directory / file.path).shape == (2, 3, 4)


# Videos

FRAMES = np.stack([np.full((4, 6, 3), level, np.uint8) for level in (0, 90, 255)])


def read_gif(path):
    with Pillow.open(path) as image:
        frames = []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append((image.info["duration"], np.asarray(image.convert("RGB"))))
        return frames


@pytest.mark.parametrize(
    "frames",
    [FRAMES, np.moveaxis(FRAMES, -1, 1), torch.from_numpy(FRAMES), FRAMES / 255, FRAMES.astype(np.float32)],
    ids=["uint8", "(T, C, H, W)", "tensor", "0..1", "0..255 floats"],
)
def test_frames_are_kept(store, frames):
    found = read_gif(store.directory / store.put("video", frames, fps=10).path)
    assert [duration for duration, _ in found] == [100, 100, 100]
    np.testing.assert_array_equal([pixels for _, pixels in found], FRAMES)


def test_dark_frame_of_a_bright_video_stays_dark(store):
    frames = np.stack([np.full((4, 6, 3), level, np.float32) for level in (1, 200)])
    assert [pixels.max() for _, pixels in read_gif(store.directory / store.put("video", frames).path)] == [1, 200]


def test_video_is_logged(run):
    run.log_video("key", [FRAMES], step=3, caption=["clip"], fps=None)
    event = logged(run, structs.Video)
    assert (event.key, event.step, event.files[0].caption) == ("key", 3, "clip")
    assert [duration for duration, _ in read_gif(run.dir / event.files[0].path)] == [250, 250, 250]


def test_an_array_with_one_dimension_more_is_a_batch(run):
    images = CHANCE.integers(0, 256, (2, 3, 5, 7), np.uint8)
    run.log_image("images", torch.from_numpy(images), caption=["a", "b"])
    run.log_audio("sounds", np.zeros((4, 2, 100)))
    run.log_video("videos", np.stack([FRAMES, FRAMES]))
    run.log_pointcloud("scans", np.zeros((3, 5, 4)))
    media = rankzero.read_run(run.dir).media
    assert [len(media[key]) for key in ("images", "sounds", "videos", "scans")] == [2, 4, 2, 3]
    assert [each.caption for each in media["images"]] == ["a", "b"]
    for each, image in zip(media["images"], images, strict=True):
        np.testing.assert_array_equal(np.asarray(Pillow.open(each.path)), np.moveaxis(image, 0, -1))


# Points in space


@pytest.mark.parametrize("columns", [3, 4, 6])
def test_point_clouds_are_logged_as_numpy_files(run, columns):
    points = CHANCE.random((5, columns))
    run.log_pointcloud("scan", [points, torch.tensor(points)], step=3, caption=["first", "second"])
    run.log_pointcloud("scan", points, step=4)
    data = rankzero.read_run(run.dir)
    clouds = data.media["scan"]
    assert [(each.kind, each.step, each.caption) for each in clouds] == [
        ("pointcloud", 3, "first"), ("pointcloud", 3, "second"), ("pointcloud", 4, None),
    ]  # fmt: skip
    for each in clouds:
        assert np.array_equal(np.load(each.path), points)
    assert files_line(data) == "3 pointclouds"


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.zeros(3), np.array([["x", "y", "z"]])])
def test_an_invalid_point_cloud_is_kept_as_an_array(store, points):
    with pytest.warns(UserWarning, match="a point cloud is an array of the shape"):
        file = store.put("pointcloud", points)
    assert np.array_equal(np.load(store.directory / file.path), points)


@pytest.mark.parametrize("frames", [np.zeros((0, 4, 4, 3)), np.zeros((4, 4))])
def test_an_invalid_video_is_kept_as_numbers(store, frames):
    with pytest.warns(UserWarning, match="a video has the shape"):
        file = store.put("video", frames)
    assert np.load(store.directory / file.path).shape == frames.shape


@pytest.mark.parametrize(("data", "suffix"), [(b"\0\0\0 ftypisom", ".mp4"), (b"GIF89a", ".gif")])
def test_bytes_of_a_video_are_unchanged(store, data, suffix):
    path = store.directory / store.put("video", data).path
    assert (path.read_bytes(), path.suffix) == (data, suffix)


# Figures


def test_figure(run):
    figure = MatplotlibFigure(figsize=(2, 1), dpi=50, facecolor="red")
    run.log_figure("key", figure, step=3)
    event = logged(run, structs.Figure)
    assert (event.key, event.step) == ("key", 3)
    pixels = np.asarray(event.file.under(run.dir))
    assert pixels.shape == (50, 100, 4)
    assert pixels[0, 0].tolist() == [255, 0, 0, 255]


def test_axes_stand_for_their_figure(store):
    axes = MatplotlibFigure(figsize=(2, 1), dpi=50).subplots()
    assert np.asarray(store.put("figure", axes).under(store.directory)).shape == (50, 100, 4)


def test_figure_among_images(store):
    image = store.put("image", MatplotlibFigure(figsize=(2, 1), dpi=50))
    assert np.asarray(image.under(store.directory)).shape == (50, 100, 4)


def test_plotly_figure_becomes_html(store):
    class Plotly:
        def write_html(self, file):
            file.write("<p>plöt</p>")

    path = store.directory / store.put("figure", Plotly()).path
    assert (path.read_text("utf-8"), path.suffix) == ("<p>plöt</p>", ".html")


# Tables


def test_table_cells_come_back(run):
    picture = Pillow.fromarray(RGB)
    row = [1, 0.1, math.nan, -math.inf, "NaN", None, True, picture, np.float32(0.5), torch.tensor(2), date(2026, 1, 2)]
    run.log_table("key", [f"c{i}" for i in range(len(row))], [row, row], step=3)
    event = logged(run, structs.Table)
    assert (event.key, event.step) == ("key", 3)
    columns, rows = read_table(run.dir / event.file.path)
    assert columns == [f"c{i}" for i in range(len(row))]
    for found in rows:
        np.testing.assert_array_equal(np.asarray(found.pop(7)), RGB, strict=True)
        assert repr(found) == repr([1, 0.1, math.nan, -math.inf, "NaN", None, True, 0.5, 2, "2026-01-02"])
    json.loads((run.dir / event.file.path).read_text(), parse_constant=pytest.fail)  # JSON has no NaN


def test_table_with_pictures_that_were_logged_before(run):
    run.log_image("image", [RGB])
    file = logged(run, structs.Image).files[0].under(run.dir)
    run.log_table("key", ["picture", "figure"], [[file, MatplotlibFigure(figsize=(1, 1), dpi=10)]])
    ((picture, figure),) = read_table(run.dir / logged(run, structs.Table).file.path)[1]
    np.testing.assert_array_equal(np.asarray(picture), RGB)
    assert np.asarray(figure).shape == (10, 10, 4)


@pytest.mark.parametrize(
    "picture",
    [
        np.linspace(0, 1, 28 * 28).reshape(28, 28),
        np.zeros((8, 9, 3)),
        np.full((3, 9, 8), 255, np.uint8),
        torch.rand(1, 28, 28, requires_grad=True),
        np.eye(8, dtype=bool),
    ],
    ids=["floats", "H×W×3", "3×H×W", "tensor", "bools"],
)
def test_an_array_in_a_table_that_looks_like_an_image_is_one(store, picture):
    ((cell,),) = read_table(store.directory / store.table(["a"], [[picture]]).path)[1]
    assert Path(cell.path).read_bytes() == encode_image(picture)[0]


def test_a_picture_in_a_table_that_becomes_csv_is_a_path(store, tmp_path):
    picture = store.put("image", RGB)
    elsewhere = MediaFile(str(tmp_path.parent / "far.png"))
    row = [1, picture.under(store.directory), Pillow.fromarray(RGB), elsewhere]
    (file,) = Media("table", "key", (["a", "b", "c", "d"], [row], None), open_store=lambda: store).files()
    assert Path(file.path).read_text().splitlines() == ["a,b,c,d", f"1,{picture.path},{picture.path},{elsewhere.path}"]


@pytest.mark.parametrize(
    "numbers",
    [
        np.zeros((7, 28)),
        np.full((28, 28), -0.5),
        np.full((28, 28), 256),
        np.full((28, 28), math.nan),
        np.zeros((28, 28, 2)),
        np.zeros(784),
        np.zeros((0, 28)),
        np.zeros((28, 28)).tolist(),
    ],
    ids=["small", "negative", "large", "NaN", "two channels", "vector", "empty", "lists"],
)
def test_any_other_array_in_a_table_stays_numbers(store, numbers):
    ((cell,),) = read_table(store.directory / store.table(["a"], [[numbers]]).path)[1]
    assert cell == to_jsonable(numbers)


@pytest.mark.parametrize("cell", [{"media": 1}, {"media": {}}, {"float": "much"}, {"float": 1}, {"media": {"a": 1}}])
def test_cell_that_looks_like_ours(store, cell):
    file = store.table(["a"], [[cell]])
    assert read_table(store.directory / file.path) == (["a"], [[cell]])


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table], ids=["pandas", "arrow"])
def test_dataframe(run, make):
    run.log_table("key", dataframe=make({"a": [1, 2], "b": [0.5, math.nan], "c": ["x", None]}))
    columns, rows = read_table(run.dir / logged(run, structs.Table).file.path)
    assert columns == ["a", "b", "c"]
    assert repr(rows[0]) == "[1, 0.5, 'x']"
    assert rows[1][0] == 2
    assert math.isnan(rows[1][1])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((pd.DataFrame({"a": [1], "b": [2]}),), (["a", "b"], [[1, 2]])),
        ((None, pd.DataFrame({"a": [1], "b": [2]})), (["a", "b"], [[1, 2]])),
        ((None, [{"a": 1}, {"b": 2}]), (["a", "b"], [[1, None], [None, 2]])),
        ((["b", "a"], [{"a": 1, "b": 2}, [3]]), (["b", "a"], [[2, 1], [3, None]])),
        ((["a"], [[1], [2, 3]]), (["a", "column 1"], [[1, None], [2, 3]])),
    ],
    ids=["dataframe for columns", "dataframe for data", "dictionaries", "dictionaries by column", "ragged rows"],
)
def test_a_table_keeps_every_cell_however_it_is_given(run, given, expected):
    run.log_table("key", *given)
    assert read_table(run.dir / logged(run, structs.Table).file.path) == expected


def test_columns_are_names(store):
    file = store.table([1, "\ud800"], [["a", "b\udcff"]])
    assert read_table(store.directory / file.path) == (["1", "\\ud800"], [["a", "b\\udcff"]])


@pytest.mark.parametrize(("columns", "data"), [(["a"], []), (None, []), ([], [])])
def test_empty_table(run, columns, data):
    run.log_table("key", columns, data)
    assert read_table(run.dir / logged(run, structs.Table).file.path) == (columns or [], [])


# Histograms


@pytest.mark.parametrize(
    "values",
    [[1, 2, 2, 3], np.array([[1, 2], [2, 3]]), torch.tensor([1.0, 2, 2, 3], dtype=torch.bfloat16)],
    ids=["list", "array", "tensor"],
)
def test_histogram(run, values):
    run.log_histogram("key", values, step=3, bins=2)
    event = logged(run, structs.Histogram)
    assert (event.key, event.step) == ("key", 3)
    assert (event.values.counts, event.values.edges) == ([1, 3], [1.0, 2.0, 3.0])


def test_histogram_counts_finite_values():
    found = histogram([math.nan, 1.0, math.inf, 2.0, -math.inf], bins=1)
    assert (found.counts, found.edges, found.non_finite) == ([2], [1.0, 2.0], 3)


@pytest.mark.filterwarnings("ignore:1 values of the histogram")
@pytest.mark.parametrize("values", [[], np.array([math.nan]), torch.zeros(0)], ids=str)
def test_histogram_of_nothing(run, values):
    run.log_histogram("key", values, bins=4)
    event = logged(run, structs.Histogram)
    assert event.values.counts == [0] * 4
    assert len(event.values.edges) == 5


@pytest.mark.parametrize("value", [0.0, -1e20, 1e300])
def test_histogram_of_equal_values(run, value):
    run.log_histogram("key", np.full(10, value))
    values = logged(run, structs.Histogram).values
    assert sum(values.counts) == 10
    assert values.edges[0] <= value <= values.edges[-1]


@pytest.mark.filterwarnings("error")
def test_histogram_of_all_that_a_float_can_hold(run):
    run.log_histogram("key", [-sys.float_info.max, 0.0, sys.float_info.max])
    values = logged(run, structs.Histogram).values
    assert (values.counts, values.edges) == ([3], [-sys.float_info.max, sys.float_info.max])


def test_histogram_of_a_pair(run):
    run.log_histogram("key", (1.0, 2.0), bins=1)
    assert logged(run, structs.Histogram).values.counts == [2]


def test_histogram_counted_by_numpy(run):
    run.log_histogram("key", (np.array([1, 2]), np.array([-math.inf, 0.0, math.inf])))
    values = logged(run, structs.Histogram).values
    assert values.counts == [1, 2]
    assert values.edges == [-sys.float_info.max, 0.0, sys.float_info.max]


# Models and artifacts


def test_graph(run):
    run.log_graph(torch.nn.Sequential(torch.nn.Linear(3, 2)))
    found = json.loads((run.dir / logged(run, structs.Graph).file.path).read_text())
    assert found["parameters"] == 8
    assert found["modules"][1] == {"name": "0", "type": "Linear", "parameters": 8}


def test_artifact_is_copied_now(run, tmp_path):
    source = tmp_path / "data.csv"
    source.write_text("a,b")
    run.log_artifact(source, type="dataset", aliases=["v1"], metadata={"rows": np.int64(1)})
    source.write_text("overwritten")
    event = logged(run, structs.Artifact)
    assert (event.name, event.kind, event.aliases, event.metadata) == ("data.csv", "dataset", ["v1"], {"rows": 1})
    assert (run.dir / event.path).read_text() == "a,b"


@pytest.mark.parametrize("name", ["no-suffix", "archive.tar.gz", "ü ž.txt", "a." + "x" * 200, "a.\udcff"])
def test_any_file_name(run, tmp_path, name):
    (tmp_path / name).write_bytes(b"content")
    run.log_artifact(tmp_path / name)
    event = logged(run, structs.Artifact)
    assert (run.dir / event.path).read_bytes() == b"content"
    assert event.name == name.replace("\udcff", "\\udcff")


# The store


def test_files_are_named_by_their_content(store, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"content")
    (tmp_path / "b.txt").write_bytes(b"content")
    files = [
        store.put_file(tmp_path / "a.txt"),
        store.put_file(tmp_path / "b.txt"),
        store.put_bytes((b"content", ".txt")),
    ]
    digest = hashlib.sha256(b"content").hexdigest()
    assert {file.path for file in files} == {f"media/{digest[:2]}/{digest}.txt"}
    assert files_in(tmp_path) == [tmp_path / files[0].path]


def test_same_image_is_stored_once(run):
    for step in range(3):
        run.log_image("key", [RGB], step=step)
    assert len(files_in(run.dir)) == 1


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_concurrent_writers_and_a_reader(store, tmp_path, kind):
    """What stands under a final name is whole, at every moment."""
    content = os.urandom(3_000_000)
    source = tmp_path / "large.bin"
    source.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    final = tmp_path / "media" / digest[:2] / f"{digest}.bin"
    sizes = set()
    done = threading.Event()

    def put():
        store.put_file(source) if kind == "file" else store.put_bytes((content, ".bin"))

    def look():
        while not done.is_set():
            if final.exists():
                sizes.add(final.stat().st_size)

    writers, reader = [threading.Thread(target=put) for _ in range(8)], threading.Thread(target=look)
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert sizes <= {len(content)}
    assert files_in(tmp_path) == [final]
    assert final.read_bytes() == content


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_no_half_written_file_is_left(store, tmp_path, monkeypatch, kind):
    source = tmp_path / "a.bin"
    source.write_bytes(b"content")

    def fail(*_):
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        store.put_file(source) if kind == "file" else store.put_bytes((b"content", ".bin"))
    assert files_in(tmp_path) == []


def test_growing_file_is_named_by_its_copied_content(store, tmp_path):
    """A log file that is written to while it is copied."""
    source = tmp_path / "train.log"
    source.write_bytes(b"x" * 5_000_000)
    done = threading.Event()

    def grow():
        with source.open("ab", buffering=0) as file:
            while not done.is_set():
                file.write(b"more" * 1000)
                done.wait(0.0005)

    writer = threading.Thread(target=grow)
    writer.start()
    files = [store.put_file(source) for _ in range(5)]
    done.set()
    writer.join()
    for file in files:
        content = (tmp_path / file.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() in file.path


def test_large_file_is_copied_in_little_memory(tmp_path):
    size = 200 << 20
    with open(tmp_path / "large.bin", "wb") as file:
        file.truncate(size)
    script = f"""
import resource
from pathlib import Path
from rankzero.media.store import MediaStore
import hashlib
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
file = MediaStore(Path({str(tmp_path)!r})).put_file({str(tmp_path / "large.bin")!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, Path({str(tmp_path)!r}, file.path).stat().st_size)
"""
    out = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, text=True).stdout
    grown, copied = map(int, out.split())
    assert copied == size
    assert grown < 30_000  # KiB


def test_missing_file_causes_a_warning(run):
    with pytest.warns(UserWarning, match="nowhere.png"):
        run.log_image("key", ["nowhere.png"])
    assert not events_in(run.dir, structs.Image)


# Without the optional libraries

WITHOUT = """
import sys, warnings
for name in sys.argv[2].split(","):
    sys.modules[name] = None
warnings.simplefilter("ignore")
import torch
import rankzero
said = []
warnings.simplefilter("always")
warnings.showwarning = lambda message, *rest: said.append(str(message))
with rankzero.start(dir=sys.argv[1], run_id="r1", delivery="off") as run:
    run.log_image("image", [torch.tensor([[0.25, 0.5]])])
    run.log_audio("audio", [torch.tensor([0.25, 0.5])])
    run.log_metrics({"loss": torch.tensor(0.5)}, 1)
    run.log_table("table", ["a"], [[torch.tensor([1, 2])]])
print("\\n".join(said))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "suffix"), [("PIL", ".npy"), ("PIL,numpy", ".json")])
def test_without_pillow_or_numpy_the_numbers_are_kept(tmp_path, missing, suffix):
    command = [sys.executable, "-c", WITHOUT, tmp_path, missing]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    directory = tmp_path / "default" / "r1"
    found = events_in(directory)
    (image,) = [event for event in found if isinstance(event, structs.Image)]
    (audio,) = [event for event in found if isinstance(event, structs.Audio)]
    path = directory / image.files[0].path
    assert path.suffix == suffix
    numbers = np.load(path) if suffix == ".npy" else json.loads(path.read_text())
    np.testing.assert_array_equal(numbers, [[0.25, 0.5]])
    needed = "Pillow" if suffix == ".npy" else "numpy"
    assert f"need {needed}: pip install 'rankzero[media]'; kept as raw numbers instead" in said
    assert (directory / audio.files[0].path).suffix == (".wav" if suffix == ".npy" else ".json")
    assert [event.numbers() for event in found if isinstance(event, structs.Metrics)] == [{"loss": 0.5}]
    (table,) = [event for event in found if isinstance(event, structs.Table)]
    assert read_table(directory / table.file.path) == (["a"], [[[1, 2]]])


def test_media_file_keeps_its_caption_when_logged_again(store):
    file = store.put("image", RGB, "first").under(store.directory)
    assert store.put("image", file).caption == "first"
    assert store.put("image", file, "second").caption == "second"
    assert isinstance(file, MediaFile)


class SdkPicture:
    """As some SDKs wrap pictures."""

    def __init__(self, image):
        self.image = image


def test_a_picture_in_an_sdks_own_type(tmp_path):
    from PIL import Image

    picture = Image.new("RGB", (2, 3), (1, 2, 3))
    store = MediaStore(tmp_path)
    assert store.put("image", SdkPicture(picture)) == store.put("image", picture)
    table = store.table(["a"], [[SdkPicture(picture)]])
    assert read_table(tmp_path / table.path) == read_table(tmp_path / store.table(["a"], [[picture]]).path)


SLOW_PILLOW = """
import time
print("importing", flush=True)
time.sleep(0.5)

def preinit():
    pass

class fromarray:
    def __init__(self, array):
        pass

    def save(self, file, format):
        file.write(b"picture")
"""


def test_a_fork_while_a_thread_logs_its_first_picture(tmp_path):
    """The child would wait for ever for the import that only its parent goes on with."""
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").touch()
    (tmp_path / "PIL" / "Image.py").write_text(SLOW_PILLOW)
    code = f"""if True:
        import os, signal, sys, threading, time, numpy, rankzero
        run = rankzero.start("csv", dir={str(tmp_path)!r}, delivery="off")
        thread = threading.Thread(target=run.log_image, args=("i", numpy.zeros((2, 2))))
        thread.start()
        while "PIL.Image" not in sys.modules:
            time.sleep(0.01)
        child = os.fork()
        if not child:
            signal.alarm(60)
            run.log_image("i", numpy.zeros((2, 2)))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    (journal,) = (tmp_path / "default").glob(f"*/{JOURNAL}")
    assert len([event for _, event in read_events(journal) if isinstance(event, structs.Image)]) == 2


def test_a_directory_of_stored_files(store):
    files = {"a.txt": store.put_bytes((b"a", ".txt")), "sub/b.bin": store.put_bytes((b"b", ".bin"))}
    path = store.put_directory(files)
    assert store.put_directory(dict(reversed(files.items()))) == path
    found = store.directory / path
    assert {each.relative_to(found).as_posix(): each.read_bytes() for each in found.rglob("*.*")} == {
        "a.txt": b"a",
        "sub/b.bin": b"b",
    }
    assert store.put_directory({"other.txt": files["a.txt"]}) != path


@pytest.mark.parametrize("path", ["../a.txt", "/a.txt", "", "b/../../a.txt"])
def test_a_directory_has_no_file_outside(store, path):
    with pytest.raises(UnsafePathError):
        store.put_directory({path: store.put_bytes((b"a", ".txt"))})

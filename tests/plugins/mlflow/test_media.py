"""Pictures, sounds, videos, figures, texts and histograms: complete, stored once, with any name."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH
from PIL import Image
from plugins.mlflow.tracked import Held

from rankzero.events import structs
from rankzero.events.run_info import LogContext
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaFile, MediaStore
from rankzero.testing.journals import DyingCourier, JournalOf, KilledError
from rankzero.testing.samples import GIF, png, wav

TIME = 1_700_000_000.25
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
ODD_KEYS = ["../x", "a#b?c", "ü", "", "%2e%2e/y", "a/b", "x" * 300]


def encoded(picture, kind="PNG"):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def written(directory, name, data):
    path = directory / name
    path.write_bytes(data)
    return str(path)


def grid(held):
    """Return key → [(step, PIL image)] of MLflow's image grid, from the names of its files."""
    found = {}
    for path in held.files("images"):
        if path.endswith(".png"):
            key, _, step = path.removeprefix("images/").split("+")[:3]
            found.setdefault(key.replace("~", "/"), []).append((int(step), Image.open(io.BytesIO(held.read(path)))))
    return found


# Pictures


def test_a_picture_in_the_grid(on_server, tmp_path):
    on_server.log_image("val/image", [written(tmp_path, "a.png", png())], step=3)
    held = Held(on_server)
    small, whole = held.files("images")
    assert whole.startswith("images/val~image+step+3+timestamp+")
    assert small == f"{whole.removesuffix('.png')}+compressed.webp"
    assert held.read(whole) == png()
    assert Image.open(io.BytesIO(held.read(small))).format == "WEBP"
    assert held.tags["mlflow.loggedImages"] == "True"


def test_several_pictures_with_captions(on_server):
    pictures = [np.full((2, 2, 3), shade, np.uint8) for shade in (0, 100, 200)]
    on_server.log_image("digits", pictures, step=1, caption=["zero", "one", "two"])
    held = Held(on_server)
    shades = {key: np.asarray(picture)[0, 0, 0] for key, [(_, picture)] in grid(held).items()}
    assert shades == {"digits/0": 0, "digits/1": 100, "digits/2": 200}
    (captions,) = held.files("captions")
    assert captions.startswith("captions/digits/step-1-")
    assert held.read_json(captions) == ["zero", "one", "two"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pictures_of_all_kinds_are_unchanged(logger, mode):
    picture = Image.fromarray(np.arange(0, 65536, 257, np.uint16).reshape(16, 16))
    if mode != "I;16":
        picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert(mode)
    logger.log_image("a", [picture], step=0)
    [(_, found)] = grid(Held(logger))["a"]
    assert (found.mode, found.tobytes()) == (picture.mode, picture.tobytes())


def test_the_small_form_of_a_picture_of_16_bits(logger):
    logger.log_image("a", [Image.fromarray(np.full((300, 200), 40_000, np.uint16))])
    held = Held(logger)
    (small,) = [path for path in held.files("images") if path.endswith(".webp")]
    picture = Image.open(io.BytesIO(held.read(small)))
    assert picture.size == (170, 256)
    assert abs(np.asarray(picture).astype(int) - 40_000 // 256).max() <= 2


def test_a_photo_becomes_a_png(logger, tmp_path):
    photo = encoded(Image.fromarray(np.full((4, 4, 3), 77, np.uint8)), "JPEG")
    printed = encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 128)), "JPEG")
    logger.log_image("a", [written(tmp_path, "a.jpg", photo), written(tmp_path, "b.jpg", printed)])
    found = {key: picture for key, [(_, picture)] in grid(Held(logger)).items()}
    assert np.array_equal(np.asarray(found["a/0"]), np.asarray(Image.open(io.BytesIO(photo))))
    assert (found["a/1"].format, found["a/1"].mode) == ("PNG", "RGB")


def test_an_image_that_the_grid_cannot_show_is_a_file(logger, tmp_path):
    files = {"a.gif": GIF, "b.svg": SVG, "c.png": b"broken"}
    logger.log_image("val", [written(tmp_path, name, data) for name, data in files.items()], step=2)
    held = Held(logger)
    found = {path.rpartition(".")[2]: (path.split("/")[:3], held.read(path)) for path in held.files("images")}
    assert found == {
        "gif": (["images", "val", "0"], GIF),
        "svg": (["images", "val", "1"], SVG),
        "png": (["images", "val", "2"], b"broken"),
    }


def test_options_of_other_trackers_are_ignored_with_a_warning(logger):
    with pytest.warns(UserWarning, match="MLflow shows pictures without 'masks'"):
        logger.log_image("a", [np.zeros((2, 2))], masks=[{}])
    logger.log_image("b", [np.zeros((2, 2))], masks=[{}])
    assert set(grid(Held(logger))) == {"a", "b"}


# Files


def test_media_delivered_again_are_stored_once(make_logger, run_info, tmp_path):
    store = MediaStore(Path(run_info.dir))
    picture, sound, film = store.put("image", png()), store.put("audio", wav()), store.put("video", GIF)
    table = store.table(["a"], [[1]])
    logged = [
        structs.Image(TIME, "image", [picture, picture], 1),
        structs.Audio(TIME, "sound", [sound], 1),
        structs.Video(TIME, "film", [film], 1),
        structs.Figure(TIME, "figure", picture, 1),
        structs.Table(TIME, "table", table, 1),
        structs.Text(TIME, "text", ["value"], [["a"]], 1),
        structs.Histogram(TIME, "histogram", Histogram([1], [0.0, 1.0]), 1),
    ]
    journal = JournalOf(run_info)
    journal.add(*logged)
    with pytest.raises(KilledError):
        journal.deliver(make_logger, courier=DyingCourier)
    held = Held(journal.last)
    first = {path: held.read(path) for path in held.files()}
    journal.deliver(make_logger)
    assert {path: held.read(path) for path in held.files()} == first
    assert {path.partition("/")[0] for path in first} == {
        "audio", "figures", "histograms", "images", "tables", "texts", "videos"
    }  # fmt: skip
    assert len(first) == 2 * 2 + 6
    assert len(json.loads(held.tags["mlflow.loggedArtifacts"])) == 1


def test_one_step_logged_twice_in_a_moment_keeps_both(make_logger, run_info, tmp_path):
    store = MediaStore(Path(run_info.dir))
    pictures = [store.put("image", np.full((2, 2), shade, np.uint8)) for shade in (0, 255)]
    journal = JournalOf(run_info)
    for picture, text in zip(pictures, ["a", "b"], strict=True):
        journal.add(
            structs.Image(TIME, "key", [picture], 1),
            structs.Figure(TIME, "key", picture, 1),
            structs.Text(TIME, "key", ["value"], [[text]], 1),
        )
    journal.deliver(make_logger)
    held = Held(journal.last)
    assert sorted(np.asarray(picture)[0, 0] for _, picture in grid(held)["key"]) == [0, 255]
    assert len(held.files("figures")) == 2
    assert sorted(held.read(path) for path in held.files("texts")) == [b"a", b"b"]


def test_direct_use_keeps_both_too(logger):
    for text in ("a", "b", "c"):
        logger.log_text("key", ["value"], [[text]], step=1)
    held = Held(logger)
    assert sorted(held.read(path) for path in held.files("texts")) == [b"a", b"b", b"c"]


def test_keys_that_are_not_paths(on_server, tmp_path):
    sound = written(tmp_path, "a.wav", wav())
    for index, key in enumerate(ODD_KEYS):
        on_server.log_image(key, [np.full((2, 2), index, np.uint8)], step=index)
        on_server.log_audio(key, [sound], step=index)
        on_server.log_text(key, ["value"], [[key]], step=index)
    held = Held(on_server)
    assert sorted(int(np.asarray(picture)[0, 0]) for [(_, picture)] in grid(held).values()) == list(
        range(len(ODD_KEYS))
    )
    assert [held.read(path) for path in held.files("audio")] == [wav()] * len(ODD_KEYS)
    assert {held.read(path).decode() for path in held.files("texts")} == set(ODD_KEYS)
    assert any(path.startswith("texts/ü/step-2-") for path in held.files("texts"))


def test_figures(logger):
    figure = Figure()
    figure.subplots().plot([1, 2])
    logger.log_figure("curve", figure, step=5)
    logger.log_figure("interactive", PlotlyFigure(), step=5)
    held = Held(logger)
    curve, interactive = held.files("figures")
    assert curve.startswith("figures/curve/step-5-")
    assert Image.open(io.BytesIO(held.read(curve))).format == "PNG"
    assert interactive.endswith(".html")
    assert held.read(interactive) == b"<html>plot</html>"


class PlotlyFigure:
    """Replaces a figure of plotly for `log_figure`."""

    def write_html(self, file):
        file.write("<html>plot</html>")


def test_sounds_and_videos(logger, tmp_path):
    logger.log_audio(
        "noise", [written(tmp_path, "a.wav", wav()), np.zeros(80)], step=1, caption=["a", "b"], sample_rate=8000
    )
    logger.log_video("film", [written(tmp_path, "a.gif", GIF)], step=2)
    held = Held(logger)
    first, second = held.files("audio")
    assert first.endswith("-0.wav")
    assert held.read(first) == wav()
    assert held.read(second).startswith(b"RIFF")
    (film,) = held.files("videos")
    assert held.read(film) == GIF
    assert held.read_json(held.files("captions")[0]) == ["a", "b"]


def test_histogram_and_graph(logger, tmp_path):
    logger.log_histogram("weights", [0.0, 0.5, 1.0], step=3, bins=2)
    graph = written(tmp_path, "graph.json", b'{"text":"Model(2)","modules":[],"parameters":2}')
    logger.log_graph(MediaFile(graph))
    held = Held(logger)
    assert held.files("graph") == ["graph/model.json", "graph/model.txt"]
    assert held.read("graph/model.txt") == b"Model(2)"
    assert held.read_json("graph/model.json")["parameters"] == 2
    (histogram,) = held.files("histograms")
    counted = held.read_json(histogram)
    assert (counted["counts"], counted["edges"]) == ([1, 2], [0.0, 0.5, 1.0])


def test_no_files_are_left_on_this_machine(make_logger, mlflow_server, monkeypatch, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    logger = make_logger(tracking_uri=mlflow_server.uri)
    for step in range(3):
        logger.log_image("a", [np.zeros((2, 2))], step=step)
        assert list(scratch.iterdir()) == []


# Tables


@pytest.fixture
def load_table(monkeypatch):
    """Read a table with MLflow's own function, as a dataframe."""

    def load(logger, path):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", logger.tracking_uri)
        return Held(logger).client.load_table(logger.experiment_id, path, [logger.run_id])

    return load


def test_mlflow_reads_the_table(on_server, load_table):
    rows = [[1, "one", 0.5], [2, "zwei, „drei“", float("nan")], [3, "", float("inf")]]
    on_server.log_table("val/rows", ["n", "text", "value"], rows, step=4)
    (path,) = Held(on_server).files("tables")
    assert path.startswith("tables/val/rows/step-4-")
    table = load_table(on_server, path)
    assert table.columns.tolist() == ["n", "text", "value"]
    assert str(table.to_numpy().tolist()) == str(rows)


def test_pictures_in_cells(on_server, load_table):
    picture = Image.fromarray(np.full((2, 2), 9, np.uint8))
    on_server.log_table("predictions", ["image", "digit"], [[picture, 3]], step=0)
    held = Held(on_server)
    (path,) = [path for path in held.files("tables") if path.endswith(".json")]
    [[cell, digit]] = load_table(on_server, path).to_numpy().tolist()
    assert (cell["type"], digit) == ("image", 3)
    assert Image.open(io.BytesIO(held.read(cell["filepath"]))).tobytes() == picture.tobytes()


def test_a_hundred_tables(logger, load_table):
    for step in range(100):
        with logger.at(LogContext(TIME + step, step)):
            logger.log_table("a", ["n"], [[step]], step=step)
    held = Held(logger)
    assert len(held.files("tables")) == 100
    tag = held.tags["mlflow.loggedArtifacts"]
    assert len(tag) <= 5000 < MAX_TAG_VAL_LENGTH
    shown = [entry["path"] for entry in json.loads(tag)]
    assert shown[-1] == "tables/a/step-99-99.json"
    assert len(shown) > 50
    assert load_table(logger, shown[-1]).to_numpy().tolist() == [[99]]


def test_texts(logger):
    logger.log_text("notes", ["value"], [["Grüße\n"]], step=1)
    logger.log_text("pairs", ["in", "out"], [["a", "b"]], step=1)
    held = Held(logger)
    notes, pairs = held.files("texts")
    assert notes.endswith(".txt")
    assert held.read(notes).decode() == "Grüße\n"
    assert held.read_json(pairs) == {"columns": ["in", "out"], "data": [["a", "b"]]}

"""Delivery of pictures, texts, tables and files."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from servers.neptune_mock.attributes import Series

STEP = 7


@pytest.fixture
def stored(server, attached):
    """Flush the logger, and return the stored run."""

    def stored():
        attached.flush()
        return server.run(attached.run_info.id)

    return stored


def rows(content):
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.full((4, 4, 3), 3, np.uint8),
        np.arange(16, dtype=np.uint8).reshape(4, 4),
        np.arange(64, dtype=np.uint8).reshape(4, 4, 4),
    ],
    ids=["black", "dark", "grey", "transparent"],
)
def test_pictures_keep_their_pixels(attached, stored, pixels):
    attached.log_image("picture", [pixels], step=STEP, caption=["a caption"])
    ((image, step, _),) = stored().series("training/picture")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.content))), pixels)
    assert (step, image.description) == (STEP, "a caption")


def test_a_png_file_keeps_its_bytes_and_others_their_pixels(attached, stored, tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for name in ("a.png", "a.bmp"):
        Image.fromarray(pixels).save(tmp_path / name)
        attached.log_image(name, [tmp_path / name], step=0)
    run = stored()
    assert run.series("training/a.png")[0].value.content == (tmp_path / "a.png").read_bytes()
    converted = Image.open(io.BytesIO(run.series("training/a.bmp")[0].value.content))
    assert converted.format == "PNG"
    assert np.array_equal(np.asarray(converted), pixels)


def test_several_pictures_of_a_step_are_series_beside_each_other(attached, stored):
    pixels = [np.full((2, 2), value, np.uint8) for value in (1, 2, 3)]
    for step in range(2):
        attached.log_image("picture", pixels, step=step, caption=["a", "b", "c"])
    run = stored()
    names = ["training/picture", "training/picture_2", "training/picture_3"]
    assert [name for name, each in run.logged.items() if isinstance(each, Series)] == names
    for name, caption in zip(names, "abc", strict=True):
        assert [(step, image.description) for image, step, _ in run.series(name)] == [(0, caption), (1, caption)]


@pytest.mark.parametrize("reopened", [False, True])
def test_a_picture_of_a_late_step_is_a_file(attached, stored, reopened):
    attached.log_image("picture", [np.zeros((2, 2), np.uint8)], step=5)
    if reopened:
        attached.close()
    attached.log_image("picture", [np.ones((2, 2), np.uint8)], step=3)
    run = stored()
    assert [step for _, step, _ in run.series("training/picture")] == [5]
    assert np.asarray(Image.open(io.BytesIO(run.file("training/picture_files/step_3")))).max() == 1


def test_a_picture_that_pillow_cannot_read_is_a_file(attached, stored, tmp_path):
    (tmp_path / "drawing.svg").write_text("<svg/>")
    attached.log_image("drawing", [tmp_path / "drawing.svg"], step=1)
    assert stored().file("training/drawing_files/step_1") == b"<svg/>"


def test_figures_are_pictures_or_pages(attached, stored, tmp_path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    attached.log_figure("plot", figure, step=2)
    (tmp_path / "page.html").write_text("<p>plot</p>")
    attached.log_figure("page", tmp_path / "page.html", step=2)
    run = stored()
    assert run.series("training/plot")[0].value.content.startswith(b"\x89PNG")
    assert run.file("training/page/step_2") == b"<p>plot</p>"
    assert run.logged["training/page/step_2"].ext == "html"


def test_tables_are_csv_files_and_pictures_in_them_files_beside(attached, stored):
    attached.log_table("table", ["a", "b"], [[1, "x,y"], [2.5, np.zeros((2, 2, 3), np.uint8).tolist()]], step=STEP)
    attached.log_table("pictures", ["a"], [[Image.new("L", (2, 2), 9)]])
    run = stored()
    assert rows(run.file(f"training/table/step_{STEP}"))[:2] == [["a", "b"], ["1", "x,y"]]
    (path,) = (path for path in run.logged if path.startswith("training/pictures/no_step_") and "_cells" not in path)
    assert rows(run.file(path)) == [["a"], [f"{path}_cells/0_0"]]
    picture = run.file(f"{path}_cells/0_0")
    assert np.asarray(Image.open(io.BytesIO(picture))).tolist() == [[9, 9], [9, 9]]


def test_texts_are_series(attached, stored):
    attached.log_text("said", ["text"], [["hello"]], step=1)
    attached.log_text("said", ["text"], [["bye"]], step=2)
    attached.log_text("talk", ["who", "what"], [["a", "hello, you"], ["b", "bye"]], step=1)
    run = stored()
    assert [(text, step) for text, step, _ in run.series("training/said")] == [("hello", 1), ("bye", 2)]
    ((text, _, _),) = run.series("training/talk")
    assert rows(text.encode()) == [["who", "what"], ["a", "hello, you"], ["b", "bye"]]


def test_a_long_text_is_whole_in_a_file(attached, stored):
    text = "".join(f"line {number}\n" for number in range(1000))
    with pytest.warns(
        UserWarning, match="1,000 characters in a series: all of 'training/said' is in 'training/said_whole/step_1'"
    ):
        attached.log_text("said", ["text"], [[text]], step=1)
    run = stored()
    assert run.series("training/said")[0].value == text[:1000]
    assert run.file("training/said_whole/step_1") == text.encode()


def test_histograms_keep_their_counts(attached, stored):
    attached.log_histogram("weights", [0.0, 0.5, 0.5, 1.0], step=1, bins=2)
    assert rows(stored().file("training/weights/step_1")) == [
        ["from", "to", "count"],
        ["0.0", "0.5", "1"],
        ["0.5", "1.0", "3"],
    ]


def test_an_artifact_with_its_details(attached, stored, tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    files = {"a.txt": b"a", "a.json": b"{}", "sub/b.bin": bytes(range(256))}
    for name, content in files.items():
        (tmp_path / "data" / name).write_bytes(content)
    details = {"type": "dataset", "aliases": ["v1"], "metadata": {"rows": 3, "of": {"who": "me"}}}
    attached.log_artifact(tmp_path / "data", name="digits", **details)
    attached.log_artifact(tmp_path / "data" / "sub" / "b.bin", name="one")
    run = stored()
    begin = "training/artifacts/digits"
    assert {name: run.file(f"{begin}/files/{name}") for name in files} == files
    assert run.value(f"{begin}/type") == "dataset"
    assert run.strings(f"{begin}/aliases") == {"v1"}
    assert run.values(f"{begin}/metadata/") == {"rows": 3, "of/who": "me"}
    assert run.file("training/artifacts/one/file") == bytes(range(256))
    (tmp_path / "data" / "a.txt").unlink()
    attached.log_artifact(tmp_path / "data", name="digits")
    assert f"{begin}/files/a.txt" not in stored().logged


def test_a_missing_file_is_an_error_of_the_event(attached, tmp_path):
    with pytest.raises(FileNotFoundError):
        attached.log_artifact(tmp_path / "gone.txt")
    attached.flush()


def test_pictures_with_other_errors_in_pillow_are_files(attached, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (8, 8)).save(tmp_path / "bomb.bmp")
    (tmp_path / "broken.ppm").write_bytes(b"P6 x 2 255\n")
    attached.log_metrics({"loss": 1.0}, step=0)
    for name in ("bomb.bmp", "broken.ppm"):
        attached.log_image(name, [tmp_path / name], step=0)
    run = stored()
    assert run.series("training/loss")
    for name in ("bomb.bmp", "broken.ppm"):
        assert run.file(f"training/{name}_files/step_0") == (tmp_path / name).read_bytes()


def test_late_pictures_of_large_steps_are_separate_files(attached, stored):
    steps = [2_000_000, 1_234_567, 1_234_568]
    for step in steps:
        attached.log_image("picture", [np.full((2, 2), step % 200, np.uint8)], step=step)
    run = stored()
    for step in steps[1:]:
        pixels = np.asarray(Image.open(io.BytesIO(run.file(f"training/picture_files/step_{step}"))))
        assert pixels.max() == step % 200


def test_tables_without_a_step_do_not_overwrite_each_other(attached, stored):
    for number in range(3):
        attached.log_table("t", ["a"], [[number]])
    run = stored()
    found = [rows(run.file(path)) for path in run.logged if path.startswith("training/t/no_step_")]
    assert sorted(found) == [[["a"], [str(number)]] for number in range(3)]


def test_a_directory_logged_twice_is_replaced(attached, stored, tmp_path):
    for directory, names in (("first", "ab"), ("second", "a")):
        (tmp_path / directory).mkdir()
        for name in names:
            (tmp_path / directory / name).write_text(directory)
        attached.log_artifact(tmp_path / directory, name="data")
    run = stored()
    begin = "training/artifacts/data/files/"
    assert {path: run.file(path) for path in run.logged if path.startswith(begin)} == {f"{begin}a": b"second"}

"""Delivery of pictures, sounds, videos, figures, histograms and models."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from rankzero.events.run_info import LogContext
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaFile
from rankzero.testing.samples import GIF, png

RANDOM = np.random.default_rng(1)
COLOURED = RANDOM.integers(0, 256, (4, 6, 3), np.uint8)
GRAY = RANDOM.integers(0, 256, (5, 7), np.uint8)
FAINT = RANDOM.integers(50, 101, (6, 6, 3), np.uint8)
BLACK = np.zeros((4, 4, 3), np.uint8)
DEEP = RANDOM.integers(0, 65_536, (4, 4), np.uint16)
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(range(256))
PAGE = "<html><body>Grüße</body></html>"
PICTURES = {
    "faint": (FAINT, FAINT),
    "black": (BLACK, BLACK),
    "gray": (GRAY, GRAY),
    "16 bit": (Image.fromarray(DEEP), DEEP),
}


class PlotlyFigure:
    """Replaces a figure of plotly for `log_figure`."""

    def write_html(self, file):
        file.write(PAGE)


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def written(directory, name, data):
    path = directory / name
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def only(stored):
    """Return the only stored file."""

    def find():
        (asset,) = stored().assets
        return asset

    return find


# Pictures


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_in_pixels(attached, only, kind):
    given, expected = PICTURES[kind]
    attached.log_image("val/a b ü", [given], step=3)
    sent = only()
    assert (sent.type, sent.name, sent.step) == ("image", "val/a b ü.png", 3)
    assert np.array_equal(pixels(sent.content), expected)
    assert pixels(sent.content).dtype == expected.dtype


def test_pictures_that_are_files_keep_their_bytes(attached, stored, tmp_path):
    jpeg = io.BytesIO()
    Image.fromarray(COLOURED).save(jpeg, "JPEG")
    paths = [written(tmp_path, "a.jpg", jpeg.getvalue()), Path(written(tmp_path, "b.png", png()))]
    attached.log_image("paths", paths, step=2)
    assert [(each.name, each.content) for each in stored().images] == [
        ("paths_0.jpg", jpeg.getvalue()), ("paths_1.png", png())
    ]  # fmt: skip


def test_several_with_captions_epoch_and_time(attached, stored):
    with attached.at(LogContext(1_700_000_000.5, epoch=4)):
        attached.log_image("many", [COLOURED, GRAY], step=1, caption=["one", "zwei"])
    first, second = stored().images
    assert [first.metadata, second.metadata] == [
        {"caption": "one", "logged_at": 1_700_000_000.5}, {"caption": "zwei", "logged_at": 1_700_000_000.5}
    ]  # fmt: skip
    assert {(each.step, each.epoch) for each in (first, second)} == {(1, 4)}
    assert [pixels(each.content).shape for each in (first, second)] == [COLOURED.shape, GRAY.shape]
    assert first.fields["imageId"] != second.fields["imageId"]


def test_annotations(attached, stored):
    layers = [{"name": "truth", "data": [{"label": "cat", "boxes": [[0, 1, 2, 3]], "points": None, "score": 0.5}]}]
    attached.log_image("boxes", [COLOURED, COLOURED], step=1, annotations=[layers, None])
    first, second = stored().images
    assert first.metadata["annotations"] == layers
    assert "annotations" not in second.metadata


def test_annotations_are_one_for_each_picture(attached):
    with pytest.raises(ValueError, match="2 pictures of 'boxes' were logged with 1 annotations"):
        attached.log_image("boxes", [COLOURED, COLOURED], annotations=[[]])


def test_a_broken_picture_is_kept_as_it_is(attached, only, tmp_path):
    attached.log_image("broken", [written(tmp_path, "c.tiff", b"broken")], step=1)
    assert (only().type, only().name, only().content) == ("asset", "broken.tiff", b"broken")


# Sounds, videos


def test_videos_that_are_files_keep_their_bytes(attached, stored, tmp_path):
    attached.log_video("film", [written(tmp_path, "a.gif", GIF), written(tmp_path, "a.mp4", MP4)], step=4)
    assert [(each.type, each.name, each.step, each.content) for each in stored().assets] == [
        ("video", "film_0.gif", 4, GIF), ("video", "film_1.mp4", 4, MP4)
    ]  # fmt: skip


# Figures


def test_a_matplotlib_figure_is_a_picture(attached, only):
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 3, 2])
    attached.log_figure("plot", figure, step=5)
    assert (only().type, only().name, only().step) == ("image", "plot.png", 5)
    assert pixels(only().content).shape == (50, 100, 4)


def test_a_page_is_kept_and_shown(attached, only, stored):
    with attached.at(LogContext(2.5)):
        attached.log_figure("plotly", PlotlyFigure(), step=5)
    assert (only().type, only().name, only().step) == ("asset", "plotly.html", 5)
    assert only().content.decode() == PAGE
    assert [(shown.text, shown.time) for shown in stored().pages] == [(PAGE, 2_500)]


def test_a_large_page_is_only_kept(attached, only, stored, tmp_path):
    (tmp_path / "page.html").write_text("<p>" * 400_000)
    attached.log_figure("page", tmp_path / "page.html")
    assert (len(only().content), stored().pages) == (1_200_000, [])


# Histograms


def read_by_comet(asset):
    """Return the file as Comet's own `Histogram`."""
    from comet_ml.data_structure import Histogram as CometHistogram

    return CometHistogram.from_json(json.loads(asset.content))


def test_a_histogram_has_comets_form_and_the_exact_counts(attached, only):
    attached.log_histogram("w/1", Histogram([3, 0, 2], [-1.0, 1.0, 2.0, 4.0], 7), step=6)
    assert (only().type, only().name, only().step) == ("histogram3d", "w/1.json", 6)
    kept = only().metadata
    assert (kept["counts"], kept["edges"], kept["non_finite"]) == ([3, 0, 2], [-1.0, 1.0, 2.0, 4.0], 7)
    drawn = read_by_comet(only())
    assert int(sum(drawn.counts)) == 5
    assert int(drawn.counts[drawn.get_bin_index(0.0)]) == 3
    assert int(drawn.counts[drawn.get_bin_index(3.0)]) == 2


def test_values_in_bins(attached, only):
    values = torch.tensor(RANDOM.normal(size=(50, 20)))
    attached.log_histogram("w", values, step=6, bins=30)
    counts, edges = np.histogram(values.numpy(), bins=30)
    assert only().metadata["counts"] == counts.tolist()
    assert only().metadata["edges"] == edges.tolist()
    drawn = read_by_comet(only())
    assert int(sum(drawn.counts)) == 1000
    centres = (edges[1:] + edges[:-1]) / 2
    for centre, count in zip(centres, counts, strict=True):
        assert drawn.counts[drawn.get_bin_index(centre)] >= count


@pytest.mark.parametrize(
    ("values", "non_finite"), [([], 0), ([math.nan] * 3, 3), ([math.inf, -math.inf], 2)], ids=["empty", "NaN", "Inf"]
)
def test_an_empty_histogram(attached, only, values, non_finite):
    attached.log_histogram("w", values, step=6)
    assert sum(only().metadata["counts"]) == 0
    assert only().metadata.get("non_finite", 0) == non_finite
    assert sum(read_by_comet(only()).counts) == 0


def test_a_histogram_of_great_and_equal_values(attached, stored):
    attached.log_histogram("great", [1e300, -1e300], step=6)
    attached.log_histogram("equal", [2.0] * 5, step=6)
    great, equal = stored().assets
    assert (sum(great.metadata["counts"]), sum(equal.metadata["counts"])) == (2, 5)
    assert sum(read_by_comet(equal).counts) == 5


# Models


def test_the_structure_of_a_model(attached, stored, tmp_path):
    graph = {"text": "Linear(2, 3)", "modules": [], "parameters": 9}
    path = written(tmp_path, "graph.json", json.dumps(graph).encode())
    attached.log_graph(MediaFile(path))
    assert stored().graph == "Linear(2, 3)"
    (kept,) = stored().files("graph.json")
    assert json.loads(kept.content) == graph


def test_a_model_itself(attached, stored):
    model = torch.nn.Linear(2, 3)
    attached.log_graph(model)
    assert stored().graph == str(model)

"""Delivery of tables and texts: every cell, and pictures in cells."""

import csv
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rankzero.media.store import MediaFile
from rankzero.testing.samples import png

PICTURE = np.random.default_rng(2).integers(0, 256, (4, 5, 3), np.uint8)
FRAME = pd.DataFrame(
    {"n": [1, 2], "x": [0.5, math.nan], "text": ["ü", None], "when": pd.to_datetime(["2026-01-02"] * 2)}
)


@pytest.fixture
def table(stored):
    """Return the columns and rows of the only table with a key."""

    def find(key):
        (asset,) = stored().files(f"{key}.csv")
        assert asset.type == "asset"
        columns, *rows = csv.reader(io.StringIO(asset.content.decode(), newline=""))
        return columns, rows

    return find


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_plain_values(attached, table, stored):
    attached.log_table("a/b c", ["n", "ü #"], [[1, "eins, „zwei“\nund 'drei'"], [2**53 + 1, ""], [-1e300, '"']], step=1)
    assert table("a/b c") == (
        ["n", "ü #"], [["1", "eins, „zwei“\nund 'drei'"], [str(2**53 + 1), ""], ["-1e+300", '"']]
    )  # fmt: skip
    assert [(each.name, each.step) for each in stored().assets] == [("a/b c.csv", 1)]


def test_odd_values(attached, table):
    attached.log_table("odd", ["x"], [[math.nan], [math.inf], [None], [True], [np.float32(0.5)], [np.int64(3)]])
    assert table("odd")[1] == [["NaN"], ["Infinity"], [""], ["True"], ["0.5"], ["3"]]


def test_nested_values_are_json(attached, table):
    attached.log_table("nested", ["x"], [[[1, "a"]], [{"a": {"b": [True, None]}}], [np.arange(2)]])
    assert [json.loads(cell) for (cell,) in table("nested")[1]] == [[1, "a"], {"a": {"b": [True, None]}}, [0, 1]]


def test_pictures_in_cells(attached, table, stored, tmp_path):
    (tmp_path / "c.png").write_bytes(png())
    figure = Figure(figsize=(2, 1), dpi=50)
    cells = [Image.fromarray(PICTURE), MediaFile(str(tmp_path / "c.png")), figure]
    attached.log_table("t", ["picture", "n"], [[cell, number] for number, cell in enumerate(cells)], step=4)
    names = ["t_0_0.png", "t_1_0.png", "t_2_0.png"]
    assert table("t") == (["picture", "n"], [[name, str(number)] for number, name in enumerate(names)])
    assert [(each.name, each.step) for each in stored().images] == [(name, 4) for name in names]
    drawn, copied, plotted = [each.content for each in stored().images]
    assert np.array_equal(pixels(drawn), PICTURE)
    assert copied == png()
    assert pixels(plotted).shape == (50, 100, 4)


# Texts


@pytest.mark.parametrize("text", ["Grüße 🦉", "", "x" * 200_000, "a\r\nb\n", "<b>"])
def test_one_text(attached, stored, text):
    attached.log_text("note/1", ["value"], [[text]], step=6)
    (sample,) = stored().assets
    assert (sample.type, sample.step, sample.metadata["key"]) == ("text-sample", 6, "note/1")
    assert sample.content.decode() == text


def test_a_text_with_invalid_unicode(attached, stored):
    attached.log_text("note", ["value"], [["a\ud800b"]])
    assert stored().assets[0].content == b"a?b"


def test_several_texts_are_a_table(attached, table):
    attached.log_text("text", ["in", "out"], iter([["a", "b"], ["c\n", "🦉"]]), step=6)
    attached.log_text("texts of a frame", dataframe=FRAME[["text"]], step=6)
    assert table("text") == (["in", "out"], [["a", "b"], ["c\n", "🦉"]])
    assert table("texts of a frame")[0] == ["text"]

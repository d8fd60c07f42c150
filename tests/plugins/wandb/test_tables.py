"""Tables and texts: every cell, pictures and sounds in cells, and tables of any length."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
import wandb
from matplotlib.figure import Figure
from PIL import Image
from plugins.wandb.delivered import Delivered, rows, table_in, wandb_server
from waiting import A_WHILE

from rankzero.media.store import MediaFile
from rankzero.testing.faults import status
from rankzero.testing.samples import GIF, png, wav

PICTURE = np.random.default_rng(2).integers(0, 256, (4, 5, 3), np.uint8)
FRAME = pd.DataFrame(
    {"n": [1, 2], "x": [0.5, math.nan], "text": ["ü", None], "when": pd.to_datetime(["2026-01-02"] * 2)}
)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tables")
    with wandb_server(directory) as server:
        yield Delivered(server, directory)


def log_everything(run):
    run.log_table("plain", ["n", "text", "x"], [[1, "eins, „zwei“", 0.1], [2**53 + 1, "", -1e300]], step=1)
    run.log_table("odd", ["x"], [[math.nan], [math.inf], [-math.inf], [None], [np.float32(0.5)]], step=2)
    run.log_table("mixed", ["any"], [[1], ["one"], [True], [None], [[1, "a"]], [{"a": {"b": [1]}}], [math.nan]])
    run.log_table("frame", dataframe=FRAME, step=3)
    run.log_table("pictures", ["picture", "n"], [[Image.fromarray(PICTURE), 1], [Image.new("L", (2, 2), 7), 2]], step=4)
    run.log_table("mixed_pictures", ["picture"], [[Image.fromarray(PICTURE)], ["none"]], step=4)
    run.log_table("plot", ["figure"], [[a_figure()]], step=4)
    run.log_table("empty", ["a", "b"], [], step=5)
    run.log_table("a/b c", ["ü #", "a.b"], [[1, 2]], step=5)
    run.log_text("text", ["in", "out"], [["a", "b"], ["c\n", "🦉"]], step=6)
    run.log_text("text of a frame", dataframe=FRAME[["text"]], step=6)


def a_figure():
    figure = Figure()
    figure.subplots().plot([1, 3, 2])
    return figure


@pytest.fixture(scope="module", params=["run", "directly"])
def stored(request, delivered):
    if request.param == "directly":
        return delivered.directly(log_everything)
    return delivered.run(log_everything)[1]


@pytest.fixture
def artifact(stored, delivered):
    """Return (columns, rows, column types) of a table as an artifact, and the artifact's files."""

    def find(key):
        return as_artifact(delivered.server, stored, key)

    return find


def as_artifact(server, stored, key):
    files = server.artifact(f"run-{stored.id}-{key}:latest", "p").files
    table = json.loads(files[f"{key}.table.json"])
    types = table["column_types"]["params"]["type_map"]
    return table["columns"], table["data"], {name: kinds_in(each) for name, each in types.items()}, files


def kinds_in(column):
    each = column["params"].get("allowed_types", [column]) if "params" in column else [column]
    return {kind["wb_type"] for kind in each}


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_plain_values(stored, artifact):
    expected = (["n", "text", "x"], [[1, "eins, „zwei“", 0.1], [2**53 + 1, "", -1e300]])
    assert table_in(stored, "plain") == expected
    columns, data, kinds, _ = artifact("plain")
    assert (columns, data) == expected
    assert kinds == {"n": {"number", "none"}, "text": {"string", "none"}, "x": {"number", "none"}}
    assert rows(stored, "plain")[0]["trainer/global_step"] == 1


def test_a_column_with_nan_and_infinity_stays_numeric(stored, artifact):
    columns, data = table_in(stored, "odd")
    assert (columns, str(data)) == (["x"], "[[nan], [inf], [-inf], [None], [0.5]]")
    assert artifact("odd")[2] == {"x": {"number", "none"}}


def test_mixed_and_nested_values(stored, artifact):
    _, data = table_in(stored, "mixed")
    expected = [[1], ["one"], [True], [None], [[1, "a"]], [{"a": {"b": [1]}}]]
    assert data[:-1] == expected
    assert math.isnan(data[-1][0])
    assert artifact("mixed")[1][:-1] == expected


def test_a_dataframe(stored):
    columns, data = table_in(stored, "frame")
    assert columns == ["n", "x", "text", "when"]
    assert str(data) == f"[[1, 0.5, 'ü', '2026-01-02T00:00:00'], [2, nan, {data[1][2]}, '2026-01-02T00:00:00']]"
    assert data[1][2] is None or math.isnan(data[1][2])


def test_pictures_in_cells(stored, artifact):
    _, data, kinds, files = artifact("pictures")
    [[first, one], [second, two]] = data
    assert (one, two, first["_type"]) == (1, 2, "image-file")
    assert np.array_equal(pixels(files[first["path"]]), PICTURE)
    assert np.array_equal(pixels(files[second["path"]]), np.full((2, 2), 7, np.uint8))
    assert kinds["picture"] == {"image-file", "none"}


def test_pictures_beside_texts_in_a_column(artifact):
    _, [[picture], [text]], _, files = artifact("mixed_pictures")
    assert text == "none"
    assert np.array_equal(pixels(files[picture["path"]]), PICTURE)


def test_a_plot_in_a_cell(artifact):
    _, [[plot]], _, files = artifact("plot")
    assert pixels(files[plot["path"]]).shape[:2] == (480, 640)


def test_an_empty_table(stored):
    assert table_in(stored, "empty") == (["a", "b"], [])


def test_odd_names(stored):
    assert table_in(stored, "a/b c") == (["ü #", "a.b"], [[1, 2]])


def test_texts(stored):
    assert table_in(stored, "text") == (["in", "out"], [["a", "b"], ["c\n", "🦉"]])
    columns, data = table_in(stored, "text of a frame")
    assert (columns, data[0]) == (["text"], ["ü"])
    assert rows(stored, "text")[0]["trainer/global_step"] == 6


def test_one_text(delivered):
    _, stored = delivered.run(lambda run: run.log_text("note", "Grüße"))
    assert table_in(stored, "note") == (["text"], [["Grüße"]])


def test_files_and_objects_of_w_and_b_in_cells(delivered, tmp_path):
    def file(name, data):
        (tmp_path / name).write_bytes(data)
        return MediaFile(str(tmp_path / name), name=name)

    cells = [file("a.png", png()), file("a.wav", wav()), file("a.mp4", GIF), file("a.html", b"<p>"), file("a.bin", b"")]
    cells += [wandb.Image(PICTURE), wandb.Html("<b>")]
    kinds = ["image-file", "audio-file", "video-file", "html-file", None, "image-file", "html-file"]

    def log(logger):
        logger.log_table("cells", [str(index) for index in range(len(cells))], [cells], step=1)

    stored = delivered.directly(log)
    _, [found], _, files = as_artifact(delivered.server, stored, "cells")
    assert [each["_type"] if isinstance(each, dict) else None for each in found] == kinds
    assert [files[each["path"]] for each in found[:4]] == [png(), wav(), GIF, b"<p>"]
    assert found[4] == "a.bin"
    assert np.array_equal(pixels(files[found[5]["path"]]), PICTURE)


def test_a_long_table(delivered):
    data = [[index, f"row {index}"] for index in range(12_000)]
    _, stored = delivered.run(lambda run: run.log_table("long", ["n", "text"], data))
    assert as_artifact(delivered.server, stored, "long")[1] == data
    assert rows(stored, "long")[0]["long"]["nrows"] == 12_000


def test_a_table_longer_than_the_limit_of_w_and_b_is_complete(delivered, monkeypatch):
    monkeypatch.setattr(wandb.Table, "MAX_ARTIFACT_ROWS", 3)
    _, stored = delivered.run(lambda run: run.log_table("long", ["n"], [[index] for index in range(10)]))
    assert as_artifact(delivered.server, stored, "long")[1] == [[index] for index in range(10)]


def test_one_key_at_many_steps(delivered):
    def log(run):
        for step in range(5):
            run.log_table("t", ["n"], [[step]], step=step)

    _, stored = delivered.run(log)
    found = [
        (row["trainer/global_step"], json.loads(stored.files[row["t"]["path"]])["data"]) for row in rows(stored, "t")
    ]
    assert found == [(step, [[step]]) for step in range(5)]
    assert len(delivered.server.artifact(f"run-{stored.id}-t:latest", "p").files) == 1


def test_a_row_with_too_few_cells_ends_with_none(delivered):
    with delivered.start() as run:
        run.log_table("ragged", ["a", "b"], [[1, 2], [3]])
    columns, rows, *_ = as_artifact(delivered.server, delivered.server.run(run.id), "ragged")
    assert (columns, rows) == (["a", "b"], [[1, 2], [3, None]])


@pytest.mark.slow
def test_a_table_is_not_acknowledged_before_its_pictures_arrive(delivered):
    server = delivered.server
    with delivered.start() as run:
        server.fail("CommitArtifact", status(500))
        try:
            run.log_table("t", ["picture"], [[Image.fromarray(PICTURE)]])
            server.until(lambda server: server.count("CommitArtifact"))
            server.until(lambda server: rows(server.run(run.id), "t"))
            assert not run.flush(timeout=3)
        finally:
            server.heal()
        assert run.flush(timeout=A_WHILE)
        _, [[cell]], _, files = as_artifact(server, server.run(run.id), "t")
        assert np.array_equal(pixels(files[cell["path"]]), PICTURE)

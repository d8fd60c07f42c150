"""The data of a page: its content, its size, and what is left out."""

import base64
import hashlib
import json
import math
import re
import struct
import zlib
from html import escape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader.page.scenes import (
    BACKWARDS,
    BEGAN,
    HOSTILE,
    read_for_page,
    rows,
    write_full_run,
    write_run,
)

import rankzero
from rankzero.cli.app import main
from rankzero.events.structs import Graph, Metrics, Pointcloud, Rewind
from rankzero.media.store import MediaStore
from rankzero.reader.page.html import write_page
from rankzero.reader.page.notebook import as_html
from rankzero.reader.page.packing import Curve, pack, thin
from rankzero.reader.series import Series

MEGABYTE = 1_000_000


@pytest.fixture
def write(tmp_path):
    """Write a page of run directories, and return its blocks by name."""

    def write(*run_dirs, max_media=50 * MEGABYTE):
        runs = [read_for_page(each) for each in run_dirs]
        return blocks_of(write_page(runs, tmp_path / "page.html", max_media).path)

    return write


def blocks_of(path):
    found = re.findall(r'<script type="text/plain" id="block-(\w+)">([A-Za-z0-9+/=]*)</script>', path.read_text())
    return {name: base64.b64decode(text) for name, text in found}


def as_json(block):
    return json.loads(zlib.decompress(block, -zlib.MAX_WBITS))


def unpack(block):
    """Return run, whether it was rewound, and the points of each curve in a block."""
    data = zlib.decompress(block, -zlib.MAX_WBITS)
    (size,) = struct.unpack_from("<I", data)
    offset = 4 + size
    for run, is_cut, count, kinds, _ in json.loads(data[4:offset]):
        curve, offset = unpack_curve(data, offset, count, kinds)
        yield run, is_cut, curve


def unpack_curve(data, offset, count, kinds):
    columns = []
    for kind in kinds:
        width = {"": 0, "i": 4, "f": 4, "d": 8}[kind]
        part = np.frombuffer(data[offset : offset + width * count], np.uint8).reshape(width, count).T.tobytes()
        offset += width * count
        numbers = np.frombuffer(part, {"": "u1", "i": "<i4", "f": "<f4", "d": "<f8"}[kind])
        columns.append((numbers.cumsum() if kind == "i" else numbers).tolist())
    return Curve(*columns), offset


def test_a_run_in_the_manifest(write, tmp_path):
    loggers = {"csv": {"plugin": "csv", "options": {}}}
    params = {"lr": 0.1, "model": {"layers": [1, 2], "bad": math.nan}}
    manifest = as_json(write(write_run(tmp_path, *rows(60), params=params, tags=("a",), loggers=loggers))["manifest"])
    (run,) = manifest["runs"]
    assert (run["name"], run["status"], run["tags"], run["started"]) == ("amber-otter-1", "crashed", ["a"], BEGAN)
    assert run["params"] == {"lr": 0.1, "model/layers": "[1,2]", "model/bad": "NaN"}
    assert manifest["metrics"] == [["train/loss", None], ["val/loss", None]]
    count, last, last_step, low, low_step, high, high_step = run["summary"]["train/loss"]
    assert (count, last_step, low_step, high, high_step) == (60, 59, 59, 7.5, 30)
    assert last == low == pytest.approx(math.exp(-59 / 60))
    assert [(each["logger"], each["status"]) for each in run["deliveries"]] == [("csv", "behind")]
    assert [kind for kind, *_ in run["marks"]] == ["crashed"]


def test_curves_survive_the_page(write, tmp_path):
    directories = [write_run(tmp_path, *rows(50), number=number) for number in range(2)]
    blocks = write(*directories)
    for metric, name in enumerate(["train/loss", "val/loss"]):
        found = list(unpack(blocks[f"m{metric}"]))
        assert [(run, is_cut) for run, is_cut, _ in found] == [(0, False), (1, False)]
        for (_, _, curve), directory in zip(found, directories, strict=True):
            series = rankzero.read_run(directory).metrics[name]
            assert curve.step == series.step.tolist()
            np.testing.assert_allclose(curve.value, series.value, rtol=1e-6)
            started = BEGAN + 60 * directories.index(directory)
            np.testing.assert_allclose(np.array(curve.time) / 1000 + started, series.time, atol=0.001)


numbers = st.lists(st.tuples(st.integers(-(2**62), 2**62) | st.integers(0, 99), st.floats(width=64)), max_size=40)


@given(numbers)
def test_packed_columns_are_read_back(points):
    steps, values = [step for step, _ in points], [value for _, value in points]
    kinds, data = pack(Curve(steps, [BEGAN + step % 7 for step in steps], [], values), BEGAN)
    curve, _ = unpack_curve(data, 0, len(points), kinds)
    assert curve.step == [float(step) for step in steps]
    assert curve.time == [1000.0 * (step % 7) for step in steps]
    finite = [value for value in values if math.isfinite(value)]
    room = 1e-4 * (max(finite) - min(finite)) if finite and max(finite) - min(finite) < 1e38 else math.inf
    for value, found in zip(values, curve.value, strict=True):
        same = (math.isnan(value) and math.isnan(found)) or value == found
        assert same or abs(value - found) <= room


@given(st.lists(st.floats(), min_size=1, max_size=400), st.integers(8, 60))
def test_thin_curves_keep_every_extreme_and_every_gap(values, most):
    points = Series(np.arange(len(values)), np.arange(len(values)) / 2, np.array(values))
    curve = thin(points, most)
    assert len(curve.value) <= max(most * 5 / 4 + 10, 8)
    assert curve.step[0] == 0
    assert curve.step[-1] == len(values) - 1
    real = [value for value in values if not math.isnan(value)]
    assert (not real) or (min(real) in curve.value and max(real) in curve.value)
    assert any(map(math.isnan, values)) == any(map(math.isnan, curve.value))
    assert curve.step == sorted(set(curve.step))


@pytest.mark.parametrize("clock", [60, -60])  # seconds that it jumps at the rewind
def test_points_that_a_rewind_superseded_are_a_separate_line(write, tmp_path, clock):
    first = [Metrics(BEGAN + step, step, {"train/loss": 100.0 - step}) for step in range(80)]
    later = [Metrics(BEGAN + clock + step, step, {"train/loss": 50.0 - step}) for step in range(41, 60)]
    (survived, cut) = unpack(write(write_run(tmp_path, *first, Rewind(BEGAN + 79 + clock, 40), *later))["m0"])
    assert (survived[1], survived[2].step) == (False, [*range(60)])
    assert (cut[1], cut[2].step) == (True, [*range(41, 80)])


def test_metrics_without_steps_or_numbers(write, tmp_path):
    events = [Metrics(BEGAN + n, None, {"a": value}) for n, value in enumerate([math.nan, math.inf, -math.inf])]
    blocks = write(write_run(tmp_path, *events, Metrics(BEGAN, 2**70 % 2**63, {"big": 2**60})))
    ((_, _, curve),) = unpack(blocks["m0"])
    assert list(map(math.isnan, curve.step)) == [True] * 3
    assert curve.value[1:] == [math.inf, -math.inf]
    assert as_json(blocks["manifest"])["runs"][0]["summary"]["a"][:2] == [3, "-Infinity"]


def test_media_are_embedded_newest_first_up_to_a_limit(write, tmp_path):
    run_dir = write_full_run(tmp_path)
    whole = write(run_dir)
    details = as_json(whole["r0"])
    assert {each["kind"] for each in details["media"]} == {
        "image", "figure", "audio", "video", "table", "text", "histogram",
    }  # fmt: skip
    assert as_json(whole["manifest"])["left_out"] == [0, 0]
    (sound,) = (each for each in details["media"] if each["kind"] == "audio")
    assert whole[sound["items"][0]["file"]].startswith(b"RIFF")
    blocks = write(run_dir, max_media=10_000)
    (sound,) = (each for each in as_json(blocks["r0"])["media"] if each["kind"] == "audio")
    assert ["file" in each for each in sound["items"]] == [False, False, True]
    assert as_json(blocks["manifest"])["left_out"] == [2, 2 * 8045]


def test_files_outside_of_the_run_and_missing_ones_are_not_embedded(write, tmp_path):
    run_dir = write_full_run(tmp_path)
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"secret")
    first, second, _ = sorted(run_dir.glob("media/*/*.wav"))
    first.unlink()
    first.symlink_to(secret)
    second.unlink()
    blocks = write(run_dir)
    assert b"secret" not in b"".join(blocks.values())


@pytest.mark.parametrize("text", [HOSTILE, BACKWARDS, "a" * 10_000, "nul \0", "lone \ud800"])
def test_no_text_of_a_run_is_html(write, tmp_path, text):
    blocks = write(write_full_run(tmp_path, 0, text, text))
    html = (tmp_path / "page.html").read_text()
    outside = re.sub(r'<script type="text/plain" id="block-\w+">[A-Za-z0-9+/=]*</script>', "", html)
    assert "alert(" not in outside.replace(escape(text), "")
    assert outside.count("<script") == 2
    assert as_json(blocks["manifest"])["runs"][0]["name"].startswith(text[:4])


def test_the_policy_allows_the_scripts_and_styles_of_the_page_only(write, tmp_path):
    write(write_run(tmp_path, *rows(5)))
    html = (tmp_path / "page.html").read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    scripts, styles = re.findall(r"<script>(.*?)</script>", html, re.S), re.findall(r"<style>(.*?)</style>", html, re.S)
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in [*scripts, *styles]]
    assert sorted(re.findall(r"'sha256-([^']*)'", policy)) == sorted(hashes)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "connect-src 'none'" in policy
    assert not re.search(r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\beval\(", scripts[1])


def test_a_run_in_a_notebook_is_a_small_page_in_a_frame(tmp_path):
    html = as_html(rankzero.read_run(write_full_run(tmp_path)))
    assert re.match(r'<iframe srcdoc="&lt;!DOCTYPE html&gt;\n[^"<>]*" sandbox="allow-scripts allow-downloads"', html)
    assert len(html) < 300_000


def test_the_command_writes_a_page_and_prints_its_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_dir = write_run(tmp_path / "runs", *rows(5), name="amber/otter")
    assert main(["page", str(run_dir)]) == 0
    assert (tmp_path / "amber-otter.html").is_file()
    assert re.fullmatch(r"amber-otter\.html \(\d+ kB\) has 1 run\n", capsys.readouterr().out)
    write_run(tmp_path / "runs", *rows(5), number=1)
    assert main(["page", "runs", "-o", "pages/all.html"]) == 2
    assert "there is no directory pages" in capsys.readouterr().err
    (tmp_path / "pages").mkdir()
    assert main(["page", str(run_dir), "-o", "pages"]) == 0
    assert capsys.readouterr().out.startswith("pages/amber-otter.html")
    (tmp_path / "train.py").write_text("the only copy")
    assert main(["page", "runs", "-o", "train.py"]) == 2
    assert "must end in .html" in capsys.readouterr().err
    assert main(["page", "runs", "-o", "pages/all.html"]) == 0
    assert len(as_json(blocks_of(tmp_path / "pages/all.html")["manifest"])["runs"]) == 2
    assert "has 2 runs" in capsys.readouterr().out


def test_point_clouds_have_names_and_models_their_text(write, tmp_path):
    run_dir = tmp_path / f"{0:032x}"
    store = MediaStore(run_dir)
    events = [
        Pointcloud(BEGAN, "lidar/front", [store.put_bytes((b"points", ".npy"))], 3),
        Graph(BEGAN, store.put_bytes((b'{"text":"Linear(\\n  2)","modules":[],"parameters":1234}', ".json"))),
        Graph(BEGAN, store.put_bytes((b"damaged", ".json"))),
    ]
    blocks = write(write_run(tmp_path, *events))
    assert as_json(blocks["manifest"])["runs"][0]["media"] == {"pointcloud": ["lidar/front"], "graph": ["model"]}
    points, graphs = as_json(blocks["r0"])["media"]
    assert [each["name"] for each in points["items"]] == ["lidar-front-3.npy"]
    shown, damaged = graphs["items"]
    assert shown["rows"] == [["Linear(\n  2)\n\n1,234 parameters"]]
    assert (damaged["show"], blocks[damaged["file"]]) == ("save", b"damaged")


def test_the_command_names_omitted_data_and_unreadable_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_full_run(tmp_path / "runs")
    (tmp_path / "runs/broken").mkdir()
    (tmp_path / "runs/broken/journal.jsonl").write_text("nothing\n")
    assert main(["page", "runs", "-o", "page.html", "--max-media", "10kB"]) == 1
    errors = capsys.readouterr().err
    assert "left out: 2 files with 16 kB" in errors
    assert "broken" in errors
    assert main(["page", "runs", "--max-media", "much"]) == 2
    assert main(["page", "runs/broken"]) == 2
    assert "no run that can be read" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "size"), [("50MB", 50 * MEGABYTE), ("1.5 kB", 1500), ("0", 0), ("2g", 2 * 10**9)])
def test_sizes(text, size):
    from rankzero.cli.page import parse_size

    assert parse_size(text) == size


def test_a_page_replaces_the_file_at_once(tmp_path, monkeypatch):
    run_dir = write_run(tmp_path, *rows(5))
    page = tmp_path / "page.html"
    page.write_text("old")
    monkeypatch.setattr("rankzero.reader.page.payload.Page.blocks", lambda self: iter([("a", b""), None]))
    with pytest.raises(TypeError):
        write_page([read_for_page(run_dir)], page, 0)
    assert page.read_text() == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == [run_dir.name, "page.html"]

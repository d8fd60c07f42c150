"""Import the archives of Comet's client, also damaged ones, and the directories of killed processes."""

import atexit
import functools
import json
import os
import random
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from plugins.comet import import_samples as sample
from plugins.comet.journals import points_in

from rankzero.capture.environment import read_environment
from rankzero.cli import app as cli
from rankzero.journal.tail import read_events
from rankzero.media.encoders import Histogram
from rankzero.reader.run_data import read_run
from rankzero.rundir.layout import JOURNAL
from rankzero.testing import ImporterContract
from rankzero_comet.importing.importer import CometImporter

ZIP = f"archives/{sample.KEY}.zip"


@functools.cache
def written():
    """A directory with archives, and in ``killed`` the temporary directory of a killed process; written once."""
    directory = Path(tempfile.mkdtemp(prefix="rankzero-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    (directory / "tmp").mkdir()
    done = sample.leave(directory, "everything", "later", "ours", "crashed", TMPDIR=str(directory / "tmp"))
    assert done.stderr.endswith("ValueError: too bad\n"), done.stderr
    assert sample.leave(directory, "killed", TMPDIR=str(directory / "tmp")).returncode < 0
    (messages,) = (directory / "tmp").glob("*/messages.json")
    messages.parent.rename(directory / "killed")
    return directory


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """A copy of these, which is the working directory."""
    for name in ("archives", "killed"):
        shutil.copytree(written() / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def take(samples, capsys):
    """Import sources; returns the status, the runs by their names, and what was printed."""

    def take(*sources):
        capsys.readouterr()
        status = cli.main(["import", "comet", *map(str, sources), "--dir", "runs"])
        out, err = capsys.readouterr()
        runs = [read_run(path.parent) for path in Path("runs").rglob("journal.jsonl")]
        assert all(run.damaged == 0 for run in runs)
        return status, {run.info.name: run for run in runs}, out + err

    return take


def rewritten(source, target, change=lambda name, content: content, **options):
    """Copy an archive; ``change`` returns the content of a file, None to leave it out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return target


def points(run, name="loss"):
    series = run.metrics[name]
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


LOSSES = list(enumerate(sample.LOSS))


def test_everything_is_imported(take):
    status, runs, said = take(ZIP)
    run = runs["brave try"]
    assert (status, run.info.id, run.info.project, run.status) == (1, sample.KEY, "digits", "success")
    assert "described: camera: media in rankzero have no such metadata" in said  # and nothing else
    assert said.count("left out") == 1
    assert sorted(run.tags) == ["kept", "later"]
    assert {name: run.params[name] for name in sample.PARAMS} == sample.PARAMS
    assert run.params["other"] == {"reason": "why not", "workspace": "lab"}
    assert run.params["registered_models"] == {"net": "1.2.3"}
    assert points(run) == LOSSES
    assert repr(run.metrics["odd"].value.tolist()) == repr(sample.ODD)
    assert (points(run, "between"), points(run, "between/step")) == ([(7, 5.0)], [(7, 7.5)])
    assert (points(run, "system/gpu.0.load"), points(run, "validate_acc")) == ([(8, 0.5)], [(9, 0.75)])
    assert [(text.step, text.columns, text.data) for text in run.texts["text"]] == [
        (8, ["value"], [["words"]]),
        (3, ["text", "by"], [["a sample", "me"]]),
    ]
    assert [(each.text, each.stream) for each in run.console] == [
        ("one", "stdout"), ("two and more", "stdout"), ("last", "stdout"), ("careful", "stderr"),
    ]  # fmt: skip
    assert read_environment(run.dir).program == sample.__file__
    assert read_environment(run.dir).argv[-1] == "crashed"


def test_media_and_files_are_imported(take):
    run = take(ZIP)[1]["brave try"]
    found = {key: [(each.kind, each.step, each.path.suffix) for each in files] for key, files in run.media.items()}
    assert found == {
        "html": [("figure", None, ".html")],
        "picture": [("image", 4, ".png")],
        "described": [("image", 4, ".png")],
        "curve of loss": [("figure", 5, ".svg")],
        "beep": [("audio", 6, ".wav")],
        "clip": [("video", 6, ".mp4")],
        "cloud": [("pointcloud", 9, ".npy")],
    }
    assert run.media["html"][0].path.read_text() == "<b>page</b>"
    assert np.asarray(run.media["picture"][0].file)[0, 0].tolist() == [10, 20, 30]
    assert sorted(np.load(run.media["cloud"][0].path).tolist()) == sample.POINTS
    tables = {key: each.read() for key, (each,) in run.tables.items()}
    assert tables == {
        "scores": (["a", "b", "c"], [[1, 2.5, "x"], [3, "007", None]]),
        "bare": (["column 0", "column 1"], [[1, 2], [3, 4]]),
        "roc": (["x", "y"], [[0, 0], [0.5, 0.9], [1, 1]]),
        "confusion-matrix": (["Actual Category \\ Predicted Category", "cat", "dog"], [["cat", 1, 0], ["dog", 1, 1]]),
    }
    files = {each.name: (each.kind, each.metadata.get("step"), Path(each.path).read_bytes()) for each in run.artifacts}
    assert files["deep/weights.bin"] == (None, 10, sample.WEIGHTS)
    assert files["net/model/weights.bin"][::2] == ("model", sample.WEIGHTS)
    assert b"def everything" in files[f"code{sample.__file__}"][2]
    assert run.texts["remote assets"][0].data == [["far.bin", "s3://bucket/far"]]
    assert json.loads(Path(run.graphs[0].path).read_bytes())["text"] == "Linear(2, 3)"


def test_a_histogram_has_the_bins_of_comet(take):
    from comet_ml.data_structure import Histogram as CometHistogram

    found = take(ZIP)[1]["brave try"].histograms["weights"][0].values
    theirs = CometHistogram()
    theirs.add(sample.VALUES)
    edges = list(theirs.values)
    first = edges.index(pytest.approx(found.edges[0], rel=1e-12))
    assert found.edges == pytest.approx(edges[first : first + len(found.edges)], rel=1e-12)
    assert found.counts == theirs.counts[first : first + len(found.counts)].tolist()
    assert (sum(found.counts), found.non_finite) == (len(sample.VALUES), 0)


def only_metrics(name, content):
    """Leave out messages that the mock server does not know."""
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if b'"metric_msg"' in line) if name == "messages.json" else content


def test_metrics_are_those_that_comet_uploads(take, here, server):
    from comet_ml.offline import main_upload

    main_upload([str(rewritten(ZIP, Path("metrics.zip"), only_metrics))], force_upload=False)
    run, uploaded = take("metrics.zip")[1].popitem()[1], server.experiment(sample.KEY)
    for name in ("loss", "half", "odd"):
        series = run.metrics[name]
        ours = zip(
            series.step.tolist(), series.value.tolist(), (series.time * 1000).round().astype(int).tolist(), strict=True
        )
        assert repr(sorted(ours, key=repr)) == repr(sorted(uploaded.series(name), key=repr))


def test_archives_of_one_experiment_are_one_run_in_any_order(take):
    (later,) = Path("archives").glob(f"{sample.KEY}-*.zip")
    status, runs, _ = take(later)
    assert (status, points(next(iter(runs.values())))) == (0, [(sample.LATER, 0.25)])
    _, runs, _ = take("archives", ZIP)
    (run,) = (run for run in runs.values() if run.info.id == sample.KEY)
    assert sorted(points(run)) == [*LOSSES, (sample.LATER, 0.25)]
    assert sorted(run.tags) == ["kept", "later", "resumed"]
    assert "nothing is new" in take(ZIP)[2]
    shutil.copy(ZIP, "copy.zip")
    assert "skipped: it is a copy of" in take("archives", "copy.zip")[2]
    assert [run.status for run in runs.values() if run.info.id.startswith("crashed")] == ["failed"]


# What is missing or damaged


@pytest.mark.parametrize("missing", ["experiment.json", "messages.json", "data.json"])
def test_a_file_that_is_missing_is_named(take, missing):
    without = Path(f"{sample.KEY}.zip")
    rewritten(ZIP, without, lambda name, content: None if name == missing or content == b'{"x":1}' else content)
    status, runs, said = take(without)
    (run,) = runs.values()
    assert (status, run.info.id) == (1, sample.KEY)
    assert f"left out: {missing}: " in said
    assert "missing from the archive" in said
    assert (len(run.metrics) > 0) == (missing != "messages.json")


def events(run):
    return [event for _, event in read_events(run.dir / JOURNAL)][1:]


def test_repacked_archives_are_the_same(take):
    expected = events(take(ZIP)[1]["brave try"])
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        shutil.rmtree("runs")
        assert events(take(rewritten(ZIP, Path("packed.zip"), compression=method))[1]["brave try"]) == expected


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_rest_of_a_truncated_archive_is_imported(take, method):
    torn = Path(f"{sample.KEY}.zip")
    order = ["messages.json", "experiment.json"]
    with zipfile.ZipFile(ZIP) as old, zipfile.ZipFile(torn, "w", method) as new:
        for name in sorted(old.namelist(), key=lambda name: (name not in order, name)):
            new.writestr(name, old.read(name))
        size = new.getinfo("messages.json").compress_size
    whole, former = torn.read_bytes(), -1
    for end in sorted((40, size // 2, size - 100, len(whole) // 2, len(whole) - 10)):
        torn.write_bytes(whole[:end])
        status, runs, said = take(torn)
        assert status == 1
        if end == 40:
            assert (runs, "cut off or damaged" in said) == ({}, True)
            continue
        (run,) = runs.values()
        shutil.rmtree("runs")
        count = len(points(run)) if "loss" in run.metrics else 0
        assert former <= count <= len(LOSSES)
        assert "cut off" in said
        former = count
    assert former == len(LOSSES)


def test_a_flipped_bit_in_a_number_is_reported(take):
    damaged = Path("flipped.zip")
    damaged.write_bytes(Path(ZIP).read_bytes().replace(b'"metricValue":0.75', b'"metricValue":0.77'))
    status, runs, said = take(damaged)
    assert status == 1
    assert "left out: messages.json: it was changed since it was written" in said
    assert points(runs["brave try"]) == LOSSES


def test_an_archive_that_unpacks_to_too_much_is_refused(take):
    def is_bomb(info):
        return info.filename == "messages.json"

    with zipfile.ZipFile(ZIP) as old, zipfile.ZipFile("bomb.zip", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        next(filter(is_bomb, new.filelist)).file_size = 1 << 40
    assert "bytes of the archive unpack to 1,099,511,627,776" in take("bomb.zip")[2]


def test_the_directory_of_a_killed_process_is_imported_and_continued(take):
    status, runs, said = take("killed")
    run = runs["killed"]
    assert (status, run.status, points(run)) == (1, "aborted", LOSSES)
    assert "left out: experiment.json: tags, project and perhaps the key are unknown: the process was killed" in said
    assert Path(run.artifacts[-1].path).read_text() == "kept"
    with open("killed/messages.json", "a") as file:
        line = Path("killed/messages.json").read_text().splitlines()[-1]
        file.write(line.replace('"step":39', '"step":40') + "\n" + line[:50])
    status, runs, said = take("killed")
    assert (status, points(runs["killed"])[len(LOSSES) :]) == (1, [(40, LOSSES[-1][1])])
    assert "left out: messages.json: its last line is incomplete" in said


def test_an_empty_archive_says_where_the_data_is(take):
    status, runs, said = take("archives")
    assert status == 1
    assert f"{sample.KILLED}.zip: not imported: it is empty, because its process was killed" in said
    assert len(runs) == 3


def test_other_files_are_refused(take):
    Path("other").mkdir()
    with zipfile.ZipFile("other/data.zip", "w") as archive:
        archive.writestr("data.txt", "")
    Path("other/messages.json").write_text('{"type": "chat"}')
    status, runs, said = take("other")
    assert (status, runs) == (2, {})
    assert "other has no offline experiment of Comet. Name a zip archive" in said


# Hostile and odd messages


def unpacked():
    with zipfile.ZipFile(ZIP) as archive:
        archive.extractall("unpacked")
    messages = Path("unpacked/messages.json")
    return messages, [json.loads(line) for line in messages.read_text().splitlines()]


def test_paths_outside_an_archive_are_refused(take):
    messages, lines = unpacked()
    Path("secret").write_text("s3cret")
    os.symlink(Path("secret").absolute(), "unpacked/link")
    paths = ["../secret", str(Path("secret").absolute()), "link", "a\0b", {}, None, "sub/../../secret"]
    uploads = [line for line in lines if line["type"] == "file_upload"]
    for upload, path in zip(uploads, paths, strict=False):
        upload["payload"]["file_path"] = path
    uploads[-1]["payload"]["additional_params"]["fileName"] = "/../../etc/name"
    messages.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    status, _, said = take("unpacked")
    assert (status, said.count("left out")) == (1, len(paths))  # two are named together; metadata is named, too
    stored = [path for path in Path("runs").rglob("*") if path.is_file()]
    assert not any(b"s3cret" in path.read_bytes() for path in stored)
    assert not any(".." in each.name for each in read_run(next(Path("runs").glob("*/*"))).artifacts)


ODD = [None, True, -1, 2**70, 1e308, float("nan"), "", "a\0b", "\ud800", [], {}, [1], {"a": {"": 1}}, "9" * 5000]


def test_odd_messages_are_named_and_the_others_imported(take):
    messages, lines = unpacked()
    deep = functools.reduce(lambda inner, _: [inner], range(300), [])

    def changed(value, chance):
        if chance.random() < 0.1:
            return chance.choice([*ODD, deep])
        if isinstance(value, dict):
            return {key: changed(each, chance) for key, each in value.items() if chance.random() < 0.98}
        return [changed(each, chance) for each in value] if isinstance(value, list) else value

    for seed in range(15):
        chance = random.Random(seed)
        odd = [json.dumps({**line, "payload": changed(line["payload"], chance)}) for line in lines]
        extra = [json.dumps({"type": "new kind", "payload": {}}), "no JSON", "[]"]
        messages.write_bytes("\n".join([*extra, *odd, ""]).encode() + b"\xff\n")
        status, runs, said = take("unpacked")
        assert status == 1
        assert "left out: messages of the type new kind" in said
        assert "nothing is new" in take("unpacked")[2]
        assert any(run.metrics for run in runs.values())
        shutil.rmtree("runs")


def test_messages_of_old_clients_are_imported(take):
    from comet_ml.messages import MetricMessage, ParameterMessage, WebSocketMessage

    metric, param, other, line = MetricMessage(), ParameterMessage(), WebSocketMessage(), WebSocketMessage()
    metric.set_metric("old", 0.5, step=3)
    param.set_param("size", 8)
    other.set_log_other("reason", "old")
    line.set_standard_output("printed\n")
    messages, _ = unpacked()
    payloads = [each.to_message_dict() for each in (metric, param, other, line)]
    messages.write_text("".join(json.dumps({"type": "ws_msg", "payload": each}) + "\n" for each in payloads))
    status, runs, _ = take("unpacked")
    (run,) = runs.values()
    assert (status, points(run, "old"), run.params["size"], run.params["other"]["reason"]) == (0, [(3, 0.5)], 8, "old")
    assert [each.text for each in run.console] == ["printed"]


def test_an_archive_of_rankzeros_logger_gives_the_logged_data(take, here, server):
    _, runs, _ = take("archives")
    (run,) = (run for run in runs.values() if run.info.id.startswith("ours"))
    assert (run.params, points(run)) == ({"net": {"depth": 3}}, [(3, 0.5)])
    assert (run.tables["table"][0].read(), run.texts["note"][0].data) == ((["a"], [[1]]), [["said"]])
    assert run.media["picture"][0].caption == "small"
    assert isinstance(run.histograms["weights"][0].values, Histogram)
    assert len(run.histograms["weights"][0].values.counts) == 64  # those of rankzero, not Comet's
    assert cli.main(["sync", str(run.dir), "--to", "comet"]) == 0
    stored = server.experiment(run.info.id)
    assert (stored.params, next(iter(points_in(stored)))[:3]) == ({"net|depth": 3}, ("loss", 0.5, 3))
    assert sorted(each.name for each in stored.assets) == ["picture.png", "table.csv", "text.txt", "weights.json"]


class TestContract(ImporterContract):
    """The contract of importers, with an archive and the directory of a killed process."""

    def make_importer(self):
        return CometImporter()

    def make_source(self, directory):
        shutil.copytree(written() / "killed", directory / "killed")
        shutil.copy(written() / ZIP, directory)
        return "."

    def grow_source(self, directory):
        (later,) = (written() / "archives").glob(f"{sample.KEY}-*.zip")
        shutil.copy(later, directory)
        with open(directory / "killed/messages.json", "a") as file:
            line = (directory / "killed/messages.json").read_text().splitlines()[-1]
            file.write(line.replace('"step":39', '"step":40') + "\n")

"""Import the logs of W&B's client, also resumed, damaged and hostile ones."""

import json
import math
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from plugins.wandb.logged_runs import EVERYTHING, PLAIN, RESUMED, SYNCED, log
from wandb.proto import wandb_internal_pb2 as proto

import rankzero
from rankzero.capture.environment import read_environment
from rankzero.errors import RunError, RunNotFoundError
from rankzero.events.structs import Alert, Console, DefineMetric, Image
from rankzero.importers.base import SkipRun
from rankzero.importers.writing import Outcome, import_run
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL
from rankzero.testing import ImporterContract
from rankzero_wandb.importing.importer import WandbImporter
from rankzero_wandb.importing.record_log import MAGIC, RecordLog

ROWS = 150
BLOCK = 1 << 15


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A directory in which scripts logged runs."""
    directory = tmp_path_factory.mktemp("work")
    return log(directory, EVERYTHING + RESUMED + PLAIN, rows=ROWS)


@pytest.fixture(scope="module")
def everything(work, tmp_path_factory):
    """The imported run with data of every kind."""
    return imported(tmp_path_factory.mktemp("imported"), only(work, "everyth1ng"))


def only(work, run_id):
    (found,) = (work / "wandb").glob(f"offline-run-*-{run_id}")
    return found


def imported(directory, source, outcome=Outcome.NEW, **options):
    """Import the only run of a source."""
    (found,) = WandbImporter(**options).find([str(source)])
    done = import_run(found, directory / "runs", found.project or "unknown")
    assert done.outcome is outcome
    return done


def read(done):
    return rankzero.read_run(done.info.dir)


def events(done, kind):
    found = read_events(Path(done.info.dir, JOURNAL))
    return [event for _, event in found if isinstance(event, kind)]


def series(run, name):
    found = run.metrics[name]
    return list(zip(found.step.tolist(), found.value.tolist(), strict=True))


def pixels_of(path):
    with Pillow.open(path) as image:
        return np.asarray(image)


def reasons(done):
    return dict(tuple(done.report.left_out))


# Everything


def test_the_run_is_described(everything, work):
    run = read(everything)
    info = run.info
    assert (info.id, info.name, info.project, info.group, info.notes) == (
        "everyth1ng", "nice run", "digits", "sweep", "why"
    )  # fmt: skip
    assert (run.tags, run.status) == (["a", "b", "c"], "failed")
    assert run.params == {
        "wandb": {"entity": "team", "job_type": "train"},
        "lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.99]}, "late": 5,
    }  # fmt: skip
    environment = read_environment(run.dir)
    assert environment.executable == sys.executable
    assert environment.python == sys.version.split()[0]
    assert "wandb==" in (run.dir / environment.packages).read_text()
    client = RecordLog(only(work, "everyth1ng") / "run-everyth1ng.wandb")
    header = next(each for each in records(client) if each.HasField("run")).run
    assert run.started == pytest.approx(header.start_time.seconds + header.start_time.nanos / 1e9, abs=1e-6)


def records(log):
    return [proto.Record.FromString(data) for data in log.records(len(MAGIC))]


def test_numbers_keep_their_steps_and_bits(everything):
    run = read(everything)
    assert series(run, "loss") == [(step, 1 / (step + 3)) for step in range(3)]
    assert series(run, "opt.lr") == [(step, 1e-3 * step) for step in range(3)]
    assert series(run, "epoch") == [(step, step) for step in range(3)]
    assert series(run, "big") == [(step, 2**60 + step) for step in range(3)]
    assert series(run, "huge")[0] == (0, 1e40)
    assert series(run, "late") == [(20, 1), (30, 2)]
    assert series(run, "more") == [(30, 0.1 + 0.2)]
    assert math.isnan(run.metrics["odd"].value[0])
    assert run.metrics["odd"].value.tolist()[1:] == [math.inf, -math.inf]
    assert math.copysign(1, run.metrics["zero"].value[0]) == -1
    assert not [name for name in run.metrics if name.startswith("_")]


def test_rows_have_the_times_of_the_client(everything, work):
    client = RecordLog(only(work, "everyth1ng") / "run-everyth1ng.wandb")
    rows = [{"".join(item.nested_key): item.value_json for item in each.history.item} for each in records(client)]
    logged = [json.loads(row["_timestamp"]) for row in rows if "loss" in row]
    assert read(everything).metrics["loss"].time.tolist() == logged


def test_system_metrics_are_as_in_wandb(everything):
    run = read(everything)
    assert len(run.metrics["system/proc.memory.rssMB"].value) > 2
    assert run.metrics["system/proc.memory.rssMB"].value[0] > 10
    assert "system/cpu" in run.metrics


def test_texts_and_lists_are_texts(everything):
    run = read(everything)
    assert [(text.step, text.data) for text in run.texts["note"]] == [(step, [[f"text {step}"]]) for step in range(3)]
    assert run.texts["list"][0].data == [["[1, 2]"]]
    assert "none" not in {*run.texts, *run.metrics}


def test_summaries_are_those_that_were_set_by_hand(everything):
    run = read(everything)
    by_hand = {name: run.metrics[name].value.tolist() for name in ("summary/loss", "best", "outer.a")}
    assert by_hand == {"summary/loss": [-1], "best": [0.875], "outer.a": [1]}
    assert not {name for name in run.metrics if name.startswith("summary/")} - {"summary/loss"}
    assert run.texts["verdict"][0].data == [["done"]]


def test_definitions_console_and_alerts(everything):
    (definition,) = events(everything, DefineMetric)
    assert (definition.name, definition.step_metric, definition.summary) == ("val/*", "epoch", "max,mean")
    lines = {(each.stream, line) for each in events(everything, Console) for line in each.text.split("\n")}
    assert lines >= {("stdout", "hello"), ("stdout", "100%"), ("stdout", "from a logger")}
    assert any(stream == "stderr" for stream, _ in lines)
    (alert,) = events(everything, Alert)
    assert (alert.title, alert.text, alert.level) == ("Title", "text", "WARN")


def test_media_have_their_files_and_captions(everything):
    run = read(everything)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    pictures = [each for key in ("picture", "pictures", "inner.picture") for each in run.media[key]]
    assert all(np.array_equal(pixels_of(each.path), pixels) for each in pictures)
    assert [(each.caption or "", each.step) for each in pictures] == [("one", 40), ("x", 40), ("", 40), ("", 40)]
    assert not pixels_of(run.media["picture/truth"][0].path).any()
    boxes = [event.extra["boxes"] for event in events(everything, Image) if event.extra]
    assert [box["found"]["box_data"][0]["class_id"] for (box, _) in boxes] == [0]
    assert [each.caption for each in (*run.media["sound"], *run.media["sounds"])] == ["beep", "one", None]
    assert run.media["video"][0].path.read_text() == "not really"
    assert "<b>bold</b>" in run.media["page"][0].path.read_text()
    assert len(run.media["pages"]) == 2
    assert np.load(run.media["cloud"][0].path).tolist() == [[0, 1, 2], [3, 4, 5]]
    plot = run.media["plot"][0].path.read_text()
    assert "Plotly.newPlot" in plot
    assert plot.count("</script>") == 2  # what was logged is not a tag
    counts = run.histograms["counts"][0].values
    assert (counts.counts, counts.edges) == ([3, 1], [0, 0.5, 2])


def test_tables_have_their_media_and_nan(everything):
    run = read(everything)
    columns, ((one, nan, image), last) = run.tables["table"][0].read()
    assert (columns, one, last) == (["n", "x", "image"], 1, [2, 0.5, None])
    assert math.isnan(nan)
    assert pixels_of(image).shape == (4, 4, 3)
    assert run.tables["curve_table"][0].read() == (["x", "y"], [[1, 2]])


def test_artifacts_are_directories(everything):
    run = read(everything)
    kept = {artifact.name: artifact for artifact in run.artifacts}
    assert set(kept) == {"data", "molecule", "scene"}
    data = kept["data"]
    assert (data.kind, data.aliases) == ("dataset", ["best"])
    assert data.metadata == {"k": 1, "description": "all of it", "references": {"c": "s3://bucket/c"}}
    assert (run.dir / data.path / "a.txt").read_text() == "A"
    assert (run.dir / data.path / "sub" / "b.txt").read_text() == "B"
    assert (run.dir / kept["molecule"].path).read_text() == "ATOM"


def test_data_that_is_left_out_is_named(everything):
    found = reasons(everything)
    assert set(found) == {"the chart curve", "saved.txt", "gone/gone.txt"}
    assert "-o follow_links=true" in found["saved.txt"]
    assert "changed" in found["gone/gone.txt"]


def test_links_out_of_the_run_are_followed_on_request(work, tmp_path):
    done = imported(tmp_path, only(work, "everyth1ng"), follow_links=True)
    (saved,) = [each for each in read(done).artifacts if each.name == "saved.txt"]
    assert Path(done.info.dir, saved.path).read_text() == "S"


# Beside what W&B gets


def test_the_import_has_what_wandb_sync_uploads(user, server, work, tmp_path):
    done = imported(tmp_path, only(work, "plainrun"))
    copy = shutil.copytree(only(work, "plainrun"), tmp_path / only(work, "plainrun").name)
    user.wandb_sync(copy)
    (stored,) = server.store.runs.values()
    run = read(done)
    assert len(stored.history) == ROWS
    for index in range(5):
        name = f"metric {index}"
        assert series(run, name) == [(row["_step"], row[name]) for row in stored.history]
        assert run.metrics[name].time.tolist() == [row["_timestamp"] for row in stored.history]


def test_a_run_of_rankzero_has_its_own_steps_and_files(tmp_path):
    script = """
        import rankzero
        with rankzero.start("wandb", project="digits", dir="runs", offline=True, run_id="0urownrun") as run:
            run.log_hyperparams({"lr": 0.1})
            for step in (10, 20, 5):
                run.log_metrics({"loss": 1 / step}, step=step)
            write("weights.pt", "W")
            run.log_checkpoint("weights.pt", score=0.5, step=20, aliases=["best"])
            run.log_artifact("weights.pt", "my weights")
    """
    log(tmp_path, script)
    shutil.copytree(tmp_path / "runs/digits/0urownrun/wandb", tmp_path / "wandb", symlinks=True)
    run = read(imported(tmp_path / "again", tmp_path / "wandb"))
    original = rankzero.read_run(tmp_path / "runs/digits/0urownrun")
    assert run.params == original.params == {"lr": 0.1}
    assert series(run, "loss") == series(original, "loss")
    assert run.metrics["loss"].time.tolist() == original.metrics["loss"].time.tolist()
    (checkpoint,) = run.checkpoints
    assert (checkpoint.score, checkpoint.step, checkpoint.aliases) == (0.5, 20, ["best"])
    (artifact,) = run.artifacts
    assert artifact.name == "my weights"
    assert (run.dir / artifact.path).read_text() == "W"


@pytest.mark.slow
def test_values_that_the_client_took_from_tensorboard_are_in_its_history(tmp_path):
    log(tmp_path, SYNCED)
    done = imported(tmp_path, tmp_path / "wandb")
    run = read(done)
    assert [value for _, value in series(run, "loss")] == [pytest.approx(1 / (step + 2)) for step in range(5)]
    assert [value for _, value in series(run, "global_step")] == [0, 10, 20, 30, 40]
    assert not done.report.left_out


# Several processes


def test_a_resumed_run_is_one_run_in_order_of_time(work, tmp_path):
    copies = tmp_path / "wandb"
    for directory in (work / "wandb").glob("offline-run-*-resumed1"):
        shutil.copytree(directory, copies / directory.name)
    run = read(imported(tmp_path, copies))
    assert (run.info.id, run.status) == ("resumed1", "success")
    assert series(run, "loss") == [(10 * part + step, part + step / 10) for part in range(2) for step in range(3)]
    assert run.metrics["loss"].time.tolist() == sorted(run.metrics["loss"].time.tolist())


def test_a_process_that_resumes_the_run_is_appended(work, tmp_path):
    first, second = sorted((work / "wandb").glob("offline-run-*-resumed1"))
    shutil.copytree(first, tmp_path / "wandb" / first.name)
    imported(tmp_path, tmp_path / "wandb")
    shutil.copytree(second, tmp_path / "wandb" / second.name)
    run = read(imported(tmp_path, tmp_path / "wandb", Outcome.APPENDED))
    assert len(series(run, "loss")) == 6


def counted(logged):
    return {key: len(getattr(each, "value", each)) for key, each in logged.items()}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_importing_in_parts_equals_importing_at_once(work, everything, tmp_path, share):
    source = shutil.copytree(only(work, "everyth1ng"), tmp_path / only(work, "everyth1ng").name, symlinks=True)
    path = source / "run-everyth1ng.wandb"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    imported(tmp_path, source)
    path.write_bytes(whole)
    parts, once = read(imported(tmp_path, source, Outcome.APPENDED)), read(everything)
    assert (parts.params, parts.tags, parts.status) == (once.params, once.tags, once.status)
    for kept in ("metrics", "texts", "tables", "media", "histograms"):
        assert counted(getattr(parts, kept)) == counted(getattr(once, kept))
    assert [each.name for each in parts.artifacts] == [each.name for each in once.artifacts]


def test_a_copy_is_imported_once(work, tmp_path):
    source = only(work, "plainrun")
    for name in (source.name, "latest-run"):  # a link, which many tools copy as a directory
        shutil.copytree(source, tmp_path / name)
    one, skipped = WandbImporter().find([str(tmp_path)])
    assert import_run(one, tmp_path / "runs", "p").values == 5 * ROWS
    with pytest.raises(Exception, match="it is a copy of"):
        skipped.header()


# Damage


def damaged(work, tmp_path, damage, run_id="plainrun"):
    """Import a copy of a run after ``damage(bytearray)`` has changed its log."""
    source = shutil.copytree(only(work, run_id), tmp_path / f"offline-run-20260101_000000-{run_id}")
    path = source / f"run-{run_id}.wandb"
    data = bytearray(path.read_bytes())
    path.write_bytes(damage(data) or data)
    return imported(tmp_path, source)


def steps(done, name="metric 0"):
    return [step for step, _ in series(read(done), name)]


def test_a_torn_tail_is_reported(work, tmp_path):
    done = damaged(work, tmp_path, lambda data: data[: len(data) * 2 // 3])
    found = steps(done)
    assert found == list(range(len(found)))
    assert ROWS // 2 < len(found) < ROWS
    assert reasons(done) == {
        "the last record of run-plainrun.wandb": "it is incomplete: its process was killed, or is still writing it"
    }
    assert read(done).status == "aborted"


def test_records_before_and_after_a_damaged_block_are_imported(work, tmp_path):
    def damage(data):
        assert len(data) > 2 * BLOCK
        data[BLOCK : 2 * BLOCK] = os.urandom(BLOCK)

    done = damaged(work, tmp_path, damage)
    found = steps(done)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0, ROWS - 1)
    assert ROWS // 4 < len(found) < ROWS
    (_, why), count = next(iter(done.report.left_out.items()))
    assert why == "the log is damaged"
    assert count > ROWS - len(found)  # a row has more records than one


def test_only_the_damaged_record_is_lost(work, tmp_path):
    def damage(data):
        for step in (10, 20, 30):
            data[last_byte(data, step)] ^= 1

    done = damaged(work, tmp_path, damage)
    assert steps(done) == [step for step in range(ROWS) if step not in (10, 20, 30)]
    assert sum(done.report.left_out.values()) == 3


def last_byte(data, step):
    """Return the offset of the last byte of a row."""
    at = len(MAGIC)
    while True:
        _, length, kind = struct.unpack_from("<IHB", data, at)
        end = at + 7 + length
        if kind == 1:
            record = proto.Record.FromString(bytes(data[at + 7 : end]))
            if record.HasField("history") and record.history.step.num == step:
                return end - 1
        at = end if BLOCK - end % BLOCK >= 7 else end + BLOCK - end % BLOCK


def test_a_damaged_beginning_leaves_the_rows(work, tmp_path):
    done = damaged(work, tmp_path, lambda data: bytes(1000) + data[1000:])
    assert (done.info.id, done.info.project) == ("plainrun", "unknown")
    assert len(steps(done)) > ROWS - 10


# What no client writes


def frame(*written):
    """Return a log with these records, each as one fragment."""
    log = MAGIC
    for number, each in enumerate(written, 1):
        data = proto.Record(num=number, **each).SerializeToString()
        assert len(log) % BLOCK + 7 + len(data) < BLOCK
        log += struct.pack("<IHB", zlib.crc32(data, zlib.crc32(b"\1")), len(data), 1) + data
    return log


@pytest.mark.parametrize(
    ("log", "error", "reason"),
    [
        (b"", SkipRun, "its log is empty"),
        (MAGIC, SkipRun, "its log is empty"),
        (MAGIC + b"torn", RunError, "its log has no complete record"),
    ],
)
def test_a_process_without_data_makes_no_run(tmp_path, log, error, reason):
    for name, written in (("run-20260101_000000", log), ("run-20260102_000000", frame(row(loss="1")))):
        directory = tmp_path / "wandb" / f"{name}-plainrun"
        directory.mkdir(parents=True)
        (directory / "run-plainrun.wandb").write_bytes(written)
    run, nothing = WandbImporter().find([str(tmp_path)])
    with pytest.raises(error, match=reason):
        import_run(nothing, tmp_path / "runs", "digits")
    assert nothing.source == str(tmp_path / "wandb" / "run-20260101_000000-plainrun")
    done = import_run(run, tmp_path / "runs", "digits")
    assert (done.values, done.report.left_out) == (1, {})


def hostile(tmp_path, *written):
    """Import a run with these records, with a link in its directory to a file outside."""
    (tmp_path / "secret.txt").write_text("classified")
    files = tmp_path / "offline-run-20260101_000000-hostile1" / "files"
    files.mkdir(parents=True)
    (files / "link.txt").symlink_to(tmp_path / "secret.txt")
    (files.parent / "run-hostile1.wandb").write_bytes(frame(*written))
    return imported(tmp_path, files.parent)


def row(**values):
    items = [{"nested_key": [key], "value_json": value} for key, value in values.items()]
    return {"history": {"item": items}}


@pytest.mark.parametrize("path", ["link.txt", "../../secret.txt", "/etc/passwd", "", "a\0b", "."])
def test_paths_outside_the_run_are_refused(tmp_path, path):
    image = json.dumps({"_type": "image-file", "path": path})
    table = json.dumps({"_type": "table-file", "path": path})
    digest = "XrY7u+Ae7tCTyyK7j1rNww=="  # of other content
    entry = {"path": "../../../out.txt", "local_path": str(tmp_path / "secret.txt"), "digest": digest}
    done = hostile(
        tmp_path,
        {"files": {"files": [{"path": path}]}},
        row(image=image, table=table, loss="1"),
        {"artifact": {"name": "a", "manifest": {"contents": [entry]}}},
    )
    run = read(done)
    assert not any(b"classified" in each.read_bytes() for each in run.dir.rglob("*") if each.is_file())
    assert not run.artifacts
    assert series(run, "loss") == [(0, 1)]
    assert len(done.report.left_out) >= 3


@pytest.mark.parametrize(
    "values",
    [
        {"_timestamp": '"soon"', "_step": '"one"'},
        {"_timestamp": "1e300", "_step": "1e300"},
        {"_timestamp": "NaN", "_step": str(10**30)},
        {"big": str(10**400), "deep": "[" * 20_000},
        {"media": '{"_type": "histogram", "values": [1], "bins": "no"}', "other": '{"_type": {}}'},
        {"media": '{"_type": "image-file", "path": {}}', "images": '{"_type": "images/separated", "filenames": 3}'},
        {"deep": "[" * 300 + "]" * 300, "broken": '{"a":', "surrogate": '"\\ud800"'},
    ],
)
def test_odd_values_do_not_stop_an_import(tmp_path, values):
    done = hostile(tmp_path, row(**values), row(loss="0.5"), {"alert": {"title": "x", "level": "LOUD"}})
    assert [value for _, value in series(read(done), "loss")] == [0.5]
    assert [each.level for each in events(done, Alert)] == ["INFO"]


def test_values_without_json_are_read(tmp_path):
    values = {
        "a": {"integer": 3}, "b": {"number": 0.5}, "c": {"boolean": True},
        "d": {"text": "t"}, "e": {"json": "[1]"}, "f": {"none": 1},
    }  # fmt: skip
    items = [{"nested_key": [key], **value} for key, value in values.items()]
    run = read(hostile(tmp_path, {"history": {"item": items, "step": {"num": 7}}}))
    assert [series(run, name) for name in "abc"] == [[(7, 3)], [(7, 0.5)], [(7, 1)]]
    assert (run.texts["d"][0].data, run.texts["e"][0].data) == ([["t"]], [["[1]"]])


def test_a_directory_without_runs_is_an_error(tmp_path):
    with pytest.raises(RunNotFoundError, match="has no run of W&B"):
        WandbImporter().find([str(tmp_path)])


class TestContract(ImporterContract):
    has_checksums = True

    def make_importer(self):
        return WandbImporter()

    def make_source(self, directory):
        """Keep the beginning of a log; `grow_source` adds the rest."""
        shutil.copytree(only(log(directory / "made", PLAIN, rows=60), "plainrun"), directory / "offline-run-1-plainrun")
        shutil.rmtree(directory / "made")
        path = directory / "offline-run-1-plainrun" / "run-plainrun.wandb"
        type(self).whole = path.read_bytes()
        path.write_bytes(self.whole[: len(self.whole) // 2])
        return "."

    def grow_source(self, directory):
        path = directory / "offline-run-1-plainrun" / "run-plainrun.wandb"
        with open(path, "ab") as file:
            file.write(self.whole[path.stat().st_size :])

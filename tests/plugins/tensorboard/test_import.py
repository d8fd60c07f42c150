"""Import event files of torch, tensorboardX, Lightning, TensorBoard and rankzero's logger."""

import io
import itertools
import json
import math
import random
import shutil

import numpy as np
import pytest
import tensorboardX
import torch
from lightning.pytorch.loggers import TensorBoardLogger as LightningLogger
from PIL import Image
from servers.event_files import accumulated, scalars
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary import Writer
from tensorboard.summary._output import DirectoryOutput
from torch.utils.tensorboard import SummaryWriter

from rankzero.errors import RunNotFoundError
from rankzero.importers.base import Report, SkipRun
from rankzero.importers.event_lines import one_by_one
from rankzero.importers.writing import Outcome, import_run
from rankzero.media.store import MediaStore
from rankzero.reader.run_data import read_run
from rankzero.rundir.layout import JOURNAL
from rankzero.testing import ImporterContract
from rankzero_tensorboard import TensorBoardLogger
from rankzero_tensorboard.event_file import read_records, record
from rankzero_tensorboard.importing import records
from rankzero_tensorboard.importing import scalars as scalars_module
from rankzero_tensorboard.importing.importer import TensorBoardImporter


def points(run):
    """Name → points of an imported run."""
    return {
        name: list(zip(series.step.tolist(), series.value.tolist(), strict=True))
        for name, series in run.metrics.items()
    }


def write_torch(directory, steps=range(30)):
    with SummaryWriter(str(directory)) as writer:
        for step in steps:
            writer.add_scalar("loss", 1 / (step + 1), step, walltime=1.7e9 + step)
            writer.add_scalar("double", step / 3, step, new_style=True, double_precision=True)
            writer.add_scalars("both", {"train": step, "val": -step}, step)
        writer.add_text("note", f"from {steps[0]}", steps[0])
        writer.add_histogram("weights", np.arange(100.0), steps[0])


class TestTensorBoardImporter(ImporterContract):
    has_checksums = True

    def make_importer(self):
        return TensorBoardImporter()

    def make_source(self, directory):
        write_torch(directory / "logs" / "first")
        with tensorboardX.SummaryWriter(str(directory / "logs" / "second")) as writer:
            for step in range(40):
                writer.add_scalar("loss", step / 7, step)
        return "logs"

    def grow_source(self, directory):
        for path in (directory / "logs" / "second").iterdir():
            with path.open("ab") as file:
                for step in range(40, 60):
                    value = Summary.Value(tag="loss", simple_value=step / 7)
                    event = Event(wall_time=1.8e9, step=step, summary=Summary(value=[value]))
                    file.write(record(event.SerializeToString()))
        write_torch(directory / "logs" / "first", range(30, 50))


@pytest.fixture
def take(tmp_path):
    """Import the only run of a directory; return it, and the data that was left out."""

    def take(directory, name=None, **options):
        runs = [
            each for each in TensorBoardImporter(**options).find([str(directory)]) if name in (None, each.header().name)
        ]
        (found,) = runs
        imported = import_run(found, tmp_path / "runs", "project")
        take.outcome = imported.outcome
        return read_run(imported.info.dir), imported.report.left_out

    return take


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"


def write_events(directory, summaries, name="events.out.tfevents.1700000000.host", **fields):
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / name).open("ab") as file:
        if not file.tell():
            file.write(record(Event(wall_time=1.7e9, file_version="brain.Event:2").SerializeToString()))
        for step, summary in enumerate(summaries):
            event = Event(**{"wall_time": 1.7e9, "step": step, "summary": summary, **fields})
            file.write(record(event.SerializeToString()))


def without_metadata(summary):
    summary.value[0].ClearField("metadata")
    return summary


def names(directory, **options):
    """Return the names of the runs with data that are found in a directory."""

    def name(found):
        try:
            return [found.header().name]
        except SkipRun:
            return []

    return [each for found in TensorBoardImporter(**options).find([str(directory)]) for each in name(found)]


# Numbers


def test_all_points_are_those_that_tensorboard_reads(take, logs):
    chance = random.Random(1)
    values = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, 3e38, 0.1]
    steps = [0, 1, 127, 128, 2**14, 2**35, 2**62, -1]
    with SummaryWriter(str(logs)) as writer:
        for number in range(3000):
            tag = f"tag{number % 40}/" + "x" * (number % 7)
            value = chance.choice(values) if number % 3 else chance.gauss(0, 1)
            options = {"new_style": number % 5 == 0, "double_precision": number % 10 == 0}
            writer.add_scalar(tag, value, chance.choice(steps) if number % 4 else number, **options)
    run, left_out = take(logs)
    read = accumulated(logs)
    assert not left_out
    for tag in read.Tags()["scalars"]:
        expected = [(each.wall_time, each.step, repr(each.value)) for each in read.Scalars(tag)]
        series = run.metrics[tag]
        found = zip(series.time.tolist(), series.step.tolist(), map(repr, series.value.tolist()), strict=True)
        assert list(found) == expected
    for tag in read.Tags()["tensors"]:
        assert run.metrics[tag].step.tolist() == [each.step for each in read.Tensors(tag)]
        for value, each in zip(run.metrics[tag].value.tolist(), read.Tensors(tag), strict=True):
            (stored,) = each.tensor_proto.double_val or each.tensor_proto.float_val
            assert repr(value) == repr(stored)
    assert len(read.Tags()["tensors"]) > 10


@pytest.mark.parametrize("count", [3, 300])
def test_numbers_of_one_record_are_one_event(take, logs, count):
    """Few records are decoded one by one, many of the same form together."""
    logger = TensorBoardLogger(logs, name="", version="")
    for step in range(count):
        logger.log_metrics({"loss": step / 3, "accuracy": math.nan, "big": 2.0**step if step < 128 else 1.0}, step)
    logger.finalize("success")
    run, left_out = take(logs)
    assert not left_out
    assert str(points(run)) == str(scalars(logs))
    assert (run.dir / "journal.jsonl").read_bytes().count(b'"type":"metrics"') == count


def test_numbers_in_tensors_of_tensorboards_own_writer(take, logs):
    writer = Writer(DirectoryOutput(str(logs)))
    for step in range(50):
        writer.add_scalar("loss", step / 3, step, wall_time=1.7e9 + step)
    writer.close()
    run, _ = take(logs)
    assert points(run) == {"loss": [(step, float(np.float32(step / 3))) for step in range(50)]}


def test_only_the_first_record_of_a_tag_may_have_metadata(take, logs):
    write_events(logs, [text_pb("note", "first"), *[without_metadata(text_pb("note", "next"))] * 2])
    run, left_out = take(logs)
    assert [text.data for text in run.texts["note"]] == [[["first"]], [["next"]], [["next"]]]
    assert not left_out


# Everything else


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_everything_that_torch_writes(take, logs):
    with SummaryWriter(str(logs)) as writer:
        writer.add_image("image", np.zeros((3, 4, 5), np.uint8), 7)
        writer.add_audio("audio", torch.zeros(1, 100), 8, sample_rate=8000)
        writer.add_text("text", "# Hello", 9)
        writer.add_histogram("histogram", np.array([0.0] * 3 + [1.0] * 5), 10)
        writer.add_pr_curve("curve", np.array([0, 1, 1]), np.array([0.1, 0.4, 0.8]), 11, num_thresholds=5)
        points = torch.arange(6.0).reshape(1, 2, 3)
        writer.add_mesh(
            "mesh", points, colors=points.to(torch.uint8) + 100, faces=torch.tensor([[[0, 1, 1]]]), global_step=12
        )
        writer.add_tensor("tensor", torch.arange(4.0), 13)
        writer.add_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
        writer.add_custom_scalars_multilinechart(["a", "b"])
    run, left_out = take(logs)
    ((image,), (sound,), (cloud,)) = (run.media[key] for key in ("image", "audio", "mesh"))
    assert Image.open(io.BytesIO(image.path.read_bytes())).size == (5, 4)
    assert (image.step, sound.step, cloud.step) == (7, 8, 12)
    assert sound.path.read_bytes()[:4] == b"RIFF"
    assert np.load(cloud.path).tolist() == [[0, 1, 2, 100, 101, 102], [3, 4, 5, 103, 104, 105]]
    assert [(text.step, text.data) for text in run.texts["text"]] == [(9, [["# Hello"]])]
    (histogram,) = run.histograms["histogram"]
    counts, edges = histogram.values.counts, histogram.values.edges
    assert (sum(counts), counts[-1], edges[0], edges[-1]) == (8, 5, 0.0, 1.0)
    (curve,) = run.tables["curve"]
    columns, rows = curve.read()
    assert columns[4:] == ["precision", "recall"]
    assert len(rows) == 5
    assert {each.name: each.kind for each in run.artifacts} == {
        "graph": "graph",
        "step1": "profile",
        "tensor": "tensor",
        "custom_scalars__config__": "custom_scalars",
    }
    assert left_out == {("mesh", "the faces of meshes are not imported, only their points"): 1}


def test_images_sounds_and_histograms_in_tensors(take, logs):
    images, sounds = (summary_of(plugin, strings, shape) for plugin, strings, shape in (
        ("images", [b"4", b"4", png(1), png(2)], [4]),
        ("audio", [b"RIFF1", b"first", b"RIFF2", b""], [2, 2]),
    ))  # fmt: skip
    write_events(logs, [images, sounds, histogram_pb("spread", np.array([1.0, 2.0, 2.0, 3.0]), buckets=2)])
    run, left_out = take(logs)
    assert [each.path.read_bytes() for each in run.media["images"]] == [png(1), png(2)]
    assert [each.caption for each in run.media["audio"]] == ["first", None]
    assert run.histograms["spread"][0].values.counts == [1, 3]
    assert run.histograms["spread"][0].values.edges == [1.0, 2.0, 3.0]
    assert not left_out


def summary_of(plugin, strings, shape):
    dimensions = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
    summary = Summary(
        value=[Summary.Value(tag=plugin, tensor=TensorProto(dtype=7, tensor_shape=dimensions, string_val=strings))]
    )
    summary.value[0].metadata.plugin_data.plugin_name = plugin
    return summary


def test_files_of_rankzeros_logger_give_the_logged_data(take, logs):
    logger = TensorBoardLogger(logs, name="", version="")
    params = {"lr": 0.1, "layers": 3, "optimizer": {"name": "adam"}, "sizes": [1, 2]}
    logger.log_hyperparams(params)
    logger.log_image("val/pictures", [png(1), png(2)], step=1, caption=["a cat", "a dog"])
    logger.log_image("one", [png(3)], step=2, caption=["a bird"])
    logger.log_video("film", [np.zeros((3, 4, 4, 3), np.uint8)], step=3)
    logger.log_table("table", columns=["x", "y"], data=[[1, "a"], [2, "b"]], step=4)
    logger.log_pointcloud("points", [np.zeros((3, 6)), np.ones((3, 3))], step=5)
    logger.finalize("failed")
    run, left_out = take(logs)
    assert run.status == "failed"
    assert run.params == params
    assert [(each.caption, each.path.read_bytes()) for each in run.media["val/pictures"]] == [
        ("a cat", png(1)),
        ("a dog", png(2)),
    ]
    assert [each.caption for each in run.media["one"]] == ["a bird"]
    assert [each.kind for each in run.media["film"]] == ["video"]
    assert (run.texts["table"][0].columns, run.texts["table"][0].data) == (["x", "y"], [["1", "a"], ["2", "b"]])
    assert [np.load(each.path).shape for each in run.media["points"]] == [(3, 6), (3, 3)]
    assert not left_out


def test_hyperparameters_and_metrics_of_lightning(take, logs):
    logger = LightningLogger(logs, name=None, version="")
    logger.log_hyperparams({"lr": 0.1, "layers": 3, "model": {"sizes": [1, 2]}}, {"score": 0.5})
    for step in range(20):
        logger.log_metrics({"loss": step / 4}, step)
    logger.finalize("success")
    run, left_out = take(logs)
    assert run.params == {"lr": 0.1, "layers": 3, "model": {"sizes": [1, 2]}}
    assert points(run) == {"score": [(0, 0.5)], "loss": [(step, step / 4) for step in range(20)]}
    assert not left_out


def test_data_that_a_writer_purged_is_superseded(take, logs):
    for steps, purge_step in ((range(10), None), (range(5, 8), 5)):
        with SummaryWriter(str(logs), purge_step=purge_step, filename_suffix=f".{len(steps)}") as writer:
            for step in steps:
                writer.add_scalar("loss", step + len(steps), step)
    run, _ = take(logs)
    assert points(run)["loss"] == [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14), (5, 8), (6, 9), (7, 10)]


# Which directories are runs


@pytest.mark.parametrize("make", [SummaryWriter, tensorboardX.SummaryWriter])
def test_subdirectories_of_add_scalars_and_add_hparams_belong_to_the_run(take, logs, make):
    with make(str(logs / "first")) as writer:
        writer.add_scalar("loss", 0.5, 1)
        writer.add_scalars("val/accuracy", {"a": 0.25, "b": 0.75}, 2)
        writer.add_hparams({"lr": 0.5}, {"score": 1.0})
    assert len(names(logs, join=False)) == 4
    run, _ = take(logs)
    assert run.info.name == "first"
    assert run.params == {"lr": 0.5}
    found = points(run)
    assert found.pop("score")[0][1] == 1.0
    assert found == {"loss": [(1, 0.5)], "val/accuracy/a": [(2, 0.25)], "val/accuracy/b": [(2, 0.75)]}


def test_trials_of_add_hparams_are_runs(logs):
    with SummaryWriter(str(logs)) as writer:
        for number in range(3):
            writer.add_hparams({"lr": number / 10}, {"score": number}, run_name=f"trial{number}")
    assert names(logs) == ["trial0", "trial1", "trial2"]


def test_a_directory_below_another_is_a_separate_run(logs):
    for name in ("", "loss_a", "train"):
        with SummaryWriter(str(logs / name), filename_suffix=name) as writer:
            writer.add_scalar("accuracy", 0.5, 1)
    assert names(logs) == ["logs", "loss_a", "train"]


def test_a_run_keeps_its_id_when_it_is_moved_and_differs_from_others(logs, tmp_path):
    for name in ("a", "b"):
        write_torch(logs / name / "version_0", range(3))
    before = [found.identity for found in TensorBoardImporter().find([str(logs)])]
    assert len(set(before)) == 2
    shutil.move(logs / "b" / "version_0", tmp_path / "renamed")
    (moved,) = TensorBoardImporter().find([str(tmp_path / "renamed")])
    assert moved.identity == before[1]
    shutil.copytree(tmp_path / "renamed", logs / "copy")
    assert len({found.identity for found in TensorBoardImporter().find([str(logs), str(tmp_path / "renamed")])}) == 3


def test_sources_without_event_files_are_refused(tmp_path):
    with pytest.raises(RunNotFoundError, match="tfevents"):
        TensorBoardImporter().find([str(tmp_path)])


# Damage, and files that grow


def test_damage_is_reported_and_the_records_after_it_are_imported(take, logs):
    write_torch(logs, range(40))
    (path,) = logs.glob("events*")
    ends = [end for end, _ in read_records(path)]
    data = bytearray(path.read_bytes())
    data[ends[19] + 20] ^= 1  # content
    data[ends[29] + 3] ^= 1  # length: only this record is lost
    del data[ends[39] + 15 : ends[39] + 25]  # shorter than its length
    path.write_bytes(data)
    run, left_out = take(logs, "logs", join=False)
    assert sum(map(len, points(run).values())) == 80 - 3
    assert left_out == {(path.name, "a record is damaged"): 3}


@pytest.mark.parametrize("seed", range(20))
def test_records_that_are_read_together_give_the_same_lines_as_one_by_one(logs, tmp_path, monkeypatch, seed):
    chance = random.Random(seed)
    tags = ['the "first"', *(f"tag/{number}" for number in range(chance.randint(0, 4)))]
    odd = [math.nan, math.inf, -math.inf, -0.0, 1e-40, 3e38]

    def summary():
        if chance.random() < 0.01:
            return Summary(value=[Summary.Value(tag="note", tensor=text_pb("note", "x" * 300).value[0].tensor)])
        number = chance.choice(odd) if chance.random() < 0.1 else chance.uniform(-1, 1)
        some = chance.sample(tags, chance.choice([1, 1, 1, len(tags)]))
        return Summary(value=[Summary.Value(tag=tag, simple_value=number) for tag in some])

    for _ in range(chance.randint(1, 40)):
        wall_time = chance.choice([chance.uniform(0, 2e9), 1.7e9, 0.0])
        write_events(logs, [summary() for _ in range(chance.randint(1, 90))], wall_time=wall_time)
    (path,) = logs.iterdir()
    data = bytearray(path.read_bytes())
    for _ in range(seed % 4):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data[: chance.randrange(len(data) // 2, len(data))] if seed % 2 else data)

    def journal(name):
        (found,) = TensorBoardImporter().find([str(logs)])
        imported = import_run(found, tmp_path / name, "project")
        return (tmp_path / name / "project" / imported.info.id / JOURNAL).read_bytes().splitlines()[1:], imported

    monkeypatch.setattr(records, "_SAMPLE", chance.choice([4, 512]))
    together, first = journal("together")
    monkeypatch.setattr(records, "_walk_short", lambda data: np.empty(0, int))
    monkeypatch.setattr(records, "FEW", math.inf)
    monkeypatch.setattr(scalars_module, "FEW", math.inf)
    one_by_one, second = journal("one by one")
    assert together == one_by_one
    assert (first.values, first.until, first.report.left_out) == (second.values, second.until, second.report.left_out)


def test_a_torn_record_is_reported_and_imported_when_it_is_complete(take, logs, tmp_path):
    write_torch(tmp_path / "whole", range(40))
    (whole,) = (tmp_path / "whole").glob("events*")
    data = whole.read_bytes()
    logs.mkdir()
    path = logs / whole.name
    for size in itertools.chain(range(250, 900, 31), [len(data)]):
        path.write_bytes(data[:size])
        run, left_out = take(logs)
        assert bool(left_out) != (size in {end for end, _ in read_records(path)})
    assert take.outcome is Outcome.APPENDED
    expected, _ = take(tmp_path / "whole", "whole", join=False)
    assert points(run) == points(expected)
    path.write_bytes(data[:500])
    take(logs)
    assert take.outcome is Outcome.DIFFERENT


def test_only_new_records_are_read_again(logs, tmp_path):
    write_torch(logs, range(40))
    (found,) = TensorBoardImporter().find([str(logs)])
    store = MediaStore(tmp_path)
    before = list(one_by_one(found.events(store, Report())))
    write_torch(logs, range(40, 50))
    (again,) = TensorBoardImporter().find([str(logs)])
    assert again.resume(json.loads(json.dumps(found.position)))
    (whole,) = TensorBoardImporter().find([str(logs)])
    assert again.size < whole.size / 2
    new = list(one_by_one(again.events(store, Report())))
    assert sorted(map(repr, before + new)) == sorted(map(repr, one_by_one(whole.events(store, Report()))))
    path = logs / next(iter(found.position["files"]))
    path.write_bytes(path.read_bytes().replace(b"brain", b"drain"))
    assert not again.resume(found.position)


def test_records_that_are_invalid_are_left_out(take, logs):
    huge = summary_of("scalars", [], [1 << 40])
    huge.value[0].tensor.CopyFrom(TensorProto(dtype=1, tensor_shape=huge.value[0].tensor.tensor_shape, float_val=[1.0]))
    write_events(logs, [huge])
    write_events(logs, [Summary(value=[Summary.Value(tag="loss", simple_value=1)])] * 40, wall_time=math.nan)
    write_events(
        logs, [summary_of("pr_curves", [b"no curve"], [1]), Summary(value=[Summary.Value(tag="ok", simple_value=1)])]
    )
    with next(logs.iterdir()).open("ab") as file:
        file.write(record(b"\x2a\xff\xff no message"))
    run, left_out = take(logs)
    assert points(run) == {"ok": [(1, 1.0)]}
    assert sorted(left_out.values()) == [1, 1, 1, 40]


def test_a_file_of_zeros_and_one_of_headers_end_soon(take, logs):
    write_torch(logs, range(3))
    header = record(bytes(200))[:12]
    for name, content in (("zeros", bytes(1 << 22)), ("headers", header * 300)):
        (logs / f"events.out.tfevents.1800000000.{name}").write_bytes(content)
    _, left_out = take(logs, "logs")
    assert {what.rpartition(".")[2]: count for (what, _), count in left_out.items()} == {"zeros": 1, "headers": 1}

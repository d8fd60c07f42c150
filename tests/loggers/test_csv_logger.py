"""`CSVLogger`: Lightning's files when used directly, exactly the journal under a run, and nothing ever deleted."""

import csv
import errno
import io
import json
import math
import multiprocessing
import os
import subprocess
import sys
from argparse import Namespace
from decimal import Decimal

import fsspec
import pytest
import yaml
from recorded import write
from servers.child import log_and_close

from rankzero.delivery.courier import Courier
from rankzero.errors import PluginNotInstalledError, TrackerUnavailableError
from rankzero.events.run_info import LogContext, RunInfo
from rankzero.events.structs import (
    Artifact,
    Checkpoint,
    Finish,
    Image,
    Metrics,
    Params,
    Rewind,
    Start,
    Table,
    Text,
)
from rankzero.files.directories import place_at
from rankzero.loggers.csv.file import CsvFile
from rankzero.loggers.csv.logger import CSVLogger, ExperimentWriter
from rankzero.media.store import MediaStore
from rankzero.testing.samples import png


def read(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def columns(path):
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def column(path, name):
    return [row[name] for row in read(path)]


# Used directly: as Lightning's


@pytest.fixture(params=["ours", "lightning"])
def either(request):
    """Both loggers, so that what a test says is true of the one that ours stands in for."""
    if request.param == "ours":
        return CSVLogger
    return pytest.importorskip("lightning.pytorch.loggers").CSVLogger


def test_directories(either, tmp_path):
    logger = either(tmp_path, "exp")
    assert (logger.name, logger.version) == ("exp", 0)
    assert logger.save_dir == str(tmp_path)
    assert logger.root_dir == str(tmp_path / "exp")
    assert logger.log_dir == str(tmp_path / "exp" / "version_0")
    assert either(tmp_path).name == "lightning_logs"
    assert either(tmp_path, None).name == ""
    assert either(tmp_path, "exp", version="debug").log_dir == str(tmp_path / "exp" / "debug")
    assert either(tmp_path, "exp", version=7).log_dir == str(tmp_path / "exp" / "version_7")


def test_automatic_version(either, tmp_path):
    for name in ("version_0", "version_7", "version_nonumber", "other"):
        (tmp_path / "exp" / name).mkdir(parents=True)
    (tmp_path / "exp" / "version_9").touch()
    assert either(tmp_path, "exp").version == 8
    first, second = either(tmp_path, "new"), either(tmp_path, "new")
    assert first.experiment is first.experiment
    assert (first.version, second.version) == (0, 1)


def test_files(either, tmp_path):
    logger = either(tmp_path, "exp", prefix="tmp")
    logger.log_hyperparams(Namespace(lr=0.1, layers=[1, 2]))
    logger.log_hyperparams({"lr": 0.2, "nested": {"a": None}})
    logger.log_metrics({"b": 0.1, "a": 2, "nan": math.nan}, step=5)
    logger.log_metrics({"a": 1 / 3, "epoch": 0, "inf": -math.inf}, step=5)
    logger.save()
    logger.finalize("success")
    path = tmp_path / "exp" / "version_0" / "metrics.csv"
    assert columns(path) == ["step", "tmp-a", "tmp-b", "tmp-epoch", "tmp-inf", "tmp-nan"]
    assert read(path) == [
        {"step": "5", "tmp-a": "2", "tmp-b": "0.1", "tmp-epoch": "", "tmp-inf": "", "tmp-nan": "nan"},
        {"step": "5", "tmp-a": "0.3333333333333333", "tmp-b": "", "tmp-epoch": "0", "tmp-inf": "-inf", "tmp-nan": ""},
    ]
    hparams = yaml.safe_load((path.parent / "hparams.yaml").read_text())
    assert hparams == {"lr": 0.2, "layers": [1, 2], "nested": {"a": None}}


def test_experiment(either, tmp_path):
    experiment = either(tmp_path).experiment
    experiment.log_metrics({"a": 1.5, "text": "x"}, step=2)
    experiment.log_metrics({"a": 2.5})
    assert experiment.metrics == [{"a": 1.5, "text": "x", "step": 2}, {"a": 2.5, "step": 1}]
    experiment.log_hparams({"lr": 1})
    assert experiment.hparams == {"lr": 1}
    experiment.save()
    assert experiment.metrics == []
    assert experiment.metrics_keys == ["a", "step", "text"]
    assert experiment.metrics_file_path == str(tmp_path / "lightning_logs" / "version_0" / "metrics.csv")
    assert column(experiment.metrics_file_path, "text") == ["x", ""]


def test_buffer_is_written_every_n_rows(either, tmp_path):
    logger = either(tmp_path, flush_logs_every_n_steps=2)
    for step, written in enumerate([False, True, True]):
        logger.log_metrics({"a": 1}, step)
        assert os.path.exists(logger.experiment.metrics_file_path) == written


def test_save_and_finalize_without_use_make_nothing(tmp_path):
    logger = CSVLogger(tmp_path / "logs")
    logger.save()
    logger.finalize("success")
    logger.close()
    assert not (tmp_path / "logs").exists()


def test_without_save_dir_it_writes_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = CSVLogger()
    logger.log_metrics({"a": 1})
    logger.close()
    assert (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").exists()


def test_real_trainer_writes_the_same_as_with_lightnings_logger(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    demos = pytest.importorskip("lightning.pytorch.demos.boring_classes")

    class Model(demos.BoringModel):
        def training_step(self, batch, index):
            loss = super().training_step(batch, index)["loss"]
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

    tables = []
    for logger in (CSVLogger(tmp_path, "ours"), lightning.loggers.CSVLogger(tmp_path, "theirs")):
        lightning.seed_everything(1)
        trainer = lightning.Trainer(
            max_epochs=2, limit_train_batches=4, limit_val_batches=1, log_every_n_steps=2, logger=logger,
            enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(Model())
        tables.append(read(tmp_path / logger.name / "version_0" / "metrics.csv"))
    assert len(tables[0]) > 4
    assert tables[0] == tables[1]
    files = [sorted(os.listdir(tmp_path / name / "version_0")) for name in ("ours", "theirs")]
    assert files[0] == files[1]


# Used directly: better than Lightning's


def test_values(tmp_path):
    torch = pytest.importorskip("torch")
    logger = CSVLogger(tmp_path)
    values = {
        "int": 2**70, "float": 5e-324, "bool": True, "tensor": torch.tensor(0.5), "bfloat16": torch.ones(1).bfloat16(),
        "decimal": Decimal("0.1"), "text": 'a,"b"\n', "none": None, "list": [1, 2], "deep": {"er": 1},
    }  # fmt: skip
    logger.log_metrics(values, step=torch.tensor(3))
    logger.close()
    (row,) = read(tmp_path / "lightning_logs" / "version_0" / "metrics.csv")
    assert row == {
        "step": "3", "int": str(2**70), "float": "5e-324", "bool": "1", "tensor": "0.5", "bfloat16": "1.0",
        "decimal": "0.1", "text": 'a,"b"\n', "none": "", "list": "[1,2]", "deep/er": "1",
    }  # fmt: skip


def test_step_is_the_number_of_rows_if_not_given(tmp_path):
    for start in (0, 5):
        logger = CSVLogger(tmp_path, version="same")
        for _ in range(5):
            logger.log_metrics({"a": 1})
            logger.save()
        logger.close()
        assert column(logger.experiment.metrics_file_path, "step") == [str(step) for step in range(start + 5)]


def test_metric_called_step(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"step": 7, "a": 1})
    logger.log_metrics({"step": 8, "a": 2}, step=8)
    with pytest.warns(UserWarning, match="'step' is in the column 'metric-step'"):
        logger.log_metrics({"step": 1.5, "a": 3}, step=9)
    logger.log_metrics({"step": 2.5, "metric-step": 4}, step=10)
    logger.close()
    path = logger.experiment.metrics_file_path
    assert column(path, "step") == ["7", "8", "9", "10"]
    assert column(path, "metric-step") == ["", "", "1.5", "4"]
    assert column(path, "metric-metric-step") == ["", "", "", "2.5"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_existing_version_is_continued(tmp_path, line_end):
    directory = tmp_path / "lightning_logs" / "version_3"
    directory.mkdir(parents=True)
    (directory / "metrics.csv").write_bytes(line_end.join(["a,step", "1.5,0", "2.5,1", ""]).encode())
    (directory / "hparams.yaml").write_text("lr: 0.1\nseed: 1\n")
    logger = CSVLogger(tmp_path, version=3)
    logger.log_hyperparams({"lr": 0.2})
    logger.log_metrics({"a": 3.5}, step=2)
    logger.save()
    logger.log_metrics({"b": 4.5, "aa": 0}, step=3)
    logger.close()
    path = directory / "metrics.csv"
    assert columns(path) == ["a", "step", "aa", "b"]
    assert [list(row.values()) for row in read(path)] == [
        ["1.5", "0", "", ""], ["2.5", "1", "", ""], ["3.5", "2", "", ""], ["", "3", "0", "4.5"],
    ]  # fmt: skip
    assert yaml.safe_load((directory / "hparams.yaml").read_text()) == {"lr": 0.2, "seed": 1}


def test_hyperparameters_that_cannot_be_read_are_kept_aside(tmp_path):
    directory = tmp_path / "lightning_logs" / "version_0"
    directory.mkdir(parents=True)
    theirs = "lr: !!python/object:some.Class {}\n"
    (directory / "hparams.yaml").write_text(theirs)
    logger = CSVLogger(tmp_path, version=0)
    logger.log_hyperparams({"lr": 0.2})
    assert (directory / "hparams.1.yaml").read_text() == theirs
    assert yaml.safe_load((directory / "hparams.yaml").read_text()) == {"lr": 0.2}


def test_row_that_a_crash_tore_is_ended(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"a,step\n1.5,0\n2.")
    file = CsvFile(place_at(str(tmp_path)), path.name)
    assert file.rows == 2
    file.append([{"a": 3.5, "step": 2}])
    file.append([{"b": 1}])
    assert path.read_text() == "a,step,b\n1.5,0,\n2.,\n3.5,2,\n,,1\n"


def test_names_of_columns(tmp_path):
    names = ["a,b", 'say "a"', "two\nlines", "größe", " a ", "", "=1+1", "a;b"]
    path = tmp_path / "metrics.csv"
    place = place_at(str(tmp_path))
    CsvFile(place, path.name).append([dict.fromkeys(names, 1), dict.fromkeys(names, 2)])
    file = CsvFile(place, path.name)
    assert file.rows == 2
    file.append([{"new": 1}])
    assert CsvFile(place, path.name).columns == [*sorted(names), "new"]
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        assert len(list(csv.reader(lines))) == 4


def test_new_columns_rewrite_the_file_once_for_each_flush(tmp_path, monkeypatch):
    rewritten = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (rewritten.append(paths[1]), replace(*paths)))
    logger = CSVLogger(tmp_path)
    for step in range(99):
        logger.log_metrics({f"metric {step}": step}, step)
    logger.save()
    assert rewritten == []
    for step in range(99, 150):
        logger.log_metrics({f"metric {step}": step}, step)
    logger.save()
    assert len(rewritten) == 1
    logger.log_metrics({"metric 5": 5}, 5)
    logger.save()
    assert len(rewritten) == 1
    rows = read(logger.experiment.metrics_file_path)
    assert all(row[f"metric {step}"] == str(step) for step, row in enumerate(rows[:-1]))


def test_rewriting_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    logger.save()
    path = tmp_path / "lightning_logs" / "version_0" / "metrics.csv"
    before = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "disk full")

    logger.log_metrics({"b": 1}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(TrackerUnavailableError, match="disk full"):
            logger.flush()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["metrics.csv"]
    logger.flush()
    assert column(path, "b") == ["", "1"]


def test_disk_that_fills_up_in_the_middle_of_a_row(tmp_path, monkeypatch):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    logger.save()
    path = tmp_path / "lightning_logs" / "version_0" / "metrics.csv"
    before = path.read_bytes()
    write = os.write
    calls = []

    def full(descriptor, data):
        calls.append(data)
        if len(calls) == 1:
            return write(descriptor, data[:3])
        raise OSError(errno.ENOSPC, "disk full")

    logger.log_metrics({"a": 2.5}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(TrackerUnavailableError, match="disk full"):
            logger.flush()
    assert path.read_bytes() == before
    logger.flush()
    assert column(path, "a") == ["1", "2.5"]


def test_two_loggers_on_one_file(tmp_path):
    first, second = (CSVLogger(tmp_path, version=0) for _ in range(2))
    for step, logger in enumerate([first, second, first, second]):
        logger.log_metrics({"a": step, f"only {step}": step}, step)
        logger.flush()
    assert column(tmp_path / "lightning_logs" / "version_0" / "metrics.csv", "a") == ["0", "1", "2", "3"]


def test_rows_are_written_when_a_process_ends_without_finalize(tmp_path):
    program = f"from rankzero import CSVLogger; log = CSVLogger({str(tmp_path)!r}); log.log_metrics({{'a': 1}}, 0)"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert column(tmp_path / "lightning_logs" / "version_0" / "metrics.csv", "a") == ["1"]


def test_forked_child_does_not_write_its_parents_rows(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    pid = os.fork()
    if not pid:
        try:
            del logger  # what the end of the process does
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    logger.close()
    assert column(logger.experiment.metrics_file_path, "a") == ["1"]


def test_files_are_found_by_key_and_step(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_table("val/preds", ["x"], [[1], [2]], step=3)
    logger.log_table("val/preds", ["x"], [[3]], step=3)
    logger.log_image("digits", [png()], step=3, caption=["a seven"])
    logger.log_table("../../escape", ["x"], [[1]])
    logger.log_table("..", ["x"], [[1]])
    (tmp_path / "model.ckpt").write_bytes(b"weights")
    logger.log_checkpoint(tmp_path / "model.ckpt", score=0.5, step=3, aliases=["best"])
    logger.close()
    directory = tmp_path / "lightning_logs" / "version_0"
    tables = sorted(path.name for path in (directory / "tables" / "val").iterdir())
    assert len(tables) == 2
    assert all(name.startswith("preds-3-") and name.endswith(".csv") for name in tables)
    (image,) = (directory / "images").iterdir()
    assert image.name.startswith("digits-3-")
    assert image.read_bytes() == png()
    assert [path.parent.name for path in tmp_path.rglob("escape*")] == ["tables"]
    rows = read(directory / "files.csv")
    assert list(rows[0]) == ["time", "step", "kind", "key", "path", "details"]
    assert [(row["kind"], row["key"], row["step"]) for row in rows] == [
        ("table", "val/preds", "3"), ("table", "val/preds", "3"), ("image", "digits", "3"),
        ("table", "../../escape", ""), ("table", "..", ""), ("checkpoint", "model.ckpt", "3"),
    ]  # fmt: skip
    assert json.loads(rows[2]["details"]) == {"caption": "a seven"}
    assert json.loads(rows[-1]["details"]) == {"score": 0.5, "aliases": ["best"]}
    assert rows[-1]["path"] == str(tmp_path / "model.ckpt")
    assert all((directory / row["path"]).exists() for row in rows)


def test_a_key_whose_name_is_too_long_in_bytes_is_kept_under_a_shorter_one(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_image("损失函数" * 22 + "/" + "损失函数" * 22, [png()], step=3)
    logger.close()
    (row,) = read(tmp_path / "lightning_logs" / "version_0" / "files.csv")
    assert row["key"] == "损失函数" * 22 + "/" + "损失函数" * 22
    assert (tmp_path / "lightning_logs" / "version_0" / row["path"]).read_bytes() == png()


def test_an_interrupted_copy_is_not_confused_with_the_file(tmp_path, monkeypatch):
    """On another file system there are no hard links."""

    class Breaking(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().read(20)

    monkeypatch.setattr(
        "rankzero.files.writing.os.link", lambda *_, **__: _raise(OSError(errno.EXDEV, "another file system"))
    )
    logger = CSVLogger(tmp_path)
    with monkeypatch.context() as full:
        full.setattr("rankzero.files.writing.open_regular", lambda path: Breaking(png()))
        with pytest.raises(OSError, match="No space"):
            logger.log_image("digits", [png()], step=3)
    logger.log_image("digits", [png()], step=3)
    logger.close()
    (kept,) = (tmp_path / "lightning_logs" / "version_0" / "images").iterdir()
    assert kept.read_bytes() == png()


def _raise(error):
    raise error


def test_works_in_a_spawned_process(tmp_path):
    logger = CSVLogger(tmp_path, "spawned")
    logger.log_metrics({"a": 0}, 0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(log_and_close, (logger,))
    logger.close()
    assert column(tmp_path / "spawned" / "version_0" / "metrics.csv", "a") == ["1", "0"]


# Object stores


@pytest.fixture
def bucket():
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/bucket", recursive=True)


def test_object_store(bucket):
    for start in (0, 2):
        logger = CSVLogger("memory://bucket/logs", "exp", version=5)
        logger.log_hyperparams({f"p{start}": start})
        for step in range(start, start + 2):
            logger.log_metrics({f"a{start}": step}, step)
        logger.log_table("preds", ["x"], [[start]], step=start)
        logger.finalize("success")
        logger.close()
    with bucket.open("/bucket/logs/exp/version_5/metrics.csv", "rt") as file:
        assert file.read() == "a0,step,a2\n0,0,\n1,1,\n,2,2\n,3,3\n"
    with bucket.open("/bucket/logs/exp/version_5/hparams.yaml", "rt") as file:
        assert yaml.safe_load(file) == {"p0": 0, "p2": 2}
    assert len(bucket.ls("/bucket/logs/exp/version_5/tables", detail=False)) == 2
    assert CSVLogger("memory://bucket/logs", "exp").version == 6
    assert CSVLogger("memory://bucket/logs", "exp").log_dir == "memory://bucket/logs/exp/version_6"


def test_object_store_is_written_when_the_buffer_is_full_and_not_at_every_save(bucket):
    logger = CSVLogger("memory://bucket/logs", version=0, flush_logs_every_n_steps=3)
    uploaded = []
    for step in range(4):
        logger.log_metrics({"a": 1}, step)
        logger.save()
        uploaded.append(bucket.exists("/bucket/logs/lightning_logs/version_0/metrics.csv"))
    assert uploaded == [False, False, True, True]
    logger.close()


def test_object_store_leaves_nothing_on_this_machine(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    logger = CSVLogger("memory://bucket/logs")
    logger.log_metrics({"a": 1}, 0)
    logger.log_image("digits", [png()], step=3)
    assert list(tmp_path.iterdir())
    logger.close()
    assert not list(tmp_path.iterdir())


def test_object_store_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(PluginNotInstalledError, match=r"pip install 'rankzero\[remote\]'"):
        CSVLogger("memory://bucket/logs", version=0).log_metrics({"a": 1}, 0)


# Under a run


class Killed(BaseException):
    """Stands for SIGKILL."""


class DyingCourier(Courier):
    """Leaves the logger as it is, as the death of a process does."""

    def _drop_logger(self):
        self.logger = None


class RunOnDisk:
    """A real journal, delivered by real couriers."""

    def __init__(self, directory):
        self.dir = directory
        self.info = RunInfo("a" * 32, "happy-run", "project", str(directory))
        self.rows = []
        self.add(Start(1.0, self.info))

    def add(self, *events):
        write(self.dir, *events)

    def log(self, values, **context):
        row = Metrics(100.5 + len(self.rows), len(self.rows), values, **context)
        self.rows.append({"time": str(row.time), "step": str(row.step)} | {k: str(v) for k, v in values.items()})
        self.add(row)

    def rewind(self, step):
        del self.rows[step + 1 :]
        self.add(Rewind(200.0, step))

    def deliver(self, logger=CSVLogger, courier=Courier, grace_period=0):
        courier(self.dir, "csv", logger, follow=False, grace_period=grace_period).run()

    def check(self, path=None):
        assert [{k: v for k, v in row.items() if v} for row in read(path or self.dir / "metrics.csv")] == self.rows


@pytest.fixture
def run(tmp_path):
    return RunOnDisk(tmp_path / "run")


def test_it_writes_into_the_runs_directory(run):
    run.log({"loss": 0.5}, epoch=3, stage="train")
    run.rows[0] |= {"epoch": "3", "stage": "train"}
    run.log({"loss": 0.25})
    run.add(Params(1.0, {"lr": 0.1}, {"hp_metric": 1.5}))
    run.rows.append({"hp_metric": "1.5", "step": "0", "time": "1.0"})
    run.deliver()
    run.check()
    assert columns(run.dir / "metrics.csv") == ["step", "time", "epoch", "hp_metric", "loss", "stage"]
    assert yaml.safe_load((run.dir / "hparams.yaml").read_text()) == {"lr": 0.1}


@pytest.mark.parametrize("version", [None, "mine", 3])
def test_given_save_dir_is_the_same_directory_in_every_process(run, tmp_path, version):
    name = {None: run.info.id, "mine": "mine", 3: "version_3"}[version]
    for step in range(3):
        run.log({"loss": step})
        run.deliver(lambda: CSVLogger(tmp_path / "logs", "exp", version))
    run.check(tmp_path / "logs" / "exp" / name / "metrics.csv")
    assert not (run.dir / "metrics.csv").exists()


def test_metrics_with_the_name_of_a_column(run):
    run.log({"time": 3, "stage": 4, "step": 5, "epoch": 6.5}, epoch=1, stage="test")
    run.log({"stage": 7}, epoch=1)
    run.rows[0] = {
        "time": "100.5", "stage": "test", "step": "0", "epoch": "6.5", "metric-time": "3", "metric-stage": "4",
        "metric-step": "5",
    }  # fmt: skip
    run.rows[1] = {"time": "101.5", "step": "1", "epoch": "1", "metric-stage": "7"}
    with pytest.warns(UserWarning, match="is in the column 'metric-"):
        run.deliver()
    run.check()


def test_files_of_a_run(run, recwarn):
    store = MediaStore(run.dir)
    (run.dir / "checkpoints").mkdir()
    (run.dir / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    run.add(
        Image(1.0, "digits", [store.put_bytes((png(), ".png"), caption="seven"), store.put_bytes((b"2", ".png"))], 3),
        Table(2.0, "preds", store.table(["x"], [[1]]), 3),
        Text(3.0, "notes", ["text"], [["hello"]], 3),
        Artifact(4.0, "checkpoints/last.ckpt", "weights", "model", ["v1"], {"rows": 3}),
        Checkpoint(5.0, "checkpoints/last.ckpt", str(run.dir / "checkpoints" / "last.ckpt"), 0.5, 3, ["best"]),
    )
    run.deliver()
    before = {path: path.stat().st_ino for path in run.dir.rglob("*") if path.is_file()}
    rows = read(run.dir / "files.csv")
    assert [(row["kind"], row["key"], row["time"]) for row in rows] == [
        ("image", "digits", "1.0"), ("image", "digits", "1.0"), ("table", "preds", "2.0"), ("table", "notes", "3.0"),
        ("artifact", "weights", "4.0"), ("checkpoint", "last.ckpt", "5.0"),
    ]  # fmt: skip
    assert [row["path"] for row in rows if not (run.dir / row["path"]).exists()] == []
    assert not any(row["path"].startswith("/") for row in rows)
    assert (run.dir / rows[0]["path"]).stat().st_nlink == 2, "copied, not linked"
    assert not recwarn.list

    (run.dir / ".metrics.csv.delivered").unlink()  # everything is delivered again
    run.log({"loss": 1.0})
    run.deliver()
    assert read(run.dir / "files.csv") == rows
    after = {path: path.stat().st_ino for path in run.dir.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {run.dir / "metrics.csv"}
    run.check()


def fill(run):
    """Rows of old and new columns, in three deliveries."""
    run.log({"a": 0.5})
    run.log({"a": 1.5})
    run.deliver()
    run.log({"a": 2.5})
    run.log({"a": 3.5, "new": 1})
    run.add(Text(1.0, "notes", ["text"], [["hello"]], 3))
    run.log({"b": 4.5})
    run.add(Params(1.0, {"lr": 0.1}))


def fill_and_rewind(run):
    """Rows and texts, of which a rewind takes back some that were delivered."""
    for value in (0.5, 1.5, 2.5):
        run.log({"a": value, "name": 1})
    run.add(Text(1.0, "notes", ["text"], [["hello"]], 0), Text(2.0, "notes", ["text"], [["superseded"]], 2))
    run.deliver()
    run.log({"a": 3.5})
    run.rewind(1)
    run.log({"a": 4.5, "new": 1})


@pytest.mark.parametrize("fill", [fill, fill_and_rewind])
def test_kill_at_every_write(tmp_path, monkeypatch, fill):
    """Kill the courier before and after each of its writes; the next one leaves the rows of the journal, once each."""
    names = ("write", "replace", "ftruncate", "link")
    for number in range(100):
        run = RunOnDisk(tmp_path / str(number))
        fill(run)
        countdown = number

        def lethal(real):
            def call(*args, **kwargs):
                nonlocal countdown
                countdown -= 1
                if countdown == -1:
                    raise Killed
                result = real(*args, **kwargs)
                countdown -= 1
                if countdown == -1:
                    raise Killed
                return result

            return call

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, lethal(getattr(os, name)))
            try:
                run.deliver(courier=DyingCourier)
                survived = True
            except Killed:
                survived = False
        run.log({"a": 5.5})
        run.deliver()
        run.check()
        assert len(read(run.dir / "files.csv")) == 1
        assert not list(run.dir.glob("metrics.*.csv"))
        if survived:
            break
    assert 8 < number < 99, "how often it was killed"


def test_a_rewind_removes_no_rows_of_a_directory_with_other_runs(run, tmp_path):
    def logger():
        return CSVLogger(tmp_path, "exp", 3)

    run.log({"a": 0.5})
    run.log({"a": 1.5})
    run.deliver(logger)
    superseded = run.rows[1:]
    run.rewind(0)
    run.log({"a": 2.5})
    run.rows[1:1] = superseded
    with pytest.warns(UserWarning, match="CSVLogger cannot take back what it has: of the steps after 0"):
        run.deliver(logger)
    run.check(tmp_path / "exp" / "version_3" / "metrics.csv")


def test_a_rewind_in_direct_use(tmp_path):
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=3)
    for step in range(5):
        logger.log_metrics({"note": 'a "quoted",\nlonger text', "loss": step}, step)
    logger.rewind(2)
    logger.log_metrics({"loss": 9}, 3)
    logger.save()
    assert column(tmp_path / "lightning_logs" / "version_0" / "metrics.csv", "loss") == ["0", "1", "2", "9"]


def _delete(path):
    path.unlink()


def _damage(path):
    path.write_bytes(b"\x00 not json")


def _shorten(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _tear(path):
    path.write_bytes(path.read_bytes() + b"7.5,")


def _add_a_row(path):
    path.write_bytes(path.read_bytes() + b"7.5,9,9\n")


def _save_in_a_spreadsheet(path):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "kept"),
    [
        (_delete, 0), (_shorten, 1), (_tear, 0), (_add_a_row, 0), (_save_in_a_spreadsheet, 1), (_empty, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_open", [False, True])
def test_harm_to_the_metrics(run, harm, kept, is_open):
    """What somebody did to the file between two deliveries, or while the courier had it open."""
    fill(run)
    run.deliver()
    path = run.dir / "metrics.csv"
    if is_open:

        class TheCourier(Courier):
            harmed = False

            def _attempt(self):
                if self.logger is None and not self.harmed:
                    self._open()
                    self.harmed = True
                    harm(path)
                super()._attempt()
    else:
        TheCourier = Courier
        harm(path)
    harmed = path.read_bytes() if path.exists() else b""
    run.log({"a": 5.5} if is_open else {"a": 5.5, "newer": 1})
    logger = CSVLogger()
    run.deliver(lambda: logger, courier=TheCourier, grace_period=30)  # one logger, as a courier in a thread has
    run.check()
    aside = list(run.dir.glob("metrics.*.csv"))
    assert len(aside) == kept
    if kept and not is_open:
        assert aside[0].read_bytes() == harmed


@pytest.mark.parametrize("harm", [_delete, _damage, _shorten])
def test_harm_to_the_ledger(run, harm):
    fill(run)
    run.deliver()
    before = (run.dir / "metrics.csv").read_bytes()
    harm(run.dir / ".metrics.csv.delivered")
    run.log({"a": 5.5})
    run.deliver()
    run.check()
    assert [path.read_bytes() for path in run.dir.glob("metrics.*.csv")] == [before]


def test_rows_that_were_there_before_the_run_stay(run, tmp_path):
    directory = tmp_path / "logs" / "exp" / "version_3"
    directory.mkdir(parents=True)
    (directory / "metrics.csv").write_text("a,step\n9.5,0\n8.5,1\n")

    def logger():
        return CSVLogger(tmp_path / "logs", "exp", 3)

    run.log({"a": 0.5})
    run.deliver(logger)
    run.log({"a": 1.5, "b": 1})
    with pytest.raises(Killed):
        run.deliver(logger, type("C", (DyingCourier,), {"_acknowledged": _die}))
    run.log({"a": 2.5})
    run.deliver(logger)
    run.rows[:0] = [{"a": "9.5", "step": "0"}, {"a": "8.5", "step": "1"}]
    run.check(directory / "metrics.csv")
    assert not list(directory.glob("metrics.*.csv"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_a_column_is_added_loses_no_row_of_others(run, tmp_path, monkeypatch, when):
    path = tmp_path / "logs" / "exp" / "version_3" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("a,step\n9.5,0\n8.5,1\n")
    replace = os.replace

    def lethal(source, target):
        if when == "after" or target != path:
            replace(source, target)
        if target == path:
            raise Killed

    def logger():
        return CSVLogger(tmp_path / "logs", "exp", 3)

    run.log({"a": 0.5})
    run.deliver(logger)
    run.log({"a": 1.5, "b": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lethal)
        with pytest.raises(Killed):
            run.deliver(logger, DyingCourier)
    run.log({"a": 2.5})
    run.deliver(logger)
    assert column(path, "a") == ["9.5", "8.5", "0.5", "1.5", "2.5"]
    assert column(path, "b") == ["", "", "", "1", ""]


def _die(*args):
    raise Killed


def test_lost_ledger_beside_rows_of_somebody_else(run, tmp_path):
    directory = tmp_path / "logs" / "exp" / "mine"
    for _ in range(2):
        run.log({"a": 0.5})
        run.deliver(lambda: CSVLogger(tmp_path / "logs", "exp", "mine"))
        (directory / ".metrics.csv.delivered").unlink()
    run.check(directory / "metrics.csv")
    assert not list(directory.glob("metrics.*.csv"))


def test_resumed_run_is_continued(run):
    for number in range(3):
        run.add(Start(2.0, run.info, resumed=bool(number)))
        run.log({"a": float(number)})
        run.add(Finish(3.0, "success"))
        run.deliver()
        run.check()


def test_lost_position_doubles_nothing(run):
    fill(run)
    run.deliver()
    (run.dir / "csv.position.json").unlink()
    run.log({"a": 5.5})
    run.deliver()
    run.check()


def test_delivery_to_an_object_store(run, bucket):
    def logger():
        return CSVLogger("memory://bucket/logs", "exp")

    path = f"/bucket/logs/exp/{run.info.id}/metrics.csv"
    for step in range(3):
        run.log({"a": float(step), f"b{step}": 1})
        run.deliver(logger)
    run.log({"a": 3.5})
    with pytest.raises(Killed):
        run.deliver(logger, type("C", (DyingCourier,), {"_acknowledged": _die}))
    run.log({"a": 4.5})
    run.deliver(logger)
    with bucket.open(path, "rt", newline="") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    assert rows == run.rows


def measure(run, line, values):
    """Add system metrics, as the process that measures does, to a journal and to what is expected."""
    run.add(Metrics(1000.5 + line, None, {f"system/{name}": value for name, value in values.items()}))
    return {"time": str(1000.5 + line)} | {f"system/{name}": str(value) for name, value in values.items()}


def test_system_metrics_have_a_separate_file(run):
    expected = [measure(run, 1, {"cpu_percent": 12.5})]
    run.log({"loss": 0.5})
    expected.append(measure(run, 2, {"cpu_percent": 99, "gpu0/power_watts": 700.0}))
    run.deliver(lambda: CSVLogger(prefix="mine"))
    run.rows = [{"time": "100.5", "step": "0", "mine-loss": "0.5"}]
    run.check()
    path = run.dir / "system_metrics.csv"
    assert columns(path) == ["time", "system/cpu_percent", "system/gpu0/power_watts"]
    with path.open("ab") as file:
        file.write(b"1003.5,5")  # a crash tore the row
    expected.append(measure(run, 3, {"cpu_percent": 50}))
    (run.dir / "csv.position.json").unlink()  # all is delivered again
    run.deliver(lambda: CSVLogger(prefix="mine"))
    run.check()
    rows = [{name: value for name, value in row.items() if value} for row in read(path)]
    assert [row for row in rows if row != {"time": "1003.5", "system/cpu_percent": "5"}] == expected
    logger = CSVLogger(prefix="mine")
    logger.attach(run.info)
    found = logger.read_metrics(["loss", "system/cpu_percent", "system/gpu0/power_watts"])
    assert found["loss"] == [(0, 0.5)]
    assert found["system/gpu0/power_watts"] == [(None, 700.0)]


def test_a_batch_is_accepted_without_writing(run, monkeypatch):
    """A batch becomes one write: what makes delivery fast."""
    for step in range(1000):
        run.log({"a": float(step)})
    writes = []
    write = CsvFile._write
    monkeypatch.setattr(CsvFile, "_write", lambda self, data: (writes.append(data), write(self, data)))
    run.deliver()
    run.check()
    assert len(writes) == 1


def test_redelivered_rows_are_recognised(run):
    logger = CSVLogger()
    logger.attach(run.info)
    for _ in range(2):
        for line in (1, 2):
            with logger.at(LogContext(1.0, line)):
                logger.log_metrics({"a": line}, line)
    logger.close()
    assert column(run.dir / "metrics.csv", "a") == ["1", "2"]
    assert ExperimentWriter(str(run.dir), run.info, is_alone=True).delivered.lines == 3

"""Checkpoints of ModelCheckpoint reach the loggers completely, even if its rotation deletes the files at once."""

import hashlib
import os
import shutil
import threading
import time
import types
import weakref
from pathlib import Path

import pytest
from recorded import events_in
from servers.file_logger import FileLogger, calls
from servers.lightning_model import Model, data, trainer
from waiting import A_WHILE

import rankzero
from rankzero.events.structs import Checkpoint
from rankzero.run import snapshots

pytest.importorskip("lightning")
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")

SHM = Path("/dev/shm")


def digest(path):
    """Return what tells contents apart, of a file or of all files of a directory."""
    path = Path(path)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    names = [each.name.encode() * path.is_dir() for each in files]
    return hashlib.sha256(b"".join(names + [each.read_bytes() for each in files])).hexdigest()


class Noting(TorchCheckpointIO):
    """Notes what was saved: Lightning's own writer, which replaces a file as a whole.

    Given a run, it waits until the run has copied what was saved before.
    """

    def __init__(self, run=None):
        self.saved = []
        self._run = run

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        assert self._run is None or self._run.flush(A_WHILE)
        self.write(checkpoint, path)
        self.saved.append((str(path), digest(path)))

    def write(self, checkpoint, path):
        super().save_checkpoint(checkpoint, path)


class InPlace(Noting):
    """Writes into the file that is there."""

    def write(self, checkpoint, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        torch.save(checkpoint, path)


class Shards(Noting):
    """Writes a directory of files, in place, as FSDP and DeepSpeed do."""

    def write(self, checkpoint, path):
        os.makedirs(os.path.join(path, "deep"), exist_ok=True)
        torch.save(checkpoint, os.path.join(path, "shard-0"))
        torch.save(checkpoint["state_dict"], os.path.join(path, "deep", "shard-1"))

    def remove_checkpoint(self, path):
        shutil.rmtree(path, ignore_errors=True)


class Slow(Noting):
    def write(self, checkpoint, path):
        time.sleep(0.1)
        super().write(checkpoint, path)


@pytest.fixture
def late(tmp_path):
    """A kind of logger that takes no checkpoint before it is told to, and then notes what is in each."""

    class Late(FileLogger):
        def log_checkpoint(self, path, **details):
            assert Late.may_take.wait(A_WHILE)
            Late.taken.append(digest(path))
            super().log_checkpoint(path, **details)

    Late.may_take, Late.taken = threading.Event(), []
    return Late


def fit(run, tmp_path, io, *callbacks, epochs=4, batches=2, **options):
    for index, callback in enumerate(callbacks):
        callback.dirpath = callback.dirpath or str(tmp_path / f"saved-{index}")
    fitted = trainer(run, epochs=epochs, callbacks=list(callbacks), plugins=[io], **options)
    fitted.fit(Model(), data(batches), data())
    return fitted


def keeper(**options):
    return ModelCheckpoint(**{"filename": "{epoch}-{step}", "monitor": "val/score", "mode": "max", **options})


def recorded(run):
    found = events_in(run.dir, Checkpoint)
    return [(event.source, digest(run.dir / event.path)) for event in found]


@pytest.mark.parametrize(
    "keepers",
    [
        [{"save_top_k": 1}],
        [{"save_top_k": 2, "save_last": True}],
        [{"save_top_k": 3, "save_last": "link"}],
        [{"save_top_k": -1}],
        [{"monitor": None, "save_last": True}],
        [{"monitor": "train/loss", "mode": "min", "every_n_train_steps": 1, "save_top_k": 1}],
        [{"save_top_k": 1}, {"monitor": "train/loss", "every_n_train_steps": 3, "save_last": True}],
        [{"filename": "same", "enable_version_counter": False, "save_top_k": 1}],
    ],
    ids=str,
)
def test_every_checkpoint_is_delivered_as_it_was_saved(tmp_path, late, keepers):
    run = rankzero.start([late(tmp_path / "tracker")], dir=tmp_path / "runs", delivery="thread")
    io = Noting()
    callbacks = [keeper(**options) for options in keepers]
    fit(run, tmp_path, io, *callbacks)
    assert len(io.saved) >= 2
    rotates = keepers[0].get("save_top_k") != -1 and "filename" not in keepers[0]
    assert any(not os.path.exists(path) for path, _ in io.saved) == rotates
    late.may_take.set()
    run.finish()
    assert late.taken == [content for _, content in io.saved]
    aliases = [call["aliases"] for call in calls(tmp_path / "tracker", "log_checkpoint")]
    assert all("latest" in each for each in aliases)
    assert any("best" in each for each in aliases)


@pytest.mark.parametrize("io", [InPlace, Shards])
@pytest.mark.parametrize(
    ("options", "saves"),
    [
        ({"save_top_k": 1}, 3),
        ({"save_top_k": 1, "save_last": True}, 6),
        ({"save_top_k": 1, "monitor": None, "filename": "same", "enable_version_counter": False}, 4),
    ],
    ids=str,
)
def test_writers_of_other_kinds(tmp_path, io, options, saves):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        writer = io(run)
        fit(run, tmp_path, writer, keeper(**options))
    assert recorded(run) == writer.saved
    assert len(writer.saved) == saves


def test_a_last_checkpoint_is_linked_once_it_is_known_to_be_replaced_as_a_whole(tmp_path):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        fit(run, tmp_path, Noting(), ModelCheckpoint(save_top_k=0, save_last=True, every_n_train_steps=1), epochs=2)
    assert os.stat(tmp_path / "saved-0" / "last.ckpt").st_nlink == 2


# Another file system

other_file_system = pytest.mark.skipif(not SHM.is_dir(), reason="there is no /dev/shm")


@pytest.fixture
def elsewhere(tmp_path):
    directory = SHM / f"rankzero-{os.getpid()}-{tmp_path.name}"
    directory.mkdir()
    if os.stat(directory).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("it is the same file system")
    yield directory
    shutil.rmtree(directory)


@other_file_system
@pytest.mark.parametrize("io", [Noting, Shards])
def test_from_another_file_system_a_thread_copies(tmp_path, elsewhere, monkeypatch, io):
    may_copy = threading.Event()
    copy = shutil.copyfileobj

    def copy_later(*args):
        assert threading.current_thread() is not threading.main_thread()
        assert may_copy.wait(A_WHILE)
        copy(*args)

    monkeypatch.setattr(shutil, "copyfileobj", copy_later)
    monkeypatch.setattr(snapshots, "_SMALL", -1)
    run = rankzero.start(dir=tmp_path / "runs", delivery="off")
    writer = io()
    fit(run, tmp_path, writer, keeper(dirpath=elsewhere, save_top_k=1))
    assert recorded(run) == []
    assert [os.path.exists(path) for path, _ in writer.saved] == [False, False, True]
    assert not run.flush(timeout=0.1)
    may_copy.set()
    assert run.flush()
    assert recorded(run) == writer.saved
    run.finish()


@other_file_system
def test_the_order_is_kept_where_some_are_linked_and_some_are_copied(tmp_path, elsewhere, monkeypatch):
    copy = shutil.copyfileobj
    monkeypatch.setattr(shutil, "copyfileobj", lambda *args: (time.sleep(0.1), copy(*args)))
    monkeypatch.setattr(snapshots, "_SMALL", -1)
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        io = Noting()
        fit(run, tmp_path, io, keeper(dirpath=elsewhere, save_top_k=-1), keeper(save_top_k=-1, every_n_epochs=2))
    assert recorded(run) == io.saved
    assert len(io.saved) == 6


@other_file_system
def test_a_checkpoint_overwritten_before_its_copy_is_left_out(tmp_path, elsewhere, monkeypatch, caplog):
    path = elsewhere / "last.ckpt"
    may_copy = threading.Event()
    copy = shutil.copyfileobj
    monkeypatch.setattr(shutil, "copyfileobj", lambda *args: (may_copy.wait(A_WHILE), copy(*args)))
    monkeypatch.setattr(snapshots, "_SMALL", -1)
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        for content in ("older", "newer"):
            path.write_text(content)
            run.after_save_checkpoint(callback(path))
        may_copy.set()
    assert [content for _, content in recorded(run)] == [digest(path)]
    assert "last.ckpt was overwritten before it was copied" in caplog.text


# Written by another thread


@pytest.mark.parametrize("options", [{"save_top_k": -1}, {"save_top_k": 1, "save_last": True}], ids=str)
def test_asynchronous_checkpoints_are_taken_when_they_are_there(tmp_path, options):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        io = Slow()
        fit(run, tmp_path, AsyncCheckpointIO(io), keeper(**options))
    contents = [content for _, content in recorded(run)]
    assert contents
    assert contents[-1] == io.saved[-1][1]
    assert set(contents) <= {content for _, content in io.saved}
    if "save_last" not in options:  # the newer of two that wait for the same name is what counts
        assert recorded(run) == io.saved


@pytest.mark.parametrize(("log_model", "save_top_k"), [(True, 2), ("all", -1)])
def test_asynchronous_checkpoints_and_a_logger_without_a_run(tmp_path, log_model, save_top_k):
    logger = FileLogger(tmp_path / "tracker")
    logger.log_model = log_model
    io = Slow()
    fit(logger, tmp_path, AsyncCheckpointIO(io), keeper(save_top_k=save_top_k))
    logged = [call["path"] for call in calls(tmp_path / "tracker", "log_checkpoint")]
    assert logged == [path for path, _ in io.saved][0 if log_model == "all" else -2 :]
    assert len(io.saved) > 2


def test_an_asynchronous_checkpoint_of_an_exception_is_waited_for(tmp_path):
    logger = FileLogger(tmp_path / "tracker")
    logger.log_model = "all"
    io = Slow()
    with pytest.raises(IndexError):  # the fifth epoch has no score
        fit(logger, tmp_path, AsyncCheckpointIO(io), keeper(save_on_exception=True), epochs=5)
    logged = calls(tmp_path / "tracker", "log_checkpoint", "finalize")
    assert [call.get("path") for call in logged] == [*(path for path, _ in io.saved), None]
    assert "epoch=4" in io.saved[-1][0]


# Exceptions


def test_a_checkpoint_of_an_exception(tmp_path):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        io = Noting()
        with pytest.raises(IndexError):  # the fifth epoch has no score
            fit(run, tmp_path, io, keeper(save_on_exception=True, save_top_k=1), epochs=5)
    assert recorded(run) == io.saved
    assert "epoch=4" in io.saved[-1][0]


# The callback


def callback(path, **fields):
    return types.SimpleNamespace(_last_checkpoint_saved=str(path), last_model_path=str(path), **fields)


def test_a_callback_that_is_gone_when_the_logger_looks(tmp_path):
    gone, stays = keeper(dirpath=tmp_path), keeper(dirpath=tmp_path)
    stays._last_checkpoint_saved = stays.last_model_path = str(tmp_path / "last.ckpt")
    Path(stays.last_model_path).touch()
    logger = FileLogger(tmp_path / "tracker")
    logger.log_model = True
    logger.after_save_checkpoint(weakref.proxy(gone))
    del gone
    logger.after_save_checkpoint(weakref.proxy(stays))
    logger.finalize("success")
    assert [call["path"] for call in calls(tmp_path / "tracker", "log_checkpoint")] == [stays.last_model_path]


def test_a_callback_that_keeps_many_is_asked_only_for_the_newest(tmp_path, monkeypatch):
    many = {str(tmp_path / f"{index}.ckpt"): torch.tensor(0.0) for index in range(10_000)}
    newest = tmp_path / "9999.ckpt"
    newest.write_text("content")
    looked_at = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: (looked_at.append(str(path)), stat(path, **options))[1])
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        run.after_save_checkpoint(callback(newest, best_k_models=many, best_model_path=str(tmp_path / "0.ckpt")))
    assert [source for source, _ in recorded(run)] == [str(newest)]
    assert {path for path in map(Path, looked_at) if path.suffix == ".ckpt" and path.parent == tmp_path} == {newest}


@pytest.mark.parametrize("times", [(50, 50), (50, 40)], ids=["at the same moment", "with an older time"])
def test_a_file_that_was_replaced(tmp_path, times):
    path = tmp_path / "last.ckpt"
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        for index, modified in enumerate(times):
            new = tmp_path / "new"
            new.write_text(f"content {index}")
            os.utime(new, (modified, modified))
            os.replace(new, path)
            run.after_save_checkpoint(types.SimpleNamespace(last_model_path=str(path)))
    assert len(recorded(run)) == 2


def test_a_checkpoint_in_an_object_store_is_left_out_with_a_warning(tmp_path):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        saving = keeper(dirpath="memory://saved", save_top_k=-1)
        with pytest.warns(UserWarning, match="memory:// are on no disk of this machine"):
            trainer(run, epochs=2, callbacks=[saving]).fit(Model(), data(), data())
    assert recorded(run) == []

"""Checkpoints: paths, aliases, and the deletion of superseded ones only."""

import os
from pathlib import Path

import numpy as np
import pytest
from plugins.neptune.delivered import rejected
from waiting import A_WHILE

import rankzero
from rankzero_neptune.checkpoints import Details, superseded_by

TOP_2 = {"monitor": "loss", "mode": "min", "save_top_k": 2, "save_last": True}


class Checkpoint:
    """Saves and deletes files like Lightning's ModelCheckpoint with ``save_top_k`` and ``save_last``."""

    monitor, mode, save_last, save_weights_only = "loss", "min", True, False
    _every_n_train_steps = 0

    def __init__(self, directory, save_top_k=2):
        self.directory = directory
        self.save_top_k = save_top_k
        self.best_k_models = {}
        self.best_model_path = self.last_model_path = ""
        self.best_model_score = self.current_score = None
        self._saved = 0

    def save(self, epoch, score, log):
        """Save and log a checkpoint, and delete superseded ones, in Lightning's order."""
        self.current_score = score
        new = self.directory / f"epoch={epoch}.ckpt"
        worst = max(self.best_k_models, key=self.best_k_models.get, default=None)
        is_kept = len(self.best_k_models) < self.save_top_k or score < self.best_k_models[worst]
        superseded = None
        if is_kept:
            self._write(new, epoch)
            if len(self.best_k_models) == self.save_top_k:
                superseded = self.directory / worst
                del self.best_k_models[worst]
            self.best_k_models[str(new)] = score
            self.best_model_path = min(self.best_k_models, key=self.best_k_models.get)
            self.best_model_score = self.best_k_models[self.best_model_path]
            log(self)
        last = self.directory / "last.ckpt"
        self._write(last, epoch)
        self.last_model_path = str(last)
        log(self)
        if superseded is not None:
            superseded.unlink()

    def _write(self, path, epoch):
        path.unlink(missing_ok=True)
        path.write_bytes(f"weights of {epoch}".encode())
        self._saved += 1
        os.utime(path, (self._saved, self._saved + 1_700_000_000))


def held(run):
    return {path.rpartition("/")[2] for path in run.logged if path.startswith("training/model/checkpoints/")}


SCORES = [0.9, 0.5, 0.7, 0.4, 0.8, 0.45]


def check_top_2(run):
    assert held(run) == {"epoch=3.ckpt", "epoch=5.ckpt", "last.ckpt"}
    assert run.file("training/model/checkpoints/epoch=3.ckpt") == b"weights of 3"
    assert run.file("training/model/checkpoints/last.ckpt") == b"weights of 5"
    assert run.value("training/model/aliases/best") == "epoch=3.ckpt"
    assert run.value("training/model/aliases/latest") == "last.ckpt"
    assert run.value("training/model/best_model_path") == "epoch=3.ckpt"
    assert run.value("training/model/best_model_score") == 0.4
    details = {path for path in run.logged if path.startswith("training/model/checkpoint_details/")}
    assert {path.rpartition("/")[2] for path in details} == held(run)


def test_a_model_checkpoint_in_direct_use(server, make_logger, tmp_path):
    logger, callback = make_logger(), Checkpoint(tmp_path)
    for epoch, score in enumerate(SCORES):
        callback.save(epoch, score, logger.after_save_checkpoint)
    logger.close()
    check_top_2(server.run("RUN-1"))


@pytest.mark.parametrize("restarts", [False, True])
def test_a_model_checkpoint_under_a_run(server, here, tmp_path, restarts):
    callback = Checkpoint(tmp_path)
    run = rankzero.start("neptune", dir=tmp_path / "runs", delivery="thread")
    for epoch, score in enumerate(SCORES):
        callback.save(epoch, score, run.after_save_checkpoint)
        if restarts:
            run.finish(timeout=A_WHILE)
            run = rankzero.start("neptune", dir=tmp_path / "runs", delivery="thread", run_id=run.id, resume="must")
    run.finish(timeout=A_WHILE)
    assert rejected(run.dir) == []
    check_top_2(server.run(run.id))


def test_checkpoints_logged_by_the_user_are_never_deleted(server, attached, tmp_path):
    for epoch in range(4):
        path = tmp_path / f"mine-{epoch}.ckpt"
        path.write_bytes(b"weights %d" % epoch)
        attached.log_checkpoint(path, score=float(epoch), step=epoch, aliases=["latest"])
    attached.flush()
    assert held(server.run(attached.run_info.id)) == {f"mine-{epoch}.ckpt" for epoch in range(4)}


@pytest.mark.parametrize("reopened", [False, True])
def test_a_checkpoint_is_read_back_by_its_alias(server, make_logger, attached, run_info, tmp_path, reopened):
    for name in ("a", "b"):
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(name.encode())
        attached.log_checkpoint(path, score=0.5, step=3, aliases=["latest", "best"] if name == "a" else ["latest"])
    logger = attached
    if reopened:
        attached.close()
        logger = make_logger()
        logger.attach(run_info)
    best, latest = (logger.download_checkpoint(alias, tmp_path / "down") for alias in ("best", "latest"))
    assert best == str(tmp_path / "down" / "a.ckpt")
    assert (Path(best).read_text(), Path(latest).read_text()) == ("a", "b")
    with pytest.raises(LookupError, match="no checkpoint of the run has the alias 'gone'; there are: best, latest"):
        logger.download_checkpoint("gone")


def test_a_directory(server, make_logger, tmp_path):
    shards = tmp_path / "sharded.ckpt"
    (shards / "rank").mkdir(parents=True)
    files = {"meta.pt": b"meta", "rank/0.bin": b"zero", "rank/0.txt": b"text"}
    for name, content in files.items():
        (shards / name).write_bytes(content)
    logger = make_logger()
    logger.log_checkpoint(shards, aliases=["best"])
    down = logger.download_checkpoint("best", tmp_path / "down")
    found = {path.relative_to(down).as_posix(): path.read_bytes() for path in Path(down).rglob("*") if path.is_file()}
    assert found == files
    assert down == str(tmp_path / "down" / "sharded.ckpt")


def details(score, aliases=(), **metadata):
    return Details("x.ckpt", score=score, aliases=list(aliases), metadata={**TOP_2, **metadata})


def test_only_checkpoints_below_the_best_are_superseded():
    known = {"a": details(0.1), "b": details(0.3), "c": details(0.2)}
    assert superseded_by("c", known) == ["b"]
    assert superseded_by("c", {**known, "b": details(0.3, ["latest"])}) == []
    assert superseded_by("c", {**known, "b": details(0.3, save_top_k=3)}) == []
    assert superseded_by("c", {**known, "b": Details("x.ckpt", score=0.3)}) == []
    assert superseded_by("c", {name: details(each.score, mode="max") for name, each in known.items()}) == ["a"]


@pytest.mark.parametrize("most", [-1, 0, None, "2"])
def test_nothing_is_superseded_when_all_are_kept(most):
    known = {name: details(score, save_top_k=most) for name, score in (("a", 0.1), ("b", 0.2), ("c", 0.3))}
    assert superseded_by("c", known) == []


def test_last_with_the_score_of_another_does_not_count():
    known = {"a": details(0.3), "b": details(0.2), "last": details(0.2, ["latest"])}
    assert superseded_by("last", known) == []


def test_without_a_monitor_the_newest_stays():
    known = {name: details(None, ["best", "latest"] * (name == "b"), monitor=None, save_top_k=1) for name in "ab"}
    assert superseded_by("b", known) == ["a"]


def test_scores_that_are_not_numbers(server, attached, tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"a")
    attached.log_checkpoint(path, score=float("nan"), aliases=["best"], metadata={"worst": np.inf})
    attached.flush()
    assert "training/model/best_model_score" not in server.run(attached.run_info.id).logged
    assert attached.download_checkpoint("best", tmp_path / "down")


@pytest.mark.parametrize("direct", [True, False])
def test_files_with_the_same_stem_are_all_kept(server, make_logger, run_info, tmp_path, direct):
    logger = make_logger()
    if not direct:
        logger.attach(run_info)
    for name in ("model.pt", "model.onnx"):
        (tmp_path / name).write_bytes(name.encode())
        logger.log_checkpoint(tmp_path / name, aliases=["latest", ""])
    logger.close()
    run = server.run(logger.version)
    begin = "training/model/checkpoints"
    assert {name: run.file(f"{begin}/{name}") for name in held(run)} == {
        "model.pt": b"model.pt", "model.onnx": b"model.onnx"
    }  # fmt: skip
    assert run.value("training/model/aliases/(no name)") == "model.onnx"
    assert Path(logger.download_checkpoint("")).read_bytes() == b"model.onnx"


def test_files_with_the_same_name_in_different_directories_are_all_kept(server, make_logger, tmp_path):
    logger = make_logger()
    for content in (b"1", b"2"):
        for place in "xy":
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / place / "last.ckpt").write_bytes(place.encode() + content)
            logger.log_checkpoint(tmp_path / place / "last.ckpt", aliases=["latest"])
    logger.close()
    run = server.run(logger.version)
    found = {run.file(f"training/model/checkpoints/{name}") for name in held(run)}
    assert found == {b"x2", b"y2"}
    assert Path(logger.download_checkpoint("latest")).read_bytes() == b"y2"


def test_the_best_is_not_overwritten_by_a_checkpoint_with_its_name(server, attached, tmp_path):
    """Under a Run the logger gets a snapshot in a separate directory."""
    for place, aliases in (("a", ["best", "latest"]), ("b", ["latest"]), ("b", ["latest"])):
        (tmp_path / place).mkdir(exist_ok=True)
        path = tmp_path / place / "score=0.25.ckpt"
        path.write_bytes(place.encode())
        attached.log_checkpoint(path, score=0.25, aliases=aliases)
    best, latest = (attached.download_checkpoint(alias, tmp_path / alias) for alias in ("best", "latest"))
    assert (Path(best).read_bytes(), Path(latest).read_bytes()) == (b"a", b"b")
    assert held(server.run(attached.run_info.id)) == {"score=0.25.ckpt", "score=0.25_2.ckpt"}


@pytest.mark.parametrize("fact", ["dirpath", "every_n_epochs"])
def test_callbacks_with_equal_settings_delete_nothing_of_each_other(fact):
    known = {name: details(score, **{fact: name}) for name, score in (("a", 0.1), ("b", 0.3), ("c", 0.2))}
    assert superseded_by("c", known) == []

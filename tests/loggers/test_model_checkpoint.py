"""Finding the checkpoints that a ModelCheckpoint has saved."""

import time
from types import SimpleNamespace

import pytest
from waiting import SOON

from rankzero.loggers.model_checkpoint import SavedCheckpoints


def callback(path, steps=20):
    return SimpleNamespace(
        _last_checkpoint_saved=str(path),
        _last_global_step_saved=steps,
        best_k_models={str(path): 0.5},
        best_model_path=str(path),
        last_model_path="",
    )


def test_a_checkpoint_that_never_comes_is_awaited_once(tmp_path):
    saved = SavedCheckpoints()
    assert saved.after_save(callback(tmp_path / "never.ckpt")) == []
    with pytest.warns(UserWarning, match=r"never\.ckpt, which does not exist after 0 s: not logged"):
        assert saved.late(0.1) == []
    began = time.monotonic()
    assert saved.late(30.0) == []
    assert time.monotonic() - began < SOON


def test_a_checkpoint_that_its_callback_deleted_unseen_is_not_awaited(tmp_path, recwarn):
    first, second = tmp_path / "epoch=0.ckpt", tmp_path / "epoch=1.ckpt"
    keeper, saved = callback(first), SavedCheckpoints()
    keeper.save_top_k = 1
    assert saved.after_save(keeper) == []
    vars(keeper).update(vars(callback(second)))  # a thread writes the first, and the callback deletes it at once
    assert saved.after_save(keeper) == []
    second.write_bytes(b"2")
    began = time.monotonic()
    assert [each.path for each in saved.late(30.0)] == [str(second)]
    assert time.monotonic() - began < SOON
    assert not recwarn.list


def test_a_checkpoint_that_its_callback_keeps_no_longer_is_logged_if_it_is_there(tmp_path):
    first, second = tmp_path / "epoch=0.ckpt", tmp_path / "epoch=1.ckpt"
    keeper, saved = callback(first), SavedCheckpoints()
    keeper.save_top_k = 1
    assert saved.after_save(keeper) == []
    vars(keeper).update(vars(callback(second)))  # before a thread has written the first
    assert saved.after_save(keeper) == []
    for path in (first, second):
        path.write_bytes(b"x")
    assert [each.path for each in saved.late(30.0)] == [str(first), str(second)]


@pytest.mark.parametrize(("steps", "step"), [(20, 19), (0, None), (None, None)])
def test_the_step_is_that_of_the_newest_metrics(tmp_path, steps, step):
    path = tmp_path / "epoch=0.ckpt"
    path.write_bytes(b"x")
    (found,) = SavedCheckpoints().after_save(callback(path, steps))
    assert (found.step, found.score, found.aliases) == (step, 0.5, ("best", "latest"))


def test_a_late_directory_is_logged_when_it_no_longer_changes(tmp_path):
    path = tmp_path / "sharded"
    saved = SavedCheckpoints()
    assert saved.after_save(callback(path)) == []
    path.mkdir()
    for size in (1, 2):
        (path / "shard").write_bytes(b"x" * size)
        assert saved.late() == []
    assert [found.path for found in saved.late()] == [str(path)]
    assert saved.late() == []


def test_a_save_that_is_announced_twice_is_not_awaited(tmp_path):
    path, saved = tmp_path / "last.ckpt", SavedCheckpoints()
    path.write_bytes(b"1")
    assert [each.path for each in saved.after_save(callback(path))] == [str(path)]
    assert saved.after_save(callback(path)) == []
    assert saved.late(30.0) == []  # it would wait, and warn
    assert saved.after_save(callback(path, steps=40)) == []  # a thread of the framework has yet to write it
    path.write_bytes(b"22")
    assert [each.step for each in saved.late(30.0)] == [39]
